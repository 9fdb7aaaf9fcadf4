"""People who press at the same moment, and one who changes their mind in the middle."""

import threading

import httpx

from tests.journeys import paths
from tests.journeys.client import Json, until
from tests.journeys.product import Product, Trickle

LONG_STEP = paths.STRAIGHT.replace(
    "steps: [", "steps: [{weight: 50, hold_seconds: 600, analysis: false}, "
)


def test_two_clicks_on_approve(product: Product, model: str) -> None:
    number = paths.registered(product, model)
    promotion = paths.waiting(product, model, number)
    answers: list[httpx.Response] = []
    ready = threading.Barrier(2)

    def click() -> None:
        header = {"Authorization": f"Bearer {product.people['grace'].key}"}
        url = f"{product.stack.web_url}/api/v1/promotions/{promotion['id']}/approve"
        with httpx.Client(headers=header, timeout=60) as client:
            client.get(f"{product.stack.web_url}/health")  # both hold an open connection
            ready.wait(10)
            answers.append(client.post(url, json={"words": "Looks right"}))

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    taken, refused = sorted(answers, key=lambda answer: answer.status_code)
    assert (taken.status_code, taken.json()["status"]) == (200, "approved")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_ended")
    after = product.reader.get(f"promotions/{promotion['id']}")
    assert [(a["user"], a["answer"]) for a in after["approvals"]] == [("grace", "approve")]
    assert len(product.events(model, "promotion.approved")) == 1
    product.rollout(after, "succeeded")
    assert len(product.events(model, "rollout.started")) == 1


def test_an_abort_during_a_step(product: Product, model: str) -> None:
    stable = paths.serving(product, model)
    number = product.log(model)
    product.version(model, number)
    product.policy(model, LONG_STEP)
    until("v2 is built", lambda: product.version(model, number)["digest"] or None, 120)
    with Trickle(product, model) as calls:
        approved = paths.approve(product, paths.waiting(product, model, number))
        rollout = product.rollout(approved, "progressing")
        until("callers of v2", lambda: calls.versions.get("2", 0) >= 5 or None, 60)

        otto = product.people["otto"]
        otto.post(f"rollouts/{rollout['id']}/abort", reason="wrong airport")
        again = otto.http.post(f"rollouts/{rollout['id']}/abort", json={"reason": "still"})
        assert again.status_code == 409
        assert again.json()["code"] in ("rollout_reverting", "rollout_ended")

        ended = product.rollout(approved, "reverted")
        moved = dict(calls.versions)
        wanted = moved["1"] + 20
        until("twenty more answers", lambda: calls.versions["1"] >= wanted or None, 30)
        later = dict(calls.versions)

    assert later == moved | {"1": later["1"]}  # nobody got the candidate any more
    assert set(calls.statuses) == {"200"}
    assert ended["cause"] == "Aborted by request: wrong airport"
    assert ended["reason"] == "Rolled back. Aborted by request: wrong airport"
    endpoint = product.endpoint(model)
    [kept] = [r for r in endpoint["revisions"] if r["version"] == stable]
    assert endpoint["traffic_wanted"] == {str(kept["id"]): 1000}
    assert endpoint["stable"] == kept["id"]
    [event] = product.events(model, "rollout.aborted")
    assert (event["actor_name"], event["reason"]) == ("otto", "wrong airport")
    assert len(product.events(model, "rollout.reverted")) == 1
    served = product.reader.get(f"models/{model}/served")["served"]
    assert [(s["version"], s["percent"]) for s in served] == [(stable, 100.0)]
    mine: list[Json] = product.reader.results("promotions", model=model, environment="production")
    assert mine[0]["served_at"] is None
