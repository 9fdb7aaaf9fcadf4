"""Counted segments become Parquet: every row once, whatever the moment of a crash."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.db import OperationalError, connection

from apps.core import duck
from apps.monitoring import drilldown, parquet
from apps.monitoring.collector import Collector
from apps.monitoring.models import LogFile, Segment
from apps.monitoring.services import leftovers, log_files
from apps.serving.models import Endpoint
from tests.monitoring.making import START_US, dated, record, segment, spans

DAY_US = 86_400_000_000


class Crash(BaseException):
    """A kill: nothing that stands after it runs, and nobody catches it."""


def collect(now: datetime) -> None:
    Collector(now=lambda: now).tick()


def logged(var: Path) -> list[str]:
    """The ids in the files that readers see."""
    return sorted(
        row
        for file in LogFile.objects.all()
        for row in pq.read_table(var / "log" / file.path)["id"].to_pylist()
    )


@pytest.mark.django_db
def test_rows_wait_a_minute(endpoint: Endpoint, now: datetime, var: Path) -> None:
    path = segment(endpoint.revisions.all()[0].pk, [record(START_US, id="a")])
    collect(now)
    collect(now + timedelta(seconds=59))
    assert not LogFile.objects.exists()
    assert path.exists()
    collect(now + timedelta(seconds=60))
    assert logged(var) == ["a"]
    assert not path.exists()
    assert Segment.objects.get().log_file == LogFile.objects.get()


@pytest.mark.django_db
def test_many_rows_do_not_wait(
    endpoint: Endpoint, now: datetime, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "ENOUGH_ROWS", 3)
    pk = endpoint.revisions.all()[0].pk
    segment(pk, [record(START_US, id="a"), record(START_US, id="b")])
    collect(now)
    assert not LogFile.objects.exists()
    segment(pk, [record(START_US, id="c")])
    segment(pk, [record(START_US, id="d")])
    collect(now)
    assert logged(var) == ["a", "b", "c"]
    assert Segment.objects.filter(log_file=None).count() == 1


@pytest.mark.django_db
def test_a_file_holds_what_was_asked_and_answered(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    one, two = endpoint.revisions.order_by("number")
    asked = {"inputs": [1.5, None, "é\u0000"]}
    segment(two.pk, [record(START_US + 5, id="late", us=7, shadow=True, request=asked)])
    segment(one.pk, [record(START_US, id="early", status=500, error="ValueError: no")])
    collect(now)
    collect(now + timedelta(seconds=60))
    file = LogFile.objects.get()
    assert file.path.startswith("endpoint=production.flights/day=2030-01-01/")
    assert (file.rows, file.day) == (2, date(2030, 1, 1))
    assert file.size_bytes == (var / "log" / file.path).stat().st_size
    assert file.first_at == datetime(2030, 1, 1, tzinfo=UTC)
    assert file.last_at == file.first_at + timedelta(microseconds=5)
    table = pq.ParquetFile(var / "log" / file.path).read()
    assert table.schema.equals(parquet.SCHEMA)
    early, late = table.to_pylist()
    assert early == {
        "id": "early", "at": file.first_at, "revision": one.pk, "version": 1, "status": 500,
        "latency_us": 1500, "format": "v2", "caller": "airline", "shadow": False,
        "request": '{"inputs":[{"name":"distance","data":[1.5]}]}',
        "response": '{"outputs":[[0.25]]}', "error": "ValueError: no", "share": 1.0,
    }  # fmt: skip
    assert (late["id"], late["revision"], late["version"]) == ("late", two.pk, 2)
    assert (late["latency_us"], late["shadow"]) == (7, True)
    assert json.loads(late["request"]) == asked


@pytest.mark.django_db
def test_midnight_parts_a_segment_over_two_files(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    pk = endpoint.revisions.all()[0].pk
    segment(pk, [record(START_US + DAY_US - 1, id="old"), record(START_US + DAY_US, id="new")])
    collect(now)
    collect(now + timedelta(seconds=60))
    assert sorted(LogFile.objects.values_list("day", "rows")) == [
        (date(2030, 1, 1), 1),
        (date(2030, 1, 2), 1),
    ]
    assert logged(var) == ["new", "old"]
    assert Segment.objects.get().log_file is not None
    assert not list(var.glob("spool/*/*.seg"))


@pytest.mark.django_db
def test_rows_that_are_gone_hold_up_nothing(
    endpoint: Endpoint, now: datetime, var: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pk = endpoint.revisions.all()[0].pk
    lost = segment(pk, [record(START_US, id="lost")])
    segment(pk, [record(START_US, id="kept")])
    collect(now)
    lost.unlink()
    collect(now + timedelta(seconds=60))
    assert logged(var) == ["kept"]
    gone = Segment.objects.get(name__endswith=lost.name)
    assert (gone.rows, gone.torn, gone.log_file) == (0, 1, None)
    assert "are lost" in caplog.text
    assert log_files.due(now=now + timedelta(hours=1)) == []


@pytest.mark.django_db
def test_a_batch_that_another_process_logged_leaves_no_file(
    endpoint: Endpoint, now: datetime, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment(endpoint.revisions.all()[0].pk, [record(START_US, id="a")])
    collect(now)
    chosen = log_files._chosen(endpoint)
    assert log_files.write(endpoint=endpoint, now=now) == 1
    segment_path = var / "spool" / chosen[0].name
    segment_path.write_text(json.dumps(record(START_US, id="a")))
    dated(segment_path, START_US)
    monkeypatch.setattr(log_files, "_chosen", lambda _: chosen)
    with pytest.raises(log_files.AlreadyLogged, match="1 segments"):
        log_files.write(endpoint=endpoint, now=now)
    assert logged(var) == ["a"]
    assert len(list(var.glob("log/*/*/*"))) == 1


def crash_before(real: Callable[..., Any]) -> Callable[..., Any]:
    def cut(*_: object, **__: object) -> None:
        raise Crash

    return cut


def crash_after(real: Callable[..., Any]) -> Callable[..., Any]:
    def cut(*args: object, **named: object) -> None:
        real(*args, **named)
        raise Crash

    return cut


def database_gone_before(real: Callable[..., Any]) -> Callable[..., Any]:
    def cut() -> None:
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    return cut


def database_gone_after(real: Callable[..., Any]) -> Callable[..., Any]:
    """The transaction is committed, and nobody learns of it."""

    def cut() -> None:
        real()
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    return cut


Crashing = Callable[[Callable[..., Any]], Callable[..., Any]]
STEPS: list[tuple[object, str]] = [
    (type(Segment.objects), "bulk_create"),
    (type(LogFile.objects), "create"),
    (os, "fsync"),
    (os, "rename"),
    (os, "unlink"),
    (parquet, "write"),
    (log_files, "_commit"),
]


@dataclass(frozen=True)
class Came:
    """What stood there in the end."""

    crashes: int
    requests: int  # in the sums
    logged: list[str]
    waiting: list[Path]  # segments in the spool
    on_disk: set[str]  # below the log's directory
    known: set[str]  # the files that readers see


# Six rows, each once everywhere, and no file that nobody knows.
SIX = [str(number) for number in range(6)]


def crash_and_go_on(
    patched: pytest.MonkeyPatch, endpoint: Endpoint, now: datetime, var: Path,
    holder: object, step: str, nth: int, when: Crashing,
) -> Came:  # fmt: skip
    """It collects six rows with one crash on the way, goes on, and looks at what came of it."""
    pk = endpoint.revisions.all()[0].pk
    for first in (0, 2, 4):
        segment(pk, [record(START_US, id=SIX[first]), record(START_US, id=SIX[first + 1])])
    real = getattr(holder, step)
    calls = []

    def crashing(*args: Any, **named: Any) -> Any:
        calls.append(step)
        return (when(real) if len(calls) == nth else real)(*args, **named)

    moments = [now, now + timedelta(seconds=60)]
    with patched.context() as cut:
        cut.setattr(holder, step, crashing)
        for moment in moments:
            try:
                collect(moment)
            except Crash:
                pass
            except OperationalError:
                connection.close()  # as the loop does
    for moment in moments:
        collect(moment + timedelta(minutes=2))
    waiting = list(var.glob("spool/*/*.seg"))
    leftovers.sweep(now=datetime.now(UTC) + timedelta(hours=1, seconds=1))
    return Came(
        crashes=int(len(calls) >= nth),
        requests=sum(spans().values_list("requests", flat=True)),
        logged=logged(var),
        waiting=waiting,
        on_disk={str(path.relative_to(var / "log")) for path in (var / "log").glob("*/*/*")},
        known=set(LogFile.objects.values_list("path", flat=True)),
    )


@pytest.mark.django_db
@pytest.mark.parametrize("when", [crash_before, crash_after])
@pytest.mark.parametrize(("holder", "step"), STEPS, ids=[name for _, name in STEPS])
def test_a_crash_between_any_two_steps_counts_nothing_twice_and_loses_nothing(
    endpoint: Endpoint, now: datetime, var: Path, monkeypatch: pytest.MonkeyPatch,
    when: Crashing, holder: object, step: str,
) -> None:  # fmt: skip
    came = crash_and_go_on(monkeypatch, endpoint, now, var, holder, step, 1, when)
    assert (came.crashes, came.requests, came.logged, came.waiting) == (1, 6, SIX, [])
    assert came.on_disk == came.known


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("when", [database_gone_before, database_gone_after])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_database_that_goes_at_a_commit_counts_nothing_twice_and_loses_nothing(
    endpoint: Endpoint, now: datetime, var: Path, monkeypatch: pytest.MonkeyPatch,
    when: Crashing, nth: int,
) -> None:  # fmt: skip
    came = crash_and_go_on(monkeypatch, endpoint, now, var, connection, "_commit", nth, when)
    assert (came.crashes, came.requests, came.logged, came.waiting) == (1, 6, SIX, [])
    assert came.on_disk == came.known


@pytest.mark.django_db
def test_orphans_stay_for_an_hour(endpoint: Endpoint, now: datetime, var: Path) -> None:
    segment(endpoint.revisions.all()[0].pk, [record(START_US, id="a")])
    collect(now)
    collect(now + timedelta(seconds=60))
    (kept,) = var.glob("log/*/*/*.parquet")
    orphan, unfinished = kept.with_name("x.parquet"), kept.with_name("y.tmp")
    orphan.touch()
    unfinished.touch()
    written_at = datetime.fromtimestamp(orphan.stat().st_mtime, UTC)
    leftovers.sweep(now=written_at + timedelta(minutes=59))
    assert orphan.exists()
    leftovers.sweep(now=written_at + timedelta(minutes=61))
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.django_db
def test_a_sweep_removes_what_is_old_and_nothing_else(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    pk = endpoint.revisions.all()[0].pk
    moment = datetime.fromtimestamp(START_US / 1e6, UTC)
    before = moment - timedelta(days=14, seconds=10)
    segment(pk, [record(round(before.timestamp() * 1e6), id="old")])
    collect(before)
    collect(before + timedelta(minutes=1))
    path = segment(pk, [record(START_US, id="new")])
    collect(moment)
    assert [row.at for row in spans().order_by("at")] == [before, moment]
    leftovers.sweep(now=moment)
    assert [row.at for row in spans().all()] == [moment]
    later = moment + timedelta(days=2)
    leftovers.sweep(now=later)
    assert Segment.objects.count() == 1  # its rows are not in the log yet
    log_files.write(endpoint=endpoint, now=moment)
    path.write_bytes(b"")
    leftovers.sweep(now=later)
    assert Segment.objects.count() == 1  # the file would be counted again
    path.unlink()
    leftovers.sweep(now=later)
    assert Segment.objects.count() == 0
    assert logged(var) == ["new", "old"]


@pytest.mark.django_db
def test_a_request_is_found_in_the_spool_and_in_the_log(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    from apps.monitoring.selectors import requests as selectors

    one, two = endpoint.revisions.order_by("number")
    segment(one.pk, [record(START_US, id="x"), record(START_US, id="y")])
    segment(two.pk, [record(START_US + 1, id="x", shadow=True)])
    since = datetime(2029, 12, 31, tzinfo=UTC)
    in_spool = selectors.find_request(endpoint, "x", since)
    assert [(row["revision"], row["shadow"]) for row in in_spool] == [
        (one.pk, False),
        (two.pk, True),
    ]
    collect(now)
    collect(now + timedelta(seconds=60))
    assert not list(var.glob("spool/*/*.seg"))
    assert selectors.find_request(endpoint, "x", since) == in_spool
    assert selectors.find_request(endpoint, "x' or 1=1 --", since) == []
    assert drilldown.in_files([var / "log" / "gone.parquet"], "x") == []


@pytest.mark.django_db
def test_a_request_is_looked_for_until_it_is_found_or_the_time_is_over(
    endpoint: Endpoint, now: datetime, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a busy endpoint only the newest files were searched, three days of a month."""
    from apps.monitoring.selectors import requests as selectors

    monkeypatch.setattr(selectors, "FILES_AT_ONCE", 1)
    pk = endpoint.revisions.get(number=1).pk
    times = [now + timedelta(days=day) for day in range(3)]
    for day, moment in enumerate(times):
        lines = [record(round(moment.timestamp() * 1e6), id=f"day {day}")]
        segment(pk, [*lines, record(round(moment.timestamp() * 1e6) + 9, id=f"also {day}")])
        collect(moment)
        collect(moment + timedelta(seconds=60))
    newest = [file.last_at for file in LogFile.objects.order_by("-last_at")]
    assert len(newest) == 3
    opened: list[int] = []
    in_files = drilldown.in_files

    def counted(paths: Sequence[Path], request_id: str) -> list[dict[str, Any]]:
        opened.append(len(paths))
        return in_files(paths, request_id)

    monkeypatch.setattr(drilldown, "in_files", counted)

    def look(request_id: str, **more: Any) -> tuple[list[str], datetime | None, int]:
        opened.clear()
        found = selectors.look_for(endpoint, request_id, now - timedelta(days=1), **more)
        return [row["id"] for row in found.rows], found.not_before, sum(opened)

    assert look("day 0") == (["day 0"], None, 3)
    assert look("day 2") == (["day 2"], None, 1)
    assert look("nobody") == ([], None, 3)
    ticks = iter(range(100))
    slow = {"clock": lambda: float(next(ticks)), "seconds": 1.5}
    assert look("day 0", **slow) == ([], newest[2], 2)
    # Who knows when it came needs no luck; what was asked again lately is looked for as well.
    assert look("day 0", **slow, near=times[0]) == (["day 0"], None, 2)
    assert look("day 0", near=times[1]) == (["day 0"], None, 4)


def test_a_file_that_goes_before_it_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {
        "id": "x", "at": datetime(2030, 1, 1, tzinfo=UTC), "revision": 1, "version": 1,
        "status": 200, "latency_us": 9, "shadow": False, "share": 1.0, "request": "{}",
        "response": "{}",
    }  # fmt: skip
    kept, gone = tmp_path / "kept.parquet", tmp_path / "gone.parquet"
    for path in (kept, gone):
        pq.write_table(pa.Table.from_pylist([row], parquet.SCHEMA), path)
    opened = duck.opened

    def late(*told: Any, **more: Any) -> Any:
        gone.unlink(missing_ok=True)
        return opened(*told, **more)

    monkeypatch.setattr(duck, "opened", late)

    assert [found["id"] for found in drilldown.in_files([kept, gone], "x")] == ["x"]


@pytest.mark.django_db
def test_a_row_says_how_likely_it_was_to_be_kept(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    from apps.monitoring.selectors import requests as selectors

    pk = endpoint.revisions.get(number=1).pk
    left_out = {"ts": START_US, "status": 200, "us": 9, "shadow": False, "kept": False}
    segment(pk, [record(START_US, id="x", share=0.25), left_out, record(START_US, id="y")])
    since = datetime(2029, 12, 31, tzinfo=UTC)
    in_spool = selectors.find_request(endpoint, "x", since)
    collect(now)
    collect(now + timedelta(seconds=60))
    table = pq.ParquetFile(var / "log" / LogFile.objects.get().path).read()
    assert (table["id"].to_pylist(), table["share"].to_pylist()) == (["x", "y"], [0.25, 1.0])
    assert [row["share"] for row in in_spool] == [0.25]
    assert selectors.find_request(endpoint, "x", since) == in_spool


def test_only_columns_that_repeat_have_a_dictionary(tmp_path: Path) -> None:
    size = 2 * parquet.LOOKED_AT
    lists = pa.array([["x"]] * size, pa.list_(pa.string()))
    table = pa.table(
        {
            "number": [float(n) for n in range(size)],
            "few": [float(n % 3) for n in range(size)],
            "word": ["UA", "B6"] * (size // 2),
            "id": [f"r-{n}" for n in range(size)],
            "absent": lists,
            "nothing": pa.nulls(size, pa.string()),
        }
    )
    path = parquet.write(table, tmp_path)
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    assert {c.path_in_schema for c in columns if c.has_dictionary_page} == {
        "few", "word", "absent.list.element", "nothing",
    }  # fmt: skip
    assert pq.ParquetFile(path).read().equals(table)
