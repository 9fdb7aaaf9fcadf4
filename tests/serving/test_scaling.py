"""Replicas follow the traffic, sleep when there is none, and are renewed without a gap."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.conf import settings

from apps.audit.models import Event
from apps.serving import backends, doorkeeper, scaling, selectors
from apps.serving.backends.local import LocalBackend
from apps.serving.lifecycle import RevisionState
from apps.serving.models import Replica, Revision, Usage
from apps.serving.scaler import Scaler
from apps.serving.services import wishes
from apps.serving.services.wishes import ServingRefused
from tests.serving.cast import NOW, ROW, Callers, ask, make_build, put_serving, until
from tests.serving.conftest import Stage
from tests.serving.test_faults import INFER, pid_of


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def doorkeeping(scaler: Scaler) -> Iterator[None]:
    """The scaler's door is open; its ticks are the test's own."""
    stop = threading.Event()
    door = threading.Thread(
        target=scaler.doorkeeper.run, args=[settings.STACK.doorkeeper_socket, stop]
    )
    door.start()
    until("the door was open", settings.STACK.doorkeeper_socket.exists)
    try:
        yield
    finally:
        stop.set()
        door.join()


def serving(stage: Stage, revision: Revision) -> None:
    stage.wait_ready(revision)
    stage.split({revision: 1000})
    wishes.set_stable(endpoint=stage.endpoint, revision=revision, now=NOW)


def seen(revision: Revision) -> RevisionState:
    revision.refresh_from_db()
    return RevisionState(revision.state)


def test_more_callers_get_more_replicas_and_fewer_after_a_window(stage: Stage) -> None:
    put_serving(
        stage.endpoint.model,
        scaling={"min": 1, "max": 2, "in_flight_per_replica": 0.5, "down_after_seconds": 60},
    )
    revision = stage.deploy(1)
    serving(stage, revision)
    clock = Clock()
    scaler = Scaler(lambda: NOW, clock)

    with Callers(INFER, connections=8) as callers:

        def grown() -> bool:
            clock.now += 0.5
            scaler.tick()
            revision.refresh_from_db()
            return revision.replicas == 2

        until("a second replica was wanted", grown)
        assert "requests in flight, 0.5 a replica" in revision.scaled_reason
        stage.wait_ready(revision)
        callers.wait_for(100)
    assert callers.lost == []
    clock.now += 30
    scaler.tick()
    assert revision.replicas == 2
    for _ in range(3):
        clock.now += 61
        scaler.tick()
    revision.refresh_from_db()
    assert (revision.replicas, revision.scaled_reason) == (
        1,
        "No more than 1 were needed for 60 s",
    )
    events = Event.objects.filter(verb="revision.scaled").order_by("pk")
    assert [(e.evidence["from"], e.evidence["to"]) for e in events] == [(1, 2), (2, 1)]


def test_it_sleeps_and_the_first_requests_wait_for_its_start(stage: Stage) -> None:
    put_serving(stage.endpoint.model, scaling={"min": 0, "max": 1, "idle_seconds": 30})
    revision = stage.deploy(1)
    serving(stage, revision)
    clock = Clock()
    scaler = Scaler(lambda: NOW, clock)
    with doorkeeping(scaler):
        scaler.tick()
        clock.now += 31
        scaler.tick()
        until("no process was left", lambda: (stage.converge(), _processes(revision))[1] == 0)
        assert (seen(revision), revision.replicas) == (RevisionState.ASLEEP, 0)
        assert not Replica.objects.filter(revision=revision).exists()

        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask, INFER, ROW) for _ in range(6)]

            def answered() -> bool:
                scaler.tick()
                return all(one.done() for one in asked)

            until("the requests were answered", answered)
        for status, headers, _ in (one.result() for one in asked):
            assert (status, headers["x-revision"]) == (200, str(revision.pk))
    revision.refresh_from_db()
    assert (revision.replicas, revision.scaled_reason) == (1, "A request came")


def _processes(revision: Revision) -> int:
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)
    running = backend._replicas._supervisor.processes()
    return sum(name.startswith(f"r{revision.pk}.") for name in running)


def test_a_sleeper_that_does_not_start_says_why(stage: Stage) -> None:
    put_serving(stage.endpoint.model, scaling={"min": 0, "max": 1, "idle_seconds": 30})
    revision = stage.deploy(1)
    serving(stage, revision)
    scaling.scale(revision=revision, replicas=0, reason="test", now=NOW)
    until("it slept", lambda: (stage.converge(), _processes(revision))[1] == 0)
    type(revision.build).objects.filter(pk=revision.build_id).update(environment_path="/nowhere")
    scaler = Scaler(lambda: NOW, Clock())
    with doorkeeping(scaler), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, INFER, ROW)

        def answered() -> bool:
            scaler.tick()
            return asked.done()

        until("the request was answered", answered)
        status, _, body = asked.result()
    assert status == 502
    assert isinstance(body, dict)
    assert "The model does not start: Replica 0 keeps ending" in body["error"]


def test_a_sleeper_that_has_no_room_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    put_serving(stage.endpoint.model, scaling={"min": 0, "max": 1, "idle_seconds": 30})
    revision = stage.deploy(1)
    serving(stage, revision)
    scaling.scale(revision=revision, replicas=0, reason="test", now=NOW)
    until("it slept", lambda: (stage.converge(), _processes(revision))[1] == 0)
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)
    monkeypatch.setattr(backend._replicas, "_most_mb", 10)
    monkeypatch.setattr(doorkeeper, "HELD_SECONDS", 2.0)
    scaler = Scaler(lambda: NOW, Clock())
    with doorkeeping(scaler), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, INFER, ROW)

        def answered() -> bool:
            scaler.tick()
            return asked.done()

        until("the request was answered", answered)
        status, _, body = asked.result()
    needs = selectors.needs_mb(Revision.objects.get(pk=revision.pk))
    assert (status, body) == (
        504,
        {
            "error": "The model slept and did not start within 2 s: "
            f"Another replica needs {needs} MiB, 10 MiB free"
        },
    )


def test_a_body_that_cannot_wait_for_a_sleeper_is_told_so(stage: Stage) -> None:
    put_serving(
        stage.endpoint.model,
        scaling={"min": 0, "max": 1, "idle_seconds": 30},
        limits={"body_mb": 0.25},
    )
    revision = stage.deploy(1)
    serving(stage, revision)
    scaling.scale(revision=revision, replicas=0, reason="test", now=NOW)
    until("it slept", lambda: (stage.converge(), _processes(revision))[1] == 0)
    scaler = Scaler(lambda: NOW, Clock())
    with doorkeeping(scaler), ThreadPoolExecutor(2) as pool:
        large = pool.submit(ask, INFER, ROW | {"id": "x" * (3 << 20)})
        small = pool.submit(ask, INFER, ROW | {"id": "x" * (200 << 10)})

        def answered() -> bool:
            scaler.tick()
            return large.done() and small.done()

        until("both were answered", answered)
    status, _, body = large.result()
    assert status == 413
    assert "no body over 262144 bytes can wait for its start" in str(body)
    assert small.result()[0] == 200


def test_another_configuration_renews_replicas_one_by_one(stage: Stage) -> None:
    revision = stage.deploy(1, replicas=2)
    serving(stage, revision)
    before = {pid_of(f"r{revision.pk}.{index}") for index in (0, 1)}
    put_serving(stage.endpoint.model, limits={"body_mb": 1})

    with Callers(INFER, connections=4) as callers:
        callers.wait_for(50)

        def renewed() -> bool:
            sight = stage.converge()
            now = {pid_of(f"r{revision.pk}.{index}") for index in (0, 1)}
            ready = sight.ready.get(revision.pk, 0)
            return not now & before and 0 not in now and ready == 2 and _processes(revision) == 2

        until("both were renewed", renewed)
        callers.wait_for(50)
    assert callers.lost == []
    big = {"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.0]}]}
    status, _, body = ask(INFER, big | {"id": "x" * (1 << 20)})
    assert status == 413
    assert "over the limit of 1048576 bytes" in str(body)
    rows = Replica.objects.filter(revision=revision).order_by("index")
    assert [(row.index, row.restarts, row.reason) for row in rows] == [
        (0, 1, "It was replaced by one with the new configuration"),
        (1, 1, "It was replaced by one with the new configuration"),
    ]
    assert all(row.memory_mb and row.start_seconds for row in rows)


def test_a_replica_over_its_memory_is_replaced_and_counted(stage: Stage) -> None:
    put_serving(stage.endpoint.model, resources={"memory_mb": 4096})
    revision = stage.deploy(1)
    serving(stage, revision)
    first = pid_of(f"r{revision.pk}.0")
    # The least that may be set; any Python with scikit-learn takes more.
    put_serving(stage.endpoint.model, resources={"memory_mb": 64})

    with Callers(INFER, connections=4) as callers:
        callers.wait_for(50)

        def replaced() -> bool:
            stage.converge()
            row = Replica.objects.filter(revision=revision, index=0).first()
            return row is not None and row.restarts > 0

        until("it was replaced", replaced)
        callers.wait_for(50)
        put_serving(stage.endpoint.model, resources={"memory_mb": 4096})
    assert callers.lost == []
    assert pid_of(f"r{revision.pk}.0") != first
    row = Replica.objects.get(revision=revision, index=0)
    assert "of memory, more than its 64 MiB" in row.reason
    revision.refresh_from_db()
    assert revision.most_memory_mb is not None
    assert revision.most_memory_mb > 64


def test_a_replica_that_hangs_is_killed_and_the_other_answers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_serving(stage.endpoint.model, limits={"request_seconds": 20, "try_seconds": 1})
    revision = stage.deploy(1, replicas=2)
    serving(stage, revision)
    victim = pid_of(f"r{revision.pk}.0")
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)

    with Callers(INFER, connections=4) as callers:
        callers.wait_for(50)
        os.kill(victim, signal.SIGSTOP)
        callers.wait_for(200)
        stage.converge()
        late = backend._replicas._clock
        monkeypatch.setattr(backend._replicas, "_clock", lambda: late() + 36)
        stage.converge()
        until("it was killed", lambda: pid_of(f"r{revision.pk}.0") != victim)
        monkeypatch.undo()
        stage.wait_ready(revision)
    assert callers.lost == []
    row = Replica.objects.get(revision=revision, index=0)
    assert row.restarts == 1
    assert re.fullmatch(r"It did not answer for \d+ s and was killed", row.reason)


def test_what_the_machine_has_no_room_for_is_refused_in_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)
    monkeypatch.setattr(backend._replicas, "_most_mb", 500)
    build = make_build(stage.endpoint.model, number=1, bundle=stage.bundle)
    with pytest.raises(ServingRefused) as refused:
        wishes.deploy(endpoint=stage.endpoint, build=build, replicas=4, now=NOW)
    assert refused.value.code == "no_room"
    assert refused.value.message == (
        f"{build.version} has no room in production. 4 replicas need 1.2 GiB of memory, "
        "500 MiB free"
    )
    assert not Revision.objects.exists()


def test_replicas_beyond_the_machine_wait_and_say_so(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    revision = stage.deploy(1)
    serving(stage, revision)
    stage.converge()
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)
    monkeypatch.setattr(backend._replicas, "_most_mb", 100)
    revision.refresh_from_db()
    scaling.scale(revision=revision, replicas=2, reason="test", now=NOW)

    def degraded() -> bool:
        stage.converge()
        return seen(revision) is RevisionState.DEGRADED

    until("the gateway knew of both", degraded)
    needs = selectors.needs_mb(revision)
    assert revision.reason == f"Another replica needs {needs} MiB, 0 MiB free"
    monkeypatch.undo()
    stage.wait_ready(revision)


def test_use_is_added_up_by_day(stage: Stage) -> None:
    pk = stage.endpoint.pk
    scaling.add_usage({pk: (10.0, 40.0)}, now=NOW)
    scaling.add_usage({pk: (5.0, 20.0)}, now=NOW)
    scaling.add_usage({pk: (1.0, 4.0)}, now=NOW + timedelta(days=1))
    scaling.add_usage({}, now=NOW)
    days = Usage.objects.filter(endpoint=pk).order_by("day")
    assert [(d.replica_seconds, d.most_replica_seconds) for d in days] == [(15, 60), (1, 4)]


def test_a_second_scaler_that_read_the_old_number_changes_nothing(stage: Stage) -> None:
    revision = stage.deploy(1)
    other = Revision.objects.get(pk=revision.pk)
    assert scaling.scale(revision=revision, replicas=3, reason="one", now=NOW)
    assert not scaling.scale(revision=other, replicas=2, reason="two", now=NOW)
    revision.refresh_from_db()
    assert (revision.replicas, revision.scaled_reason) == (3, "one")
    scaling.scale(revision=revision, replicas=1, reason="back", now=NOW)
