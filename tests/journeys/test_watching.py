"""Drift, labels and a search, with `kill -9` of those who work on them in between."""

from functools import partial

from tests.journeys import watched
from tests.journeys.client import Json, checked, until
from tests.journeys.product import Product
from tests.journeys.watched import LABELLED, ROWS


def ended(product: Product, search: Json) -> Json | None:
    found: Json = product.reader.get(f"searches/{search['id']}")
    return found if found["state"] in ("done", "failed") else None


def test_what_is_watched_is_told_once(product: Product, model: str) -> None:
    ben = product.people["ben"]
    endpoint = watched.served(product, model)

    rows = watched.table(900)
    items = watched.ask(product, model, rows)
    killed = {name: product.kill9(name) for name in ("collector", "analyst")}
    sent = checked(ben.http.post("feedback", json=items))
    again = checked(ben.http.post("feedback", json=items))
    for name, pid in killed.items():
        product.comes_back(name, pid)

    assert (sent["accepted"], again["accepted"], again["repeated"]) == (LABELLED, 0, LABELLED)
    watched.incident(product, model)
    product.comes_back("analyst", product.kill9("analyst"))
    quality = watched.labelled(product, endpoint)
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
