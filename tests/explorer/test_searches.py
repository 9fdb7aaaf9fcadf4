"""Searches over files that the collector wrote: what is found, cancelled, lost, removed."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pytest_django import Settings

from apps.audit.models import Event
from apps.explorer import results, runner, selectors, services
from apps.explorer.forms import condition
from apps.explorer.models import Search
from apps.explorer.question import SearchRefused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job
from apps.monitoring.models import RowFile
from apps.serving.models import Endpoint
from tests.explorer.conftest import DAY, asked, collect, find, put, question, run
from tests.people import Cast

# A job's heartbeat writes from a thread of its own, which sees only what was committed.
pytestmark = pytest.mark.django_db(transaction=True)


def ids(search: Search) -> list[str]:
    if not search.result_path:
        return []
    table = pq.read_table(results.folder() / search.result_path)
    found: list[str] = table["id"].to_pylist()
    return found


FITTING = [
    (question(), "edcba"),
    (question(shadow="yes"), "a"),
    (question(shadow="both"), "edcbaa"),
    (question(revisions=(2,)), ""),
    (question(("in.distance", "gt", 150)), "edb"),
    (question(("in.distance", "between", [100, 200])), "ba"),
    (question(("in.distance", "in", [100, 300.0])), "da"),
    (question(("in.distance", "is_null", None)), "c"),
    (question(("in.distance", "not_null", None), ("in.origin", "ne", "JFK")), "db"),
    (question(("in.origin", "eq", "'; drop table x; --")), "d"),
    (question(("in.origin", "in", ["LGA", "' or 1=1"])), "b"),
    (question(("out.0", "le", 0.25)), "dcba"),
    (question(("latency_us", "lt", 1000)), "a"),
    (question(("caller", "eq", "other")), "c"),
    (question(caller="other"), "c"),
    (question(caller="' or ''='"), ""),
    (question(status="5xx"), "e"),
    (question(status="200", limit=2), "dc"),
    (question(latency_from_ms=2.5), "b"),
    (question(latency_to_ms=0.9), "a"),
    (question(request_id="a", shadow="both"), "aa"),
    (question(request_id='a" or "1"="1'), ""),
    (question(request_id="a" * 500), ""),
    (question(error="no such"), "e"),
    (question(error="%"), ""),
    (question(since=DAY + timedelta(seconds=1), until=DAY + timedelta(seconds=3)), "cb"),
    (question(order="sample", limit=5), "edcba"),
]


def test_what_fits_is_found(logged: Endpoint, cast: Cast, now: datetime) -> None:
    seen = []
    for asks, _ in FITTING:
        search = find(logged, cast, now, asks)
        seen.append((asks, "".join(ids(search))))
        assert (search.state, search.reason) == ("done", "")
        assert search.shown == len(seen[-1][1])

    assert seen == FITTING


def test_a_result_has_the_rows_and_what_was_sent(
    logged: Endpoint, cast: Cast, now: datetime
) -> None:
    search = find(logged, cast, now, question(("in.distance", "eq", 200)))

    [row] = pq.read_table(results.folder() / search.result_path).to_pylist()
    assert (row["in.distance"], row["in.origin"], row["out.0"]) == (200.0, "LGA", 0.25)
    assert (row["status"], row["latency_us"], row["version"]) == (200, 2500, 1)
    assert json.loads(row["request"]) == asked(200.0, "LGA")["request"]
    assert json.loads(row["response"]) == {"predictions": [0.25]}
    assert (search.found, search.truncated, search.reason) == (1, False, "")
    # The file of the copies is looked into too.
    assert (search.files_total, search.files_done) == (1, 1)
    path = results.folder() / search.result_path
    assert path.stat().st_mode & 0o077 == 0
    assert search.size_bytes == path.stat().st_size
    [event] = Event.objects.filter(verb="log.searched")
    assert (event.actor, event.evidence["conditions"][0]["column"]) == (cast.viewer, "in.distance")
    assert not list(results.folder().glob("work-*"))


def test_a_result_is_on_the_disk_before_it_has_its_name(
    logged: Endpoint, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine would leave an empty file of this name."""
    synced: list[tuple[int, list[str]]] = []
    sync = os.fsync

    def told(descriptor: int) -> None:
        names = [path.name for path in results.folder().glob(f"*{results.SUFFIX}")]
        synced.append((os.fstat(descriptor).st_ino, names))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", told)
    search = find(logged, cast, now, question())

    path = results.folder() / search.result_path
    assert (path.stat().st_ino, []) in synced


def test_more_than_was_wanted_is_told(logged: Endpoint, cast: Cast, now: datetime) -> None:
    search = find(logged, cast, now, question(limit=2))

    assert ids(search) == ["e", "d"]
    assert (search.found, search.shown, search.truncated) == (5, 2, True)


def test_older_files_are_left_alone_when_the_newest_have_enough(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    put(endpoint, asked(1.0, id="old"))
    collect(now)
    put(endpoint, asked(1.0, id="first"), asked(2.0, id="new"))
    collect(now)

    search = find(endpoint, cast, now, question(limit=1))

    assert ids(search) == ["new"]
    assert (search.files_total, search.files_done, search.truncated) == (2, 1, True)
    assert "1 of 2 files" in search.reason


def test_a_sample_is_the_same_however_the_files_lie(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    for part in range(4):
        put(endpoint, *(asked(float(n), id=f"r{part}-{n}") for n in range(50)))
        collect(now)

    first = find(endpoint, cast, now, question(order="sample", limit=20))
    second = find(endpoint, cast, now, question(order="sample", limit=20))

    assert len(ids(first)) == 20
    assert sorted(ids(first)) == sorted(ids(second))
    assert len({name[:2] for name in ids(first)}) > 1
    assert (first.found, first.files_done) == (200, 4)


def test_versions_with_other_columns_are_searched_together(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    """What is a number in one version may be a text in another, or not be there."""
    put(endpoint, asked(7.0, id="number"))
    put(endpoint, asked("far", id="text"), number=2)
    other = {"columns": ["weight"], "data": [[7.0]]}
    put(endpoint, asked(0, id="other", request={"dataframe_split": other}), number=2)
    collect(now)

    assert ids(find(endpoint, cast, now, question(("in.weight", "eq", 7)))) == ["other"]
    far = find(endpoint, cast, now, question(("in.distance", "eq", "far")))
    assert ids(far) == ["text"]
    whole = find(endpoint, cast, now, question())
    table = pq.read_table(results.folder() / whole.result_path)
    by_id = {row["id"]: row["in.distance"] for row in table.to_pylist()}
    assert by_id == {"number": "7.0", "text": "far", "other": None}


def test_numbers_are_found_beside_a_text_in_their_column(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    """Without a signature one wrong request makes its file's column one of text."""
    put(endpoint, asked(9.0, id="nine"), asked("far", id="text"), asked(100.0, id="hundred"))
    collect(now)

    assert ids(find(endpoint, cast, now, question(("in.distance", "gt", 50)))) == ["hundred"]
    assert ids(find(endpoint, cast, now, question(("in.distance", "between", [8, 99])))) == ["nine"]
    assert ids(find(endpoint, cast, now, question(("in.distance", "eq", "far")))) == ["text"]
    form = condition("in.distance", "gt", "50", {"in.distance": "text"})
    assert (form.value, condition("in.x", "gt", "b", {"in.x": "text"}).value) == (50.0, "b")


def test_names_that_differ_in_capitals_are_two_columns(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    split = {"columns": ["Age", "age"], "data": [[1.0, 2.0]]}
    put(endpoint, asked(0, id="x", request={"dataframe_split": split}))
    collect(now)

    assert ids(find(endpoint, cast, now, question(("in.age", "eq", 2)))) == ["x"]
    assert ids(find(endpoint, cast, now, question(("in.age", "eq", 1)))) == []
    assert ids(find(endpoint, cast, now, question(("in.Age", "eq", 1)))) == ["x"]


def test_a_column_may_have_any_name(endpoint: Endpoint, cast: Cast, now: datetime) -> None:
    odd = 'a"; drop table t; --'
    split = {"columns": [odd, "é ü"], "data": [[1.0, 2.0]]}
    put(endpoint, asked(0, id="x", request={"dataframe_split": split}))
    collect(now)

    assert ids(find(endpoint, cast, now, question((f"in.{odd}", "eq", 1)))) == ["x"]
    assert ids(find(endpoint, cast, now, question(("in.é ü", "gt", 2)))) == []


def test_what_waits_for_its_file_is_counted(endpoint: Endpoint, now: datetime) -> None:
    from apps.monitoring.collector import Collector

    put(endpoint, asked(1.0), asked(2.0))
    Collector(now=lambda: now).tick()
    assert selectors.waiting_rows(endpoint) == 2

    Collector(now=lambda: now + timedelta(seconds=61)).tick()
    assert selectors.waiting_rows(endpoint) == 0


def test_files_that_went_or_broke_are_told(
    endpoint: Endpoint, cast: Cast, now: datetime, var: Path
) -> None:
    for name in ("gone", "broken", "fine"):
        put(endpoint, asked(1.0, id=name))
        collect(now)
    gone, broken, _ = (var / "rows" / file.path for file in RowFile.objects.order_by("pk"))
    gone.unlink()
    broken.write_bytes(b"PAR1 no such thing")

    search = find(endpoint, cast, now, question())

    assert (search.state, ids(search)) == ("done", ["fine"])
    assert "1 file went by age or size meanwhile" in search.reason
    assert f"1 file could not be read: {broken.name}" in search.reason


def test_a_search_ends_when_its_time_is_over(
    logged: Endpoint, cast: Cast, now: datetime, settings: Settings
) -> None:
    settings.EXPLORER_SECONDS = 0.0

    search = find(logged, cast, now, question())

    assert (search.state, search.shown, search.truncated) == ("done", 0, True)
    assert search.reason.startswith("Stopped after 0 s with 0 of 1 file looked through")


def test_one_that_needs_too_much_memory_says_so(
    logged: Endpoint, cast: Cast, now: datetime, settings: Settings
) -> None:
    settings.EXPLORER_MEMORY_MB = 40

    search = find(logged, cast, now, question())

    assert (search.state, search.result_path) == ("failed", "")
    assert search.reason == (
        "It needed more than 40 MB of memory. Ask for fewer rows or a shorter time"
    )


def test_a_search_whose_worker_was_killed_is_done_by_the_next(
    logged: Endpoint, cast: Cast, now: datetime
) -> None:
    search = services.ask(endpoint=logged, question=question(), actor=cast.viewer, now=now)
    job = search.job
    assert job is not None
    assert job.claim(worker="gone:1", now=now, seconds=15)
    assert services.begin(row=search, running=jobs.Running(job), files_total=9, files_done=3)
    services.note(row=search, running=jobs.Running(job), found=7)
    half = results.folder() / f"work-{search.pk}-1"
    half.mkdir(parents=True)
    stale = jobs.Running(Job.objects.get(pk=job.pk))
    jobs.sweep(now=now + timedelta(seconds=16))

    run(job.pk)

    search.refresh_from_db()
    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 2)
    assert (search.state, search.found, search.files_total) == ("done", 5, 1)
    assert ids(search) == list("edcba")
    with pytest.raises(jobs.LeaseLost):
        services.note(row=search, running=stale, found=0)
    os.utime(half, (now.timestamp(), now.timestamp()))
    services.sweep(now=now + timedelta(hours=2))
    assert not half.exists()


def test_a_queued_search_is_cancelled_at_once(logged: Endpoint, cast: Cast, now: datetime) -> None:
    search = services.ask(endpoint=logged, question=question(), actor=cast.viewer, now=now)

    services.cancel(row=search, actor=cast.viewer, now=now)

    search.refresh_from_db()
    assert (search.state, search.reason) == ("cancelled", "Cancelled by vera")
    assert search.finished_at == now
    with pytest.raises(SearchRefused, match="has ended already"):
        services.cancel(row=search, actor=cast.viewer, now=now)


def test_a_running_search_stops_at_its_next_look_and_leaves_nothing(
    logged: Endpoint, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = services.ask(endpoint=logged, question=question(), actor=cast.viewer, now=now)
    assert search.job is not None
    ticker = runner._ticker

    def cancelled(row: Search, running: jobs.Running, spec: Any) -> Any:
        running.stop.set()  # as the heart does when it hears of the wish
        return ticker(row, running, spec)

    monkeypatch.setattr(runner, "_ticker", cancelled)
    run(search.job.pk)

    search.refresh_from_db()
    assert (search.state, search.result_path) == ("cancelled", "")
    assert list(results.folder().iterdir()) == []


def test_results_go_after_a_day_and_rows_after_a_month(
    logged: Endpoint, cast: Cast, now: datetime
) -> None:
    search = find(logged, cast, now, question())
    path = results.folder() / search.result_path
    assert search.expires_at is not None

    services.sweep(now=search.expires_at - timedelta(seconds=1))
    assert path.exists()
    services.sweep(now=search.expires_at)

    search.refresh_from_db()
    assert (path.exists(), search.result_path, search.size_bytes) == (False, "", 0)
    assert (search.state, search.shown) == ("done", 5)
    services.sweep(now=now + timedelta(days=31, seconds=1))
    assert not Search.objects.exists()


def test_the_oldest_results_make_room(
    logged: Endpoint, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(logged, cast, now, question(limit=1))
    second = find(logged, cast, now, question(limit=2))
    monkeypatch.setattr(services, "MOST_BYTES", second.size_bytes)

    services.sweep(now=datetime.now(UTC))

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.has_result, second.has_result) == (False, True)
    assert [path.name for path in results.folder().iterdir()] == [second.result_path]


def test_a_file_of_nobody_is_removed_when_it_is_an_hour_old(
    logged: Endpoint, cast: Cast, now: datetime
) -> None:
    search = find(logged, cast, now, question())
    orphan = results.folder() / "99.parquet"
    orphan.write_bytes(b"x")
    os.utime(orphan, (now.timestamp(), now.timestamp()))
    kept = results.folder() / search.result_path
    os.utime(kept, (now.timestamp(), now.timestamp()))

    Search.objects.update(expires_at=now + timedelta(days=9))
    services.sweep(now=now + timedelta(minutes=59))
    assert orphan.exists()
    services.sweep(now=now + timedelta(minutes=61))

    assert (orphan.exists(), kept.exists()) == (False, True)
