"""Whatever a caller sends or a model's code does to its spool: the others are counted, logged."""

import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.monitoring import collector, parquet, segments
from apps.monitoring.collector import Collector
from apps.monitoring.models import LogFile, Segment
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.services import leftovers
from apps.monitoring.services import segments as counting
from apps.monitoring.sums import Answers, by_span
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision
from tests.monitoring.making import (
    START_US,
    access_log,
    append,
    dated,
    line,
    name,
    record,
    segment,
    spans,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000
pytestmark = pytest.mark.django_db


@pytest.fixture
def stable(endpoint: Endpoint) -> Revision:
    assert endpoint.stable is not None
    return endpoint.stable


def collect() -> None:
    """It counts what there is, and a minute later it logs it."""
    works = Collector(now=lambda: AT)
    works.tick()
    works.tick()
    Collector(now=lambda: AT + timedelta(minutes=1)).tick()


def rows(var: Path) -> dict[str, dict[str, Any]]:
    """What stands in the log, by the id of the request."""
    read = [pq.ParquetFile(var / "log" / file.path).read() for file in LogFile.objects.all()]
    return {row["id"]: row for table in read for row in table.to_pylist()}


def aside(var: Path) -> list[str]:
    return sorted(path.name for path in (var / "spool" / "rejected").glob("*"))


def counted() -> int:
    return sum(spans().filter(origin="server").values_list("requests", flat=True))


@pytest.mark.parametrize("levels", [255, 600, 1023])
def test_a_body_nested_deep_does_not_end_the_log(stable: Revision, var: Path, levels: int) -> None:
    body = "[" * levels + "]" * levels
    written = json.dumps(record(START_US, id="deep", request="#")).replace('"#"', body).encode()
    path = segment(stable.pk, [record(START_US, id="first")], tail=written + b"\n")
    segment(stable.pk, [record(START_US, id="behind")])
    (found,) = selectors.find_request(stable.endpoint, "deep", AT - timedelta(days=1))
    assert found["request"] == {"raw": body}
    collect()
    assert not path.exists()
    logged = rows(var)
    assert logged.keys() == {"first", "deep", "behind"}
    assert json.loads(logged["deep"]["request"]) == {"raw": body}
    assert selectors.find_request(stable.endpoint, "deep", AT - timedelta(days=1)) == [found]
    assert aside(var) == []


def failing(real: Callable[..., Any], at: Callable[..., bool]) -> Callable[..., Any]:
    """The function, but that it fails as a bug of ours would when it gets to one thing."""

    def fails(*args: Any, **named: Any) -> Any:
        if at(*args):
            raise RuntimeError("nobody thought of this")
        return real(*args, **named)

    return fails


def read_fails(monkeypatch: pytest.MonkeyPatch, bad: Path) -> None:
    opens = failing(segments._content, lambda path: path == bad)
    monkeypatch.setattr(segments, "_content", opens)


def count_fails(monkeypatch: pytest.MonkeyPatch, bad: Path) -> None:
    def has(answers: Answers) -> bool:
        return 777 in answers.status

    monkeypatch.setattr(counting, "by_span", failing(by_span, has))


def log_fails(monkeypatch: pytest.MonkeyPatch, bad: Path) -> None:
    def has(read: segments.Segment) -> bool:
        return "bad" in read.id

    monkeypatch.setattr(parquet, "batch", failing(parquet.batch, has))


def write_fails(monkeypatch: pytest.MonkeyPatch, bad: Path) -> None:
    def has(table: pa.Table, folder: Path) -> bool:
        return "bad" in table["id"].to_pylist()

    monkeypatch.setattr(parquet, "write", failing(parquet.write, has))


@pytest.mark.parametrize(
    ("breaks", "why", "sums"),
    [
        (read_fails, "Reading it raised RuntimeError", 2),
        (count_fails, "Counting it raised RuntimeError", 2),
        (log_fails, "Logging it raised RuntimeError", 3),
        (write_fails, "Logging it raised RuntimeError", 3),
    ],
)
def test_a_segment_that_raises_anything_is_set_aside_alone(
    stable: Revision, var: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    breaks: Callable[[pytest.MonkeyPatch, Path], None], why: str, sums: int,
) -> None:  # fmt: skip
    segment(stable.pk, [record(START_US, id="before")])
    bad = segment(stable.pk, [record(START_US, id="bad", status=777)])
    content = bad.read_bytes()
    segment(stable.pk, [record(START_US, id="behind")])
    breaks(monkeypatch, bad)
    collect()
    assert counted() == sums
    assert rows(var).keys() == {"before", "behind"}
    assert aside(var) == [f"{stable.pk}.{bad.name}"]
    assert (var / "spool" / "rejected" / f"{stable.pk}.{bad.name}").read_bytes() == content
    row = Segment.objects.get(name=f"{stable.pk}/{bad.name}")
    assert (row.rows, row.set_aside, row.log_file) == (0, why, None)
    assert selectors.set_aside(stable.endpoint, AT) == 1
    assert "nobody thought of this" in caplog.text
    assert "is set aside in" in caplog.text


def test_a_search_goes_on_behind_a_segment_that_raises(
    stable: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = segment(stable.pk, [record(START_US, id="x")])
    segment(stable.pk, [record(START_US + 1, id="x")])
    read_fails(monkeypatch, bad)
    (found,) = selectors.find_request(stable.endpoint, "x", AT - timedelta(days=1))
    assert found["at"] == AT + timedelta(microseconds=1)


def test_a_disk_that_is_full_holds_up_nothing_and_loses_nothing(
    stable: Revision, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = segment(stable.pk, [record(START_US)])
    segment(stable.pk, [record(START_US, id="behind")])
    real = Path.rename

    def full(path: Path, target: Path) -> Path:
        if "rejected" in str(target):
            raise OSError(28, "No space left on device")
        return real(path, target)

    with monkeypatch.context() as broken:
        read_fails(broken, bad)
        broken.setattr(Path, "rename", full)
        collect()
    assert rows(var).keys() == {"behind"}
    assert bad.exists()
    collect()
    assert (bad.exists(), aside(var)) == (False, [f"{stable.pk}.{bad.name}"])
    assert counted() == 1


def test_callers_are_counted_when_segments_cannot_be(
    stable: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(counting, "count", fails)
    segment(stable.pk, [record(START_US)])
    append(access_log(), line(START_US, stable))
    with pytest.raises(RuntimeError):
        Collector(now=lambda: AT).tick()
    assert spans().get().origin == "gateway"


def test_a_tick_that_fails_does_not_end_the_process(
    var: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0.0)
            if len(pauses) == 3:
                self.set()
            return self.is_set()

    def tick(_: Collector) -> bool:
        if len(pauses) < 2:
            raise RuntimeError("nobody thought of this")
        return False

    monkeypatch.setattr(Collector, "tick", tick)
    Collector().run(Stop())
    assert pauses == [0.5, 1.0, 0.25]
    assert "nobody thought of this" in caplog.text


@pytest.mark.parametrize("suffix", [".open", ".seg"])
def test_a_pipe_hangs_nothing(stable: Revision, var: Path, suffix: str) -> None:
    good = segment(stable.pk, [record(START_US, id="good")])
    pipe = good.with_name(name(stable.pk)).with_suffix(suffix)
    os.mkfifo(pipe)
    later = datetime.fromtimestamp(pipe.lstat().st_mtime, UTC) + timedelta(minutes=2)
    sealing = threading.Thread(target=leftovers.seal_abandoned, kwargs={"now": later}, daemon=True)
    sealing.start()
    sealing.join(10)
    assert not sealing.is_alive()
    collect()
    assert rows(var).keys() == {"good"}
    assert aside(var) == [f"{stable.pk}.{pipe.with_suffix('.seg').name}"]


def test_what_a_model_says_it_dropped_fits_the_column(stable: Revision) -> None:
    most = 2_147_483_647
    segment(stable.pk, [{"dropped": most, "ts": START_US}] * 2 + [{"dropped": most + 1}])
    segment(stable.pk, [record(START_US)])
    Collector(now=lambda: AT).tick()
    assert list(Segment.objects.order_by("pk").values_list("dropped", "torn")) == [
        (most, 1),
        (0, 0),
    ]
    assert counted() == 1


def test_shares_and_names_that_no_server_writes(stable: Revision, var: Path) -> None:
    fine = record(START_US, id="i" * 500, caller="c" * 600, share=1e-6)
    segment(
        stable.pk,
        [fine, record(START_US, share=5e-324), record(START_US, share=9e-7),
         record(START_US, id="i" * 501)],
    )  # fmt: skip
    collect()
    assert list(Segment.objects.values_list("torn", flat=True)) == [3]
    (row,) = rows(var).values()
    assert (row["id"], row["caller"]) == ("i" * 500, "c" * 500)


@pytest.mark.parametrize(
    "odd",
    [
        b"9" * 220 + b".0.1-1.00000000.seg",
        b"1.0.1-1.0000\xff000.seg",
        b"1.0.1-1.00000000.seg.seg",
        b"other.open",
        "1.0.1-1.0000000\u0661.seg".encode(),
    ],
)
def test_what_has_no_segments_name_is_set_aside(stable: Revision, var: Path, odd: bytes) -> None:
    good = segment(stable.pk, [record(START_US, id="good")])
    path = os.fsencode(good.parent) + b"/" + odd
    Path(os.fsdecode(path)).write_bytes(good.read_bytes())
    dated(Path(os.fsdecode(path)), START_US)
    collect()
    assert rows(var).keys() == {"good"}
    assert counted() == 1
    (kept,) = aside(var)
    assert kept.startswith(f"{stable.pk}.odd-")
    assert selectors.set_aside(stable.endpoint, AT) == 1
    assert not list(good.parent.iterdir())


def test_a_directory_holds_up_nothing(stable: Revision, var: Path) -> None:
    (segment(stable.pk, [record(START_US)]).parent / name(stable.pk)).mkdir()
    counted_first = segment(stable.pk, [], tail=b'{"dropped":1}\n')
    works = Collector(now=lambda: AT)
    works.tick()
    counted_first.mkdir()  # in the place of what was counted and removed
    (counted_first / "x").touch()
    segment(stable.pk, [record(START_US)])
    Collector(now=lambda: AT).tick()
    assert counted() == 2
    assert len(aside(var)) == 2


@pytest.mark.parametrize("into", ["link", "nothing"])
def test_a_segment_that_changes_before_it_is_logged_is_set_aside(
    stable: Revision, var: Path, into: str
) -> None:
    changed = segment(stable.pk, [record(START_US, id="changed")])
    segment(stable.pk, [record(START_US, id="behind")])
    Collector(now=lambda: AT).tick()
    changed.unlink()
    if into == "link":
        changed.symlink_to(changed)
    else:
        changed.touch()
    collect()
    assert rows(var).keys() == {"behind"}
    assert aside(var) == [f"{stable.pk}.{changed.name}"]
    assert selectors.set_aside(stable.endpoint, AT) == 1


def test_times_far_from_the_files_own_are_no_records(stable: Revision, var: Path) -> None:
    year = 365 * DAY_US
    near = [record(START_US), record(START_US - DAY_US), record(START_US + DAY_US)]
    far = [record(START_US + sign * DAY_US + sign) for sign in (1, -1)]
    far += [record(START_US + years * year) for years in range(-29, 60) if years]
    segment(stable.pk, near + far)
    Collector(now=lambda: AT + timedelta(hours=1)).tick()
    assert (Segment.objects.get().rows, Segment.objects.get().torn) == (3, len(far))
    assert sorted(spans().values_list("at", flat=True)) == [
        AT - timedelta(days=1),
        AT,
        AT + timedelta(days=1),
    ]


def test_a_file_that_is_dated_elsewhere_is_logged_and_in_no_sum(
    stable: Revision, var: Path
) -> None:
    for days in (-15, -13, 2):
        segment(stable.pk, [record(START_US + days * DAY_US, id=str(days))])
    collect()
    assert rows(var).keys() == {"-15", "-13", "2"}
    assert spans().get().at == AT - timedelta(days=13)


def test_sums_of_many_spans_are_added_in_parts(
    stable: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "SPANS_AT_ONCE", 2)
    times = [START_US + number * 10_000_000 for number in (4, 0, 2, 1, 3, 0, 4, 4)]
    for pk in stable.endpoint.revisions.values_list("pk", flat=True):
        segment(pk, [record(at) for at in times])
    Collector(now=lambda: AT).tick()
    for revision in stable.endpoint.revisions.all():
        seen = spans().filter(revision=revision).order_by("at").values_list("requests", flat=True)
        assert list(seen) == [2, 1, 1, 1, 3]


def test_large_segments_are_counted_one_at_a_time(
    stable: Revision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "BATCH_BYTES", 1)
    for _ in range(3):
        segment(stable.pk, [record(START_US)])
    works = Collector(now=lambda: AT)
    assert [works.count_segments() for _ in range(3)] == [True, True, False]
    assert counted() == 3


def test_a_spool_that_its_model_shut_does_not_hold_up_the_others(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = endpoint.revisions.order_by("number")
    shut = segment(one.pk, [record(START_US)]).parent
    segment(two.pk, [record(START_US)])
    real = segments.listing

    def listing(folder: Path) -> segments.Listing:
        if folder == shut:
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(segments, "listing", listing)
    times = iter([0.0, 0.0, 0.0])
    works = Collector(now=lambda: AT, clock=lambda: next(times, 60.0))
    works.tick()
    assert spans().get().revision == two
    assert f"The spool of revision {one.pk} cannot be listed" in caplog.text


def test_empty_spools_of_what_stopped_are_removed(endpoint: Endpoint, var: Path) -> None:
    runs, stopped = endpoint.revisions.order_by("number")
    spool = var / "spool"
    used = segment(stopped.pk, [record(START_US)])
    for revision in (runs.pk, 987_654):
        (spool / str(revision)).mkdir()
    stopped.wanted = RevisionWish.STOP
    stopped.save()

    def left() -> set[str]:
        leftovers.remove_empty_folders()
        return {path.name for path in spool.iterdir()}

    used.rename(var / "elsewhere")
    assert left() == {str(runs.pk), str(stopped.pk)}  # its last process may write yet
    stopped.state = RevisionState.STOPPED
    stopped.save()
    (var / "elsewhere").rename(used)
    assert left() == {str(runs.pk), str(stopped.pk)}  # what it left is not counted yet
    used.unlink()
    assert left() == {str(runs.pk)}
