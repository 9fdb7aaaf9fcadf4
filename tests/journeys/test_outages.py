"""Servers that the product stands on go away for a while; nothing is lost, nothing stays stuck."""

from tests.journeys import paths
from tests.journeys.client import Json, until
from tests.journeys.product import Product, Trickle


def test_mlflow_is_down_while_a_version_is_built(product: Product, model: str) -> None:
    with product.stopped("worker"):
        number = product.log(model)
        product.version(model, number)
        [build] = until("a build", lambda: product.builds(model) or None, 20)
        product.supervisor.stop("mlflow")
    try:

        def waits() -> Json | None:
            job = product.job(build["job"])
            assert job["status"] in ("queued", "running"), job["reason"]
            return job if job["reason"].startswith("Will be tried again") else None

        job = until("the job says that it waits", waits, 60)
        assert "The MLflow server does not answer" in job["reason"]
        refused = product.reader.http.get(f"{product.stack.web_url}/mlflow/health")
        assert (refused.status_code, refused.json()["error_code"]) == (503, "UNAVAILABLE")
    finally:
        product.supervisor.start("mlflow")

    ended = product.build(model, "succeeded")
    assert ended["id"] == build["id"]
    assert product.job(build["job"])["attempt"] > 1
    assert len(product.events(model, "build.succeeded")) == 1


def test_the_gateway_is_killed_under_traffic(product: Product, model: str) -> None:
    paths.serving(product, model)
    with Trickle(product, model) as calls:
        until("twenty answers", lambda: calls.versions.get("1", 0) >= 20 or None, 30)
        product.comes_back("gateway", product.kill9("gateway"))
        until("it answers again", lambda: product.answering_version(model), 20)
        before = dict(calls.statuses)
        wanted = before.get("200", 0) + 30
        until("thirty more answers", lambda: calls.statuses["200"] >= wanted or None, 30)
        after = dict(calls.statuses)

    # Only who called in the second without a gateway had to call again.
    assert set(before) <= {"200", "ConnectError", "ReadError", "RemoteProtocolError"}
    assert after == before | {"200": after["200"]}
    assert set(calls.versions) == {"1"}

    def seen() -> Json | None:
        endpoint = product.endpoint(model)
        return endpoint if endpoint["traffic_seen"] == endpoint["traffic_wanted"] else None

    until("the gateway confirms the split", seen, 20)


def test_the_broker_is_away_while_somebody_approves(product: Product, model: str) -> None:
    number = paths.registered(product, model)
    promotion = paths.waiting(product, model, number)
    product.comes_back("valkey", product.kill9("valkey"))

    with product.stopped("valkey"):
        approved = paths.approve(product, promotion)
        assert approved["status"] == "approved"
        page = product.reader.get(f"promotions/{promotion['id']}")
        assert (page["status"], page["rollout"]) == ("approved", None)

    product.rollout(approved, "succeeded")
    assert product.answering_version(model) == "1"
    assert len(product.events(model, "promotion.approved")) == 1
    assert len(product.events(model, "rollout.started")) == 1
