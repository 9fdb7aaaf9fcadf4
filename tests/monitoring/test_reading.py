"""Segments are read once for the sums and for the log, by other processes where much waits."""

import json
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from apps.monitoring import contents
from apps.monitoring.collector import Collector
from apps.monitoring.models import LogFile, RowFile
from apps.monitoring.services import reading
from apps.serving.models import Endpoint
from tests.monitoring.making import START_US, dated, record, segment, spans
from tests.monitoring.test_retention import keep

pytestmark = pytest.mark.django_db


def test_a_segment_is_parsed_once(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = contents.read

    def seen(path: Path, about: contents.About) -> contents.Contents:
        read.append(path.name)
        return real(path, about)

    monkeypatch.setattr(contents, "read", seen)
    moments = [now]
    works = Collector(now=lambda: moments[-1])
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])
    works.tick()
    moments.append(now + timedelta(minutes=1))
    works.tick()
    assert read == [path.name]
    assert LogFile.objects.get().rows == 1


def test_what_changed_since_is_read_anew(endpoint: Endpoint, now: datetime) -> None:
    moments = [now]
    works = Collector(now=lambda: moments[-1])
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])
    works.tick()
    path.write_text("".join(json.dumps(record(START_US)) + "\n" for _ in range(2)))
    dated(path, START_US)
    moments.append(now + timedelta(minutes=1))
    works.tick()
    assert LogFile.objects.get().rows == 2


@pytest.mark.parametrize("killed", [False, True])
def test_other_processes_read_what_waits(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(reading, "POOL_BYTES", 1)
    pk = endpoint.revisions.all()[0].pk
    moments = [now]
    works = Collector(now=lambda: moments[-1])
    try:
        for _ in range(3):
            segment(pk, [record(START_US), record(START_US)])
        works.tick()
        pool = works._reader._pool
        assert pool is not None
        if killed:
            for pid in list(pool._processes):
                os.kill(pid, signal.SIGKILL)
        segment(pk, [record(START_US)])
        works.tick()
        moments.append(now + timedelta(minutes=1))
        works.tick()
    finally:
        works.close(wait=True)
    assert [row.requests for row in spans()] == [7]
    assert (LogFile.objects.get().rows, RowFile.objects.get().rows) == (7, 7)


def test_a_policy_that_changed_is_asked_anew(endpoint: Endpoint, now: datetime) -> None:
    pk = endpoint.revisions.all()[0].pk
    reader = reading.Reader()
    assert reader._about(pk).redacted == ()
    keep(endpoint, now, redact="[distance]")
    assert reader._about(pk).redacted == ()
    reader.rest()
    assert reader._about(pk).redacted == ("distance",)
