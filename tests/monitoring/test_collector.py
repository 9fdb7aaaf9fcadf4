"""One tick and what it tells: pages learn of changes, seldom enough and never too little."""

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from redis.exceptions import ConnectionError as BrokerGone

from apps.core import live
from apps.monitoring import collector
from apps.monitoring.collector import Collector
from apps.serving.models import Endpoint
from tests.monitoring.making import START_US, access_log, append, line, record, segment, spans

pytestmark = pytest.mark.django_db


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_endpoint_is_announced_once_a_second(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(live, "publish", told.append)
    clock = Clock()
    works = Collector(now=lambda: now, clock=clock)
    works.tick()
    assert told == []
    pk = endpoint.revisions.all()[0].pk
    for moment in (0.0, 0.25, 0.5):
        clock.now = moment
        segment(pk, [record(START_US)])
        works.tick()
    assert told == [f"endpoint:{endpoint.pk}"]
    clock.now = 1.0  # nothing new came, and the last change was not told yet
    works.tick()
    assert told == [f"endpoint:{endpoint.pk}"] * 2
    clock.now = 3.0
    works.tick()
    assert len(told) == 2


def test_a_broker_that_is_away_holds_up_nothing(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(topic: str) -> None:
        raise BrokerGone(topic)

    monkeypatch.setattr(live, "publish", gone)
    append(access_log(), line(START_US, endpoint.stable))
    Collector(now=lambda: now).tick()
    assert spans().get().requests == 1


def test_many_segments_are_counted_in_batches(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "BATCH_SEGMENTS", 2)
    pk = endpoint.revisions.all()[0].pk
    for _ in range(5):
        segment(pk, [record(START_US)])
    works = Collector(now=lambda: now)
    assert [works.count_segments() for _ in range(4)] == [True, True, False, False]
    assert spans().get().requests == 5


def test_it_waits_longer_each_time_for_a_database_that_is_away(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if len(pauses) == 8:
                self.set()
            return self.is_set()

    answers: Iterator[OperationalError | bool] = iter(
        [*[OperationalError("refused")] * 6, False, True]
    )

    def tick(_: Collector) -> bool:
        answer = next(answers)
        if isinstance(answer, OperationalError):
            raise answer
        return answer

    monkeypatch.setattr(Collector, "tick", tick)
    monkeypatch.setattr(connection, "close", lambda: None)
    Collector().run(Stop())
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 0.25, 0.0]
