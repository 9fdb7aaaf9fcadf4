"""Whatever is killed or hangs beside two replicas, callers get their answers; and who comes to a
sleeping model waits for its start."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg

from tests.journeys import paths
from tests.journeys.client import Json, until
from tests.journeys.product import Product, Trickle
from tests.journeys.test_processes import healthy

TWO = (
    paths.STRAIGHT
    + """\
    serving:
      scaling: {min: 2, max: 2}
      limits: {request_seconds: 10, try_seconds: 1}
"""
)
SLEEPY = (
    paths.STRAIGHT
    + """\
    serving:
      scaling: {min: 0, max: 1, idle_seconds: 2}
"""
)


def crowd(product: Product) -> None:
    """Many readers at once, who leave as many connections to the database idle."""
    with ThreadPoolExecutor(12) as readers:
        seen = list(readers.map(lambda _: product.reader.http.get("endpoints"), range(48)))
    assert {answer.status_code for answer in seen} == {200}


def answers_questions(product: Product) -> bool | None:
    """Whether PostgreSQL is over what it had not written down when it was killed."""
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(product.stack.database_url, connect_timeout=5).close()
        return True
    return None


def stable(product: Product, model: str) -> Json:
    endpoint = product.endpoint(model)
    found: Json = next(r for r in endpoint["revisions"] if r["id"] == endpoint["stable"])
    return found


def ready(product: Product, model: str, count: int) -> Json | None:
    revision = stable(product, model)
    return revision if revision["ready_replicas"] == count else None


def processes(product: Product, revision: Json) -> list[str]:
    names = [process.name for process in product.supervisor.processes()]
    return [name for name in names if name.startswith(f"r{revision['id']}.")]


def answers(calls: Trickle, count: int) -> None:
    wanted = calls.statuses.get("200", 0) + count
    until(f"{count} more answers", lambda: calls.statuses.get("200", 0) >= wanted or None, 60)


def test_two_replicas_outlive_everything_beside_them(product: Product, model: str) -> None:
    number = paths.registered(product, model, policy=TWO)
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "succeeded")
    until("two replicas", partial(ready, product, model, 2), 60)

    with Trickle(product, model, every=0.02) as calls:
        answers(calls, 20)
        crowd(product)
        for name in ("collector", "scaler", "worker", "ticker", "valkey", "postgres", "web"):
            pid = product.kill9(name)
            answers(calls, 20)
            product.comes_back(name, pid)
            if name == "postgres":
                until("the database answers", partial(answers_questions, product), 60)
                # Pages neither: every connection that the web process had is gone.
                seen = [product.reader.http.get("endpoints").status_code for _ in range(6)]
                assert seen == [200] * 6
        until("pages are back", partial(healthy, product), 60)
        revision = until("two replicas", partial(ready, product, model, 2), 60)
        name = f"r{revision['id']}.0"
        pid = product.kill9(name)  # one that is killed
        answers(calls, 50)
        product.comes_back(name, pid)
        until("two replicas", partial(ready, product, model, 2), 60)
        hanging = product.pid_of(name)
        os.kill(hanging, signal.SIGSTOP)  # and one that hangs, until it is found and replaced
        answers(calls, 50)
        product.comes_back(name, hanging, seconds=60)
        until("two replicas", partial(ready, product, model, 2), 60)
        answers(calls, 50)

    assert set(calls.statuses) == {"200"}, calls.statuses
    assert set(calls.versions) == {str(number)}
    [first, _] = stable(product, model)["replicas_seen"]
    assert first["restarts"] == 2
    assert "did not answer" in first["reason"]


def test_a_sleeping_model_answers_the_first_caller(product: Product, model: str) -> None:
    number = paths.registered(product, model, policy=SLEEPY)
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "succeeded")

    def asleep() -> Json | None:
        revision = stable(product, model)
        return revision if revision["state"] == "asleep" else None

    revision = until("it sleeps", asleep, 60)
    assert (revision["replicas"], revision["replicas_seen"]) == (0, [])
    until("its process has ended", lambda: not processes(product, revision) or None, 30)

    answer = product.ask(model)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, str(number))

    until("it sleeps again", asleep, 60)
    # The doorkeeper is killed just as somebody knocks: the request is tried again.
    pid = product.kill9("scaler")
    answer = product.ask(model)
    product.comes_back("scaler", pid)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, str(number))
    scaled = product.events(model, "revision.scaled")
    assert {event["reason"] for event in scaled} >= {"A request came"}
