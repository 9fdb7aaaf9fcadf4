"""Drift, labels and a search, with `kill -9` of those who work on them in between."""

import io
import uuid
from functools import partial

import httpx
import numpy as np
import pandas as pd

from tests.journeys import paths
from tests.journeys.client import Json, checked, held, until
from tests.journeys.product import Product

WATCHED = (
    paths.STRAIGHT
    + """\
    monitors:
      defaults: false
      rules:
        - {name: drift, metric: drift, window: 10 min, enough: 500}
"""
)
ROWS = 800  # a request
LABELLED = 500


def table(shift: float) -> pd.DataFrame:
    rng = np.random.default_rng(20)
    distance = rng.normal(1200 + shift, 300, ROWS)
    hour = rng.normal(12, 3, ROWS)
    return pd.DataFrame({"distance": distance, "hour": hour, "late": (hour > 12).astype(int)})


def parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()


def frozen(product: Product, model: str, number: int) -> bool | None:
    answer = product.reader.http.get(f"models/{model}/versions/{number}/baseline")
    return held(answer.status_code == 200 and answer.json()["state"] == "ready")


def ask(product: Product, model: str, rows: pd.DataFrame) -> list[Json]:
    """One request of many rows; gives the label of each of the first."""
    request_id = str(uuid.uuid4())
    answer = httpx.post(
        f"{product.stack.gateway_url}/production/endpoints/{model}/invocations",
        json={"dataframe_records": rows[["distance", "hour"]].to_dict("records")},
        headers={"x-request-id": request_id},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    labels = rows["late"].head(LABELLED).tolist()
    return [
        {"request_id": request_id, "row": place, "label": int(label)}
        for place, label in enumerate(labels)
    ]


def labelled(product: Product, endpoint: Json) -> Json | None:
    seen: Json = product.reader.get(f"endpoints/{endpoint['id']}/quality")
    return seen if seen["labels"] >= LABELLED else None


def ended(product: Product, search: Json) -> Json | None:
    found: Json = product.reader.get(f"searches/{search['id']}")
    return found if found["state"] in ("done", "failed") else None


def test_what_is_watched_is_told_once(product: Product, model: str) -> None:
    ben = product.people["ben"]
    number = paths.registered(product, model, policy=WATCHED)
    ben.upload(model, parquet(table(0)), name="of-last-year", role="reference", label_column="late")
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "succeeded")
    until("the baseline", partial(frozen, product, model, number), 60)
    endpoint = product.endpoint(model)

    rows = table(900)
    items = ask(product, model, rows)
    killed = {name: product.kill9(name) for name in ("collector", "analyst")}
    sent = checked(ben.http.post("feedback", json=items))
    again = checked(ben.http.post("feedback", json=items))
    for name, pid in killed.items():
        product.comes_back(name, pid)

    assert (sent["accepted"], again["accepted"], again["repeated"]) == (LABELLED, 0, LABELLED)
    until(
        "an incident",
        lambda: product.reader.results("incidents", model=model) or None,
        180,
    )
    product.comes_back("analyst", product.kill9("analyst"))
    quality = until("the labels", partial(labelled, product, endpoint), 120)
    search = checked(
        ben.http.post(
            f"endpoints/{endpoint['id']}/searches",
            json={"conditions": [{"column": "in.distance", "op": "gt", "value": 2100}]},
        )
    )
    product.comes_back("analyst", product.kill9("analyst"))
    found = until("what was searched for", partial(ended, product, search), 120)

    [incident] = product.reader.results("incidents", model=model)
    assert "distance" in incident["title"]
    mails = [
        mail
        for mail in product.people["dora"].results("mails")
        if model in mail["subject"] and mail["kind"].startswith("incident")
    ]
    told = [(mail["to"], mail["subject"]) for mail in mails]
    assert told
    assert len(told) == len(set(told)), "somebody was told twice"
    assert (quality["labels"], quality["predictions"]) == (LABELLED, ROWS)
    assert (found["state"], found["found"]) == ("done", int((rows["distance"] > 2100).sum()))
    assert min(row["in.distance"] for row in found["rows"]) > 2100
