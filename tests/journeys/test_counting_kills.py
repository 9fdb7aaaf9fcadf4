"""`kill -9` while requests run: the log holds what callers got, each once, and the sums agree."""

import json
import threading
import time
import uuid
from dataclasses import dataclass
from functools import partial

import httpx

from tests.journeys import paths
from tests.journeys.client import Json, until
from tests.journeys.product import Product
from tests.journeys.test_callers_notice_nothing import TWO, ready

CALLERS = 3
PAUSE_SECONDS = 0.02
# A model server syncs what it answered each 0.2 s; on a disk and processors that others use too,
# the sync itself may take longer than that.
UNSYNCED_SECONDS = 0.2 + 1.0


@dataclass(frozen=True)
class Answered:
    id: str
    status: int
    revision: str  # blank: no model server answered
    at: float


class Callers:
    """Several callers at once, each of whose requests has an id of its own."""

    def __init__(self, product: Product, model: str) -> None:
        self.answers: list[Answered] = []
        self.lost: list[str] = []
        self._url = f"{product.stack.gateway_url}/production/v2/models/{model}/infer"
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def more(self, count: int) -> None:
        wanted = len(self.answers) + count
        until(f"{count} more answers", lambda: len(self.answers) >= wanted or None, 60)

    def _call(self) -> None:
        with httpx.Client(timeout=20) as http:
            while not self._end.wait(PAUSE_SECONDS):
                self._ask(http, str(uuid.uuid4()))

    def _ask(self, http: httpx.Client, request_id: str) -> None:
        inputs = [
            {"name": "distance", "shape": [1], "datatype": "FP64", "data": [2400.0]},
            {"name": "hour", "shape": [1], "datatype": "FP64", "data": [19.0]},
        ]
        headers = {"x-request-id": request_id}
        try:
            answer = http.post(self._url, json={"inputs": inputs}, headers=headers)
        except httpx.TransportError:
            self.lost.append(request_id)
            return
        revision = answer.headers.get("x-revision", "")
        self.answers.append(Answered(request_id, answer.status_code, revision, time.time()))


def counted(product: Product, model: str, asked: int, sought: list[str]) -> Json:
    call = f"main({model!r}, {asked}, {sought!r})"
    said = product.manage(
        "shell", "--no-imports", "-c", f"from tests.journeys.counted import main; {call}"
    )
    found: Json = json.loads(said.splitlines()[-1])
    return found


def test_what_callers_got_is_in_the_log_once(product: Product, model: str) -> None:
    number = paths.registered(product, model, policy=TWO)
    approved = paths.approve(product, paths.waiting(product, model, number))
    product.rollout(approved, "succeeded")
    revision = until("two replicas", partial(ready, product, model, 2), 60)

    with Callers(product, model) as calls:
        calls.more(100)
        replica = f"r{revision['id']}.0"
        product.pid_of(replica)  # it has run for some seconds, or the kill would wait for that
        killed_at = time.time()
        for name in (replica, "collector", "postgres"):
            pid = product.kill9(name)
            calls.more(100)
            product.comes_back(name, pid)
            calls.more(100)

    by_model = [one for one in calls.answers if one.revision]
    sought = [one.id for one in by_model[:: len(by_model) // 20]]
    seen = counted(product, model, len(calls.answers), sought)

    assert calls.lost == []
    assert {one.revision for one in by_model} == {str(revision["id"])}
    answered = {one.id for one in by_model}
    assert len(seen["ids"]) == len(set(seen["ids"])), "a row stands in the log twice"
    assert set(seen["ids"]) <= answered
    missing = [one for one in by_model if one.id not in set(seen["ids"])]
    late = [round(one.at - killed_at, 3) for one in missing]
    assert all(-UNSYNCED_SECONDS <= seconds <= UNSYNCED_SECONDS for seconds in late), late
    assert seen["rows"] == seen["server"] == len(seen["ids"])
    assert seen["gateway"] == len(calls.answers)
    assert seen["found"] == [int(i in set(seen["ids"])) for i in sought]
    assert (seen["dropped"], seen["set_aside"]) == (0, 0)
