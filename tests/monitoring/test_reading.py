"""Segments are read once for the sums and for the log, by other processes where much waits."""

import json
import os
import signal
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings

from apps.monitoring import contents, places
from apps.monitoring.collector import Collector
from apps.monitoring.handing import Memory
from apps.monitoring.models import LogFile, RowFile, Segment
from apps.monitoring.services import reading
from apps.monitoring.services.segments import Found
from apps.serving.models import Endpoint
from tests.monitoring import dying
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


def test_of_what_kills_its_reader_the_collector_lives_on_and_others_are_counted(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "POOL_BYTES", 1)
    monkeypatch.setattr(contents, "begin", dying.begin)
    pk = endpoint.revisions.all()[0].pk
    innocent = [segment(pk, [record(START_US)]) for _ in range(3)]
    deadly = segment(pk, [record(START_US), record(START_US, id=dying.ALWAYS)])
    innocent += [segment(pk, [record(START_US)]) for _ in range(3)]
    moments = [now]
    works = Collector(now=lambda: moments[-1])
    try:
        works.tick()
        segment(pk, [record(START_US)])
        works.tick()
        moments.append(now + timedelta(minutes=1))
        works.tick()
    finally:
        works.close(wait=True)
    set_aside = Segment.objects.exclude(set_aside="").get()
    assert set_aside.name == f"{pk}/{deadly.name}"
    assert set_aside.set_aside.startswith("Two processes ended while they read it: ")
    assert not deadly.exists()
    assert (places.rejected() / f"{pk}.{deadly.name}").exists()
    assert [row.requests for row in spans()] == [7]
    assert (LogFile.objects.get().rows, RowFile.objects.get().rows) == (7, 7)
    assert not any(path.exists() for path in innocent)


def test_a_segment_whose_reader_was_killed_once_is_read_again(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "POOL_BYTES", 1)
    monkeypatch.setattr(contents, "begin", dying.begin)
    pk = endpoint.revisions.all()[0].pk
    segment(pk, [record(START_US, id=dying.ONCE)])
    segment(pk, [record(START_US)])
    moments = [now]
    works = Collector(now=lambda: moments[-1])
    try:
        works.tick()
        moments.append(now + timedelta(minutes=1))
        works.tick()
    finally:
        works.close(wait=True)
    assert (settings.STACK.var / dying.ONCE).exists()
    assert not Segment.objects.exclude(set_aside="").exists()
    assert [row.requests for row in spans()] == [2]
    assert (LogFile.objects.get().rows, RowFile.objects.get().rows) == (2, 2)
    assert works._reader._suspects == set()


def test_a_process_that_was_killed_while_it_had_nothing_to_do_blames_nobody(
    endpoint: Endpoint,
) -> None:
    pk = endpoint.revisions.all()[0].pk
    found = [Found(pk, segment(pk, [record(START_US)])) for _ in range(2)]
    reader = reading.Reader()
    reader._suspects.update(found)
    try:
        assert reader.read(found[0]).rows == 1
        single = reader._single
        assert single is not None
        ((pid, process),) = single._processes.items()
        os.kill(pid, signal.SIGKILL)
        process.join()
        assert reader.read(found[1]).rows == 1
    finally:
        reader.close(wait=True)
    assert reader._suspects == set()


def test_the_next_collector_suspects_what_the_last_one_died_of(
    endpoint: Endpoint, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[str] = []
    real = contents.read

    def seen(path: Path, about: contents.About) -> contents.Contents:
        noted.append(places.reading().read_text())
        return real(path, about)

    monkeypatch.setattr(contents, "read", seen)
    monkeypatch.setattr(contents, "begin", dying.begin)
    pk = endpoint.revisions.all()[0].pk
    deadly = segment(pk, [record(START_US, id=dying.ALWAYS)])
    found = Found(pk, deadly)
    reading.Reader().read(found)
    assert noted == [found.name]
    assert not places.reading().exists()
    places.reading().write_text(noted.pop())
    innocent = segment(pk, [record(START_US)])
    works = Collector(now=lambda: now)
    try:
        works.tick()
    finally:
        works.close(wait=True)
    assert noted == [f"{pk}/{innocent.name}"]
    assert Segment.objects.exclude(set_aside="").get().name == found.name
    assert [row.requests for row in spans()] == [1]


@pytest.mark.parametrize("text", ["", "7", "7/../x", "x/1.0.1-1.00000001.seg"])
def test_a_note_that_names_no_segment_says_nothing(text: str, var: Path) -> None:
    places.reading().write_text(text)
    assert reading.Reader()._suspects == set()


def test_what_is_handed_over_is_what_was_read(endpoint: Endpoint) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US), record(START_US + 1)])
    about = contents.About(1, 2)
    plain = contents.read(path, about)
    memory = Memory()
    handed = contents.hand(path, about, memory.path)
    assert isinstance(handed, contents.Handed)
    assert (handed.contents.log.num_rows, handed.contents.predictions.num_rows) == (0, 0)
    whole = handed.whole(memory)
    assert whole.log.equals(plain.log)
    assert whole.predictions.equals(plain.predictions)
    assert (whole.rows, whole.stamp, whole.size) == (plain.rows, plain.stamp, plain.size)
    piped = contents.hand(path, about, None)
    assert isinstance(piped, contents.Contents)
    assert piped.log.equals(plain.log)
    gone = contents.hand(path, about, f"/proc/{os.getpid()}/fd/no")
    assert isinstance(gone, contents.Contents)


def test_memory_is_given_back(endpoint: Endpoint) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US)])

    memory = Memory()
    handed = contents.hand(path, contents.About(1), memory.path)
    assert isinstance(handed, contents.Handed)
    assert memory.path is not None
    mapped = f" {Path(memory.path).stat().st_ino} "
    whole = handed.whole(memory)
    del memory
    assert mapped in _shared()
    assert whole.log.num_rows == 1
    del whole
    assert mapped not in _shared()


def _shared() -> str:
    maps = Path("/proc/self/maps").read_text().splitlines()
    return "\n".join(f"{line} " for line in maps if "memfd:tables" in line)


def test_a_policy_that_changed_is_asked_anew(endpoint: Endpoint, now: datetime) -> None:
    pk = endpoint.revisions.all()[0].pk
    reader = reading.Reader()
    assert reader._about(pk).redacted == ()
    keep(endpoint, now, redact="[distance]")
    assert reader._about(pk).redacted == ()
    reader.rest()
    assert reader._about(pk).redacted == ("distance",)
