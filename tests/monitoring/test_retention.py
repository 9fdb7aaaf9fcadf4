"""What a policy keeps no longer goes: whole files, oldest first, and no reader misses one."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pytest_django import Settings

from apps.audit.models import Event
from apps.monitoring.collector import Collector
from apps.monitoring.models import Expired, LogFile, Rollup, Segment
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.services import leftovers, log_files, retention
from apps.registry import policy
from apps.registry.models import Policy
from apps.serving.models import Endpoint
from tests.monitoring import making
from tests.monitoring.making import START_US, record, segment

DAY_US = 86_400_000_000
AT = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
pytestmark = pytest.mark.django_db


def keep(endpoint: Endpoint, now: datetime, **capture: float | str) -> None:
    """It puts a policy in force."""
    words = ", ".join(f"{name}: {value}" for name, value in capture.items())
    text = f"version: 1\nenvironments:\n  production:\n    serving: {{capture: {{{words}}}}}\n"
    Policy.objects.create(
        model=endpoint.model,
        number=endpoint.model.policies.count() + 1,
        document=policy.parse(text).model_dump(mode="json"),
        text=text,
        created_at=now,
    )


def logged(endpoint: Endpoint, day: int, *ids: str) -> LogFile:
    """It logs requests of one day, counted from the first of January 2030."""
    at = AT + day * DAY
    pk = endpoint.revisions.get(number=1).pk
    segment(pk, [record(START_US + day * DAY_US, id=each) for each in ids])
    Collector(now=lambda: at).tick()
    log_files.write(endpoint=endpoint, now=at)
    return LogFile.objects.get(endpoint=endpoint, day=at.date())


def size_of(file: LogFile) -> int:
    """What a file of the log takes with its rows."""
    return file.size_bytes + sum(file.row_files.values_list("size_bytes", flat=True))


def on_disk(var: Path) -> list[str]:
    return sorted(
        row
        for path in (var / "log").glob("*/*/*.parquet")
        for row in pq.read_table(path)["id"].to_pylist()
    )


def in_rows() -> list[int]:
    return list(LogFile.objects.order_by("day").values_list("day__day", flat=True))


def test_files_older_than_the_policy_says_go_by_their_newest_row(
    endpoint: Endpoint, var: Path
) -> None:
    for day in range(3):
        logged(endpoint, day, f"{day}")
    keep(endpoint, AT, keep_days=1.5)
    retention.expire(now=AT + 1.5 * DAY)
    assert in_rows() == [1, 2, 3]
    retention.expire(now=AT + 1.5 * DAY + timedelta(microseconds=1))
    assert in_rows() == [2, 3]
    assert on_disk(var) == ["1", "2"]
    assert not list(var.glob("log/*/day=2030-01-01"))
    retention.expire(now=AT + 30 * DAY)
    assert in_rows() == []
    assert on_disk(var) == []


def test_the_newest_policy_is_asked_and_without_a_limit_all_stays(
    endpoint: Endpoint, var: Path
) -> None:
    logged(endpoint, 0, "a")
    keep(endpoint, AT, keep_days=1)
    keep(endpoint, AT)
    retention.expire(now=AT + 1000 * DAY)
    assert on_disk(var) == ["a"]
    assert not Event.objects.exists()


def test_files_that_are_too_many_go_oldest_first(endpoint: Endpoint, var: Path) -> None:
    sizes = [size_of(logged(endpoint, day, f"{day}")) for day in range(3)]
    keep(endpoint, AT, keep_gb=(sizes[1] + sizes[2]) / retention.GB)
    retention.expire(now=AT)
    assert in_rows() == [2, 3]
    keep(endpoint, AT, keep_gb=(sizes[2] + 1) / retention.GB)
    retention.expire(now=AT)
    assert in_rows() == [3]
    assert on_disk(var) == ["2"]
    (kept,) = LogFile.objects.get().row_files.all()
    assert list(var.glob("rows/*/*/*")) == [var / "rows" / kept.path]


def test_an_endpoint_has_its_own_limit(endpoint: Endpoint, var: Path) -> None:
    other = making.endpoint(endpoint.model.team, AT, name="trains")
    logged(endpoint, 0, "flight")
    logged(other, 0, "train")
    keep(endpoint, AT, keep_days=1)
    keep(other, AT, keep_days=7)
    retention.expire(now=AT + 3 * DAY)
    assert on_disk(var) == ["train"]


def test_a_look_removes_a_limited_number(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "FILES_AT_ONCE", 2)
    for day in range(3):
        logged(endpoint, day, f"{day}")
    keep(endpoint, AT, keep_days=1)
    retention.expire(now=AT + 30 * DAY)
    assert in_rows() == [3]
    retention.expire(now=AT + 30 * DAY)
    assert in_rows() == []


def test_it_is_told_once_a_day_with_all_that_went(endpoint: Endpoint, var: Path) -> None:
    files = [logged(endpoint, day, f"{day}a", f"{day}b") for day in range(4)]
    size = size_of(files[0])
    keep(endpoint, AT, keep_days=1)
    told_at = AT + DAY + timedelta(seconds=1)
    retention.expire(now=told_at)
    event = Event.objects.get()
    assert (event.verb, event.object_label, event.at) == (
        "log.expired",
        "flights in production",
        told_at,
    )
    assert (event.actor, event.model_name, event.environment) == (None, "flights", "production")
    assert event.team_id == endpoint.model.team_id
    assert event.evidence == {
        "rows": 2,
        "files": 1,
        "size_bytes": size,
        "last_at": "2030-01-01T00:00:00+00:00",
    }
    keep(endpoint, AT, keep_days=0.5)
    retention.expire(now=told_at + 0.6 * DAY)
    assert in_rows() == [3, 4]
    assert Event.objects.count() == 1
    retention.expire(now=told_at + DAY)
    later = Event.objects.exclude(pk=event.pk).get()
    assert later.evidence["rows"] == 2
    assert later.evidence["last_at"] == "2030-01-02T00:00:00+00:00"
    tally = Expired.objects.get()
    assert (tally.rows, tally.files, tally.size_bytes) == (0, 0, 0)
    retention.expire(now=told_at + DAY)
    assert Event.objects.count() == 2


class Crash(BaseException):
    """A kill: nothing that stands after it runs, and nobody catches it."""


def crash(*_: object, **__: object) -> None:
    raise Crash


@pytest.mark.parametrize(
    ("holder", "step"),
    [(retention, "_commit"), (os, "unlink"), (os, "rmdir"), (retention, "_tell")],
)
def test_a_kill_between_any_two_steps_leaves_nothing_that_readers_miss(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch, holder: object, step: str
) -> None:
    logged(endpoint, 0, "old")
    logged(endpoint, 9, "new")
    keep(endpoint, AT, keep_days=7)
    folder = next(var.glob("log/*/day=2030-01-01"))
    for old in (folder, *folder.iterdir()):
        making.dated(old, START_US - 30 * 365 * DAY_US)  # in its month nobody sought there again
    with monkeypatch.context() as cut:
        cut.setattr(holder, step, crash)
        with pytest.raises(Crash):
            retention.expire(now=AT + 9 * DAY)
    for file in LogFile.objects.all():
        assert (var / "log" / file.path).exists()
    retention.expire(now=AT + 9 * DAY)
    leftovers.sweep(now=datetime.now(UTC))
    assert on_disk(var) == ["new"]
    assert in_rows() == [10]
    assert Event.objects.get().evidence["rows"] == 1


def test_a_segment_that_is_still_there_is_not_counted_again(endpoint: Endpoint, var: Path) -> None:
    pk = endpoint.revisions.get(number=1).pk
    path = segment(pk, [record(START_US, id="a")])
    content = path.read_bytes()
    Collector(now=lambda: AT).tick()
    log_files.write(endpoint=endpoint, now=AT)
    path.write_bytes(content)  # the collector was killed before it removed it
    making.dated(path, START_US)
    keep(endpoint, AT, keep_days=1)
    later = AT + 3 * DAY
    retention.expire(now=later)
    leftovers.sweep(now=later)
    assert Segment.objects.count() == 1
    Collector(now=lambda: later).tick()
    assert not path.exists()
    assert [row.requests for row in Rollup.objects.filter(width_seconds=86_400)] == [1]
    assert not LogFile.objects.exists()
    leftovers.sweep(now=later)
    assert not Segment.objects.exists()


def test_a_file_that_goes_while_it_is_read_is_no_error(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, stays = logged(endpoint, 0, "a"), logged(endpoint, 1, "a")
    real, looks = Path.exists, []

    def exists(path: Path, **named: Any) -> bool:
        there = real(path, **named)
        if path == var / "log" / gone.path:
            looks.append(there)
            path.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(Path, "exists", exists)
    found = selectors.find_request(endpoint, "a", AT)
    assert looks == [True, False]
    assert [row["at"] for row in found] == [stays.first_at]


def test_the_collector_looks_once_a_minute(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 100.0
    looks: list[str] = []

    def looked(what: str) -> Callable[..., None]:
        return lambda **_: looks.append(what)

    monkeypatch.setattr(retention, "expire", looked("log"))
    monkeypatch.setattr(retention, "limit_rejected", looked("rejected"))
    collector = Collector(now=lambda: AT, clock=lambda: seconds)
    collector.tick()
    seconds = 159.9
    collector.tick()
    assert looks == []
    seconds = 160.0
    collector.tick()
    collector.tick()
    assert looks == ["rejected", "log"]


def test_what_was_set_aside_first_goes_first(
    var: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    retention.limit_rejected()  # there is none yet
    folder = var / "spool" / "rejected"
    folder.mkdir(parents=True)
    linked = var / "linked"
    linked.write_bytes(b"x")
    (folder / "1.first").mkdir()
    (folder / "1.first" / "inner").write_bytes(b"x" * 400_000)
    making.dated(folder / "1.first", 4 * START_US // 3)  # a date of its own choice
    (folder / "2.second").symlink_to(linked)
    sparse = folder / "3.third"
    with sparse.open("wb") as file:
        file.truncate(1 << 40)
    for name in ("4.fourth", "5.fifth"):
        (folder / name).write_bytes(b"x" * 400_000)
    settings.REJECTED_MB = 2
    retention.limit_rejected()
    assert len(list(folder.iterdir())) == 5
    settings.REJECTED_MB = 1
    with caplog.at_level(logging.WARNING):
        retention.limit_rejected()
    assert sorted(path.name for path in folder.iterdir()) == [
        "2.second", "3.third", "4.fourth", "5.fifth",
    ]  # fmt: skip
    assert "Removed '1.first' from what was set aside" in caplog.text
    settings.REJECTED_MB = 0
    retention.limit_rejected()
    assert not list(folder.iterdir())
    assert linked.read_bytes() == b"x"
