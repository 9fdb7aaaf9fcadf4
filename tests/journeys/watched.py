"""A model whose column moves away from what it learned, and whose labels come."""

import io
import uuid
from functools import partial

import httpx
import numpy as np
import pandas as pd

from tests.journeys import paths
from tests.journeys.client import Json, held, until
from tests.journeys.product import Product

POLICY = (
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


def served(product: Product, model: str) -> Json:
    """It serves a version in production, with a reference to be compared with; its endpoint."""
    number = paths.registered(product, model, policy=POLICY)
    product.people["ben"].upload(
        model, _parquet(table(0)), name="of-last-year", role="reference", label_column="late"
    )
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "succeeded")
    until("the baseline", partial(_frozen, product, model, number), 60)
    return product.endpoint(model)


def table(shift: float) -> pd.DataFrame:
    rng = np.random.default_rng(20)
    distance = rng.normal(1200 + shift, 300, ROWS)
    hour = rng.normal(12, 3, ROWS)
    return pd.DataFrame({"distance": distance, "hour": hour, "late": (hour > 12).astype(int)})


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


def incident(product: Product, model: str) -> Json:
    """The model's incident, once there is one."""
    return until(
        "an incident", lambda: product.reader.results("incidents", model=model) or None, 180
    )[0]


def labelled(product: Product, endpoint: Json) -> Json:
    """The endpoint's quality, once all labels count."""
    path = f"endpoints/{endpoint['id']}/quality"

    def look() -> Json | None:
        seen: Json = product.reader.get(path)
        return seen if seen["labels"] >= LABELLED else None

    return until("the labels", look, 120)


def _frozen(product: Product, model: str, number: int) -> bool | None:
    answer = product.reader.http.get(f"models/{model}/versions/{number}/baseline")
    return held(answer.status_code == 200 and answer.json()["state"] == "ready")


def _parquet(rows: pd.DataFrame) -> bytes:
    file = io.BytesIO()
    rows.to_parquet(file)
    return file.getvalue()
