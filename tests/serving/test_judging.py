"""What is said of a revision from its replicas' answers, processes and past. No process runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from apps.serving.backends import ReplicaSight, RevisionSight, WantedRevision, judging, machine
from apps.serving.backends.history import Past
from apps.serving.backends.judging import Asked
from apps.serving.backends.supervisord import Process
from apps.serving.lifecycle import RevisionState

READY, SILENT = Asked(ready=True), Asked(ready=False)
UP = Process("", "RUNNING", 100, "", 7)


def revision(replicas: int = 2) -> WantedRevision:
    return WantedRevision(5, 1, "sha256:a", "/bundle", "/environment", replicas)


def said(**more: Any) -> tuple[int, bytes]:
    return 200, json.dumps({"digest": "sha256:a", "revision": 5} | more).encode()


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (None, SILENT),
        ((503, b"{}"), SILENT),
        (said(in_flight=3), Asked(ready=True, in_flight=3)),
        (said(in_flight=True), READY),  # no number
        ((200, b"[]"), Asked(ready=False, wrong="it does not say what it serves")),
        ((200, b"torn{"), Asked(ready=False, wrong="it does not say what it serves")),
        (
            said(digest="sha256:b"),
            Asked(
                ready=False,
                wrong="it serves revision 5 with digest sha256:b, wanted is 5 with sha256:a",
            ),
        ),
    ],
)
def test_only_what_should_run_is_ready(answer: tuple[int, bytes] | None, asked: Asked) -> None:
    assert judging.answered(revision(), answer) == asked


def seen(
    asked: list[Asked],
    running: Mapping[str, Process] | None,
    pasts: Mapping[str, Past] | None = None,
    *,
    replicas: int = 2,
    short: str = "",
) -> RevisionSight:
    listed = None if running is None else dict(running)
    words = {"r5.1": "MemoryError: no room"}
    return judging.sight(
        revision(replicas), asked, listed, pasts or {},
        short=short, last_words=lambda name: words.get(name, ""),
    )  # fmt: skip


BOTH = {"r5.0": UP, "r5.1": UP}
ODD = Asked(ready=False, wrong="it does not say what it serves")
SHORT = "Another replica needs 300 MiB, 10 MiB free"


@pytest.mark.parametrize(
    ("asked", "running", "pasts", "state", "reason"),
    [
        ([READY, READY], BOTH, {}, "ready", ""),
        ([READY, READY], None, {}, "ready", ""),  # they answer, whoever started them
        ([READY, SILENT], BOTH, {}, "degraded", "1 of 2 replicas are ready"),
        ([SILENT, SILENT], BOTH, {}, "starting", "Its replicas load the model"),
        ([READY, SILENT], None, {}, "unknown", "The supervisor does not answer"),
        (
            [READY, ODD], BOTH, {}, "failing",
            "A replica answers, but it does not say what it serves",
        ),
        # One end is an accident, two without an answer between are none.
        (
            [SILENT, SILENT], BOTH, {"r5.1": Past(failed=1)}, "starting",
            "Its replicas load the model",
        ),
        (
            [SILENT, SILENT], BOTH, {"r5.1": Past(failed=2)}, "failing",
            "Replica 1 keeps ending: MemoryError: no room",
        ),
        (
            [READY, SILENT], BOTH, {"r5.1": Past(failed=2)}, "degraded",
            "Replica 1 keeps ending: MemoryError: no room",
        ),
        (
            [SILENT, SILENT], {"r5.0": Process("", "FATAL", 0, "no such file")}, {}, "failing",
            "Replica 0 keeps ending: no such file",
        ),
        (
            [SILENT, SILENT], {"r5.0": Process("", "FATAL", 0, "")}, {}, "failing",
            "Replica 0 keeps ending: It said nothing",
        ),
    ],
)  # fmt: skip
def test_a_revision_is_as_well_as_its_replicas(
    asked: list[Asked],
    running: Mapping[str, Process] | None,
    pasts: Mapping[str, Past],
    state: str,
    reason: str,
) -> None:
    sight = seen(asked, running, pasts)

    ready = sum(one.ready for one in asked)
    assert sight == RevisionSight(RevisionState(state), ready, reason)


def test_one_without_replicas_sleeps_and_one_without_room_says_so() -> None:
    assert seen([], BOTH, replicas=0) == RevisionSight(RevisionState.ASLEEP)
    assert seen([SILENT], {}, replicas=1, short=SHORT) == RevisionSight(
        RevisionState.STARTING, 0, SHORT
    )
    assert seen([READY, SILENT], BOTH, short=SHORT) == RevisionSight(
        RevisionState.DEGRADED, 1, SHORT
    )


def test_each_replica_is_told_with_its_process_and_its_past() -> None:
    past = Past(started=90.0, restarts=2, ready_after=4.0, cause="It took too much")

    told = judging.replicas(
        5, [Asked(ready=True, in_flight=1), ODD], {"r5.0": UP}, {"r5.0": past},
        {7: machine.Taken(310, 12.5)}, 130.0,
    )  # fmt: skip

    assert told == [
        ReplicaSight(0, True, 90.0, 4.0, 2, 310, 1, "It took too much", 12.5, 130.0),
        ReplicaSight(1, False, reason="it does not say what it serves", read_at=130.0),
    ]


@pytest.mark.parametrize(
    ("memory_mb", "outdated", "why"),
    [
        (None, set(), ""),
        (4096, set(), ""),
        (4200, set(), "It took 4.1 GiB of memory, more than its 4.0 GiB"),
        (4200, {"r5.1"}, "It was replaced by one with the new configuration"),
        (1, {"r5.0"}, ""),
    ],
)
def test_a_replica_is_renewed_for_a_reason(
    memory_mb: int | None, outdated: set[str], why: str
) -> None:
    one = ReplicaSight(1, True, memory_mb=memory_mb)

    assert judging.why_renew(revision(), one, outdated) == why
