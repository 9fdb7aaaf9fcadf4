"""What real replicas use: read of their processes and of the gateway, and kept as history."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db.models import Max, Min, Sum

from apps.monitoring.models import ReplicaLook, ReplicaUse
from apps.monitoring.services import usage
from apps.serving.models import Replica, Revision
from tests.serving.cast import ROW, Callers, ask, put_serving, until
from tests.serving.conftest import Stage
from tests.serving.test_faults import INFER, pid_of


def looked(stage: Stage) -> None:
    stage.converge()
    usage.count()


def used(revision: Revision) -> dict[str, Any]:
    rows = ReplicaUse.objects.filter(revision=revision, width_seconds=60)
    return rows.aggregate(
        seconds=Sum("processor_seconds"),
        least=Min("processor_seconds"),
        measured=Sum("measured_seconds"),
        busiest=Max("most_processors"),
        memory=Max("most_memory_mb"),
        in_flight=Max("most_in_flight"),
        replicas=Max("index"),
    )


def test_what_replicas_use_is_kept(stage: Stage) -> None:
    put_serving(stage.endpoint.model, resources={"processors": 1, "workers": 2, "memory_mb": 3000})
    revision = stage.deploy(1, replicas=2)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    looked(stage)
    before = used(revision)

    with Callers(INFER, connections=4) as callers:

        def measured() -> bool:
            looked(stage)
            found = used(revision)
            more = found["measured"] - before["measured"], found["seconds"] - before["seconds"]
            return more[0] >= 4 and more[1] >= 0.2 and bool(found["in_flight"])

        # The workers answer, so that what their parent used would be next to nothing.
        until("the use of both was measured", measured)
        callers.wait_for(10)
    assert callers.lost == []
    found = used(revision)
    assert found["replicas"] == 1
    assert found["busiest"] <= 1.2  # of the one that it may use; looks are a little apart
    assert 50 < found["memory"] < 3000
    assert 1 <= found["in_flight"] <= 4
    last = ReplicaUse.objects.filter(width_seconds=60).latest("at")
    assert (last.processors_limit, last.memory_limit_mb, last.in_flight_limit) == (1, 3000, 4)


def test_a_replica_that_is_killed_begins_anew_and_used_nothing_negative(stage: Stage) -> None:
    revision = stage.deploy(1)
    stage.wait_ready(revision)
    looked(stage)
    first = ReplicaLook.objects.get(revision=revision)
    victim = pid_of(f"r{revision.pk}.0")
    os.kill(victim, signal.SIGKILL)
    until("another one ran", lambda: pid_of(f"r{revision.pk}.0") not in (0, victim))
    stage.wait_ready(revision)

    def anew() -> bool:
        looked(stage)
        look = ReplicaLook.objects.get(revision=revision)
        return look.started_at != first.started_at and look.processor_at == look.at

    until("the new process was measured", anew)
    found = used(revision)
    assert found["least"] >= 0
    assert found["seconds"] > 0
    assert found["measured"] < 120


def test_what_waits_at_a_replica_that_answers_nothing_is_in_flight(stage: Stage) -> None:
    revision = stage.deploy(1)
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    victim = pid_of(f"r{revision.pk}.0")

    def in_flight() -> int | None:
        looked(stage)
        return Replica.objects.get(revision=revision).in_flight

    assert in_flight() == 0
    # As one that computes: nobody hears of it how much waits.
    os.kill(victim, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask, INFER, ROW) for _ in range(3)]
            until("all three were in flight", lambda: in_flight() == 3)
            os.kill(victim, signal.SIGCONT)
            assert [one.result()[0] for one in asked] == [200, 200, 200]
    finally:
        os.kill(victim, signal.SIGCONT)
    assert used(revision)["in_flight"] == 3


def test_a_replica_that_is_retired_is_looked_at_no_more(stage: Stage) -> None:
    revision = stage.deploy(1, replicas=2)
    stage.wait_ready(revision)
    looked(stage)
    Revision.objects.filter(pk=revision.pk).update(replicas=1)

    def is_gone() -> bool:
        looked(stage)
        return Replica.objects.filter(revision=revision).count() == 1

    until("one of two was gone", is_gone)
    looks = ReplicaUse.objects.filter(index=1).aggregate(n=Sum("memory_looks"))["n"]
    looked(stage)
    assert ReplicaUse.objects.filter(index=1).aggregate(n=Sum("memory_looks"))["n"] == looks
