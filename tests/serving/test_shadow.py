"""Copies of requests, and callers who stay where they are, through the real gateway."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections import Counter

import pytest
from django.conf import settings

from apps.audit.models import Event
from apps.serving.models import Revision
from apps.serving.services import wishes
from apps.serving.services.wishes import ServingRefused
from tests.serving.cast import NOW, ROW, Callers, ask, put_serving, until
from tests.serving.conftest import Stage
from tests.serving.test_faults import INFER, pid_of

Record = dict[str, object]


def captured(revision: Revision) -> list[Record]:
    """What the revision's replicas wrote into their spool so far."""
    lines = []
    for path in sorted((settings.STACK.var / "spool" / str(revision.pk)).glob("*")):
        for line in path.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                lines.append(json.loads(line))
    return lines


def copy(stage: Stage, shares: dict[Revision, int]) -> None:
    """It asks for copies and waits until the gateway makes them."""
    wanted = {revision.pk: share for revision, share in shares.items()}
    wishes.set_shadow(endpoint=stage.endpoint, shares=wanted, actor=None, reason="looking", now=NOW)
    until("the copies were made", lambda: stage.converge().shadow == wanted)


def test_copies_are_recorded_and_their_answers_reach_nobody(stage: Stage) -> None:
    stable, candidate, dark = stage.deploy(1), stage.deploy(2), stage.deploy(3)
    stage.wait_ready(stable, candidate, dark)
    stage.split({stable: 1000})
    copy(stage, {candidate: 1000, dark: 500})

    ids = [f"request-{number}" for number in range(200)]
    for one in ids:
        status, headers, _ = ask(INFER, ROW, x_request_id=one, x_shadow="1")
        assert (status, headers["x-revision"]) == (200, str(stable.pk))

    def all_captured() -> bool:
        return len(captured(candidate)) == len(captured(stable)) == len(ids)

    until("every request was captured twice", all_captured)
    own, copies = captured(stable), captured(candidate)
    assert [row["shadow"] for row in own] == [False] * len(ids)  # a caller cannot mark its rows
    assert [row["shadow"] for row in copies] == [True] * len(ids)
    assert sorted(str(row["id"]) for row in copies) == sorted(ids)
    assert [row["response"] for row in copies] != [None] * len(ids)
    # Half of 200: fewer than 60 or more than 140 happens once in 10^8 runs.
    assert 60 <= len(captured(dark)) <= 140
    stage.endpoint.refresh_from_db()
    assert stage.endpoint.shadow_seen == {str(candidate.pk): 1000, str(dark.pk): 500}
    event = Event.objects.get(verb="endpoint.shadow_changed")
    assert (event.reason, event.evidence["shadow"]) == ("looking", {"2": 100.0, "3": 50.0})


def test_a_shadow_that_dies_or_hangs_costs_callers_nothing(stage: Stage) -> None:
    stable, candidate = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, candidate)
    stage.split({stable: 1000})
    copy(stage, {candidate: 1000})
    victim = pid_of(f"r{candidate.pk}.0")

    with Callers(INFER) as callers:
        callers.wait_for(50)
        os.kill(victim, signal.SIGSTOP)
        callers.wait_for(200)
        os.kill(victim, signal.SIGKILL)
        callers.wait_for(200)
    assert callers.lost == []
    assert set(callers.counts) == {str(stable.pk)}


def test_what_cannot_be_copied_is_refused(stage: Stage) -> None:
    revision = stage.deploy(1)
    for shares, code in (
        ({revision.pk: 1001}, "shadow_share"),
        ({revision.pk: -1}, "shadow_share"),
        ({revision.pk + 1: 10}, "revision_unknown"),
    ):
        with pytest.raises(ServingRefused) as refused:
            wishes.set_shadow(
                endpoint=stage.endpoint, shares=shares, actor=None, reason="", now=NOW
            )
        assert refused.value.code == code
    wishes.set_shadow(
        endpoint=stage.endpoint, shares={revision.pk: 10}, actor=None, reason="", now=NOW
    )
    with pytest.raises(ServingRefused, match="still gets copies"):
        wishes.retire(revision=revision, now=NOW)
    assert Event.objects.filter(verb="endpoint.shadow_changed").count() == 1


class Browser:
    """It keeps the cookies it is given, as browsers do."""

    def __init__(self) -> None:
        self.cookie = ""

    def ask(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", settings.STACK.gateway_port)
        headers = {"Cookie": f"other=1; {self.cookie}"} if self.cookie else {}
        connection.request("POST", INFER, json.dumps(ROW), headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        assert answer.status == 200
        given = answer.headers.get("set-cookie", "")
        if given:
            assert given.endswith("; Path=/production/; Max-Age=2592000; HttpOnly; SameSite=Lax")
            assert not self.cookie
            self.cookie = given.partition(";")[0]
        return str(answer.headers["x-revision"])


def test_a_cookie_keeps_browsers_where_they_are_while_the_candidate_grows(stage: Stage) -> None:
    put_serving(stage.endpoint.model, sticky_cookie=True)
    stable, candidate = stage.deploy(1), stage.deploy(2)
    stage.wait_ready(stable, candidate)
    browsers = [Browser() for _ in range(60)]
    on_candidate: list[set[Browser]] = []
    for weight in (200, 500):
        stage.split({stable: 1000 - weight, candidate: weight})
        rounds = [{b for b in browsers if b.ask() == str(candidate.pk)} for _ in range(3)]
        assert rounds[0] == rounds[1] == rounds[2]
        on_candidate.append(rounds[0])
    assert on_candidate[0] < on_candidate[1]
    # A key says more than a cookie, and whoever sends neither is placed anew each time.
    placed = {ask(INFER, ROW, x_route_key="N1", cookie=b.cookie)[1]["x-revision"] for b in browsers}
    assert len(placed) == 1
    assert "set-cookie" not in ask(INFER, ROW, x_route_key="N1")[1]
    fresh = Counter(ask(INFER, ROW)[1]["x-revision"] for _ in range(60))
    assert set(fresh) == {str(stable.pk), str(candidate.pk)}
