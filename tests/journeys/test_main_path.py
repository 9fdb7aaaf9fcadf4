"""From `log_model` to production, as its people live through it."""

from datetime import datetime

import httpx

from tests.journeys.client import until
from tests.journeys.product import Product

DIGEST = "sha256:"
POLICY = """\
version: 1
environments:
  staging:
    enter: automatic
    gates: [{gate: schema_compatible}]
    approvals: {required: 0}
    rollout:
      steps: [{weight: 100, hold_seconds: 0, analysis: false}]
  production:
    enter: on_request
    after: staging
    gates: [{gate: schema_compatible}]
    approvals: {required: 1}
    rollout:
      steps: [{weight: 100, hold_seconds: 0, analysis: false}]
"""


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def test_a_model_reaches_production(product: Product, model: str) -> None:
    number = product.log(model)

    version = product.version(model, number)
    assert version["registered_by"] == "ada"
    assert seconds_between(version["registered_at"], version["seen_at"]) < 5

    product.policy(model, POLICY)
    build = product.build(model, "succeeded")
    assert build["digest"].startswith(DIGEST)
    assert build["lock"].count("--hash=sha256:") > 10
    assert build["probe"]["ok"] is True
    assert product.version(model, number)["digest"] == build["digest"]

    staging = product.promotion(model, "staging", "approved")
    assert staging["requester"] is None
    assert staging["approvals_required"] == 0
    product.rollout(staging, "succeeded")
    assert product.answering_version(model, "staging") == "1"

    product.people["ben"].post("promotions", model=model, version=number, environment="production")
    waiting = product.promotion(model, "production", "waiting")
    path = f"promotions/{waiting['id']}/approve"
    own = product.people["ben"].http.post(path, json={"words": "mine"})
    assert (own.status_code, own.json()["code"]) == (409, "requester_may_not_decide")
    approved = product.people["grace"].post(path, words="Looks right", digest=waiting["digest"])
    assert approved["status"] == "approved"
    assert [a["user"] for a in approved["approvals"]] == ["grace"]
    product.rollout(approved, "succeeded")

    answer = product.ask(model)
    assert answer.status_code == 200
    assert answer.headers["x-model-version"] == "1"
    assert answer.json()["outputs"][0]["data"] == [1]
    scored = httpx.post(
        f"{product.stack.gateway_url}/production/endpoints/{model}/invocations",
        json={"dataframe_split": {"columns": ["distance", "hour"], "data": [[120.0, 7.0]]}},
    )
    assert scored.status_code == 200
    assert scored.headers["x-model-version"] == "1"
    assert scored.json()["predictions"] == [0]

    served = product.reader.get(f"models/{model}/served")["served"]
    assert [(s["version"], s["percent"], s["digest"]) for s in served] == [
        (1, 100.0, build["digest"])
    ]
    until("the alias", lambda: alias(product, model) == 1 or None, 20)


def alias(product: Product, model: str) -> int | None:
    found = product.reader.get(f"models/{model}/aliases")
    seen: dict[str, int | None] = {a["name"]: a["seen"] for a in found}
    return seen.get("production")
