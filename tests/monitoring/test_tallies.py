"""Rows are counted in the bins of baselines: each file once for each lens, whatever crashes."""

import contextlib
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.db import IntegrityError, connection

from apps.audit.models import Event
from apps.baselines import packing
from apps.baselines.layout import Layout, Role, fit, pack64
from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.core.errors import Refused
from apps.monitoring import conditions, histogram, windows
from apps.monitoring.collector import Collector
from apps.monitoring.models import Counted, RowFile, Slice, Tally
from apps.monitoring.selectors import tallies as selectors
from apps.monitoring.services import leftovers, log_files, slices, tallies
from apps.serving.models import Endpoint
from tests.factories.accounts import UserFactory
from tests.monitoring.making import START_US, record, segment

AT = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
pytestmark = pytest.mark.django_db


def baseline(endpoint: Endpoint, number: int = 1, of: int = 1) -> Baseline:
    """The bins of x from 0 to 99 and of two carriers, for the version of a revision."""
    revision = endpoint.revisions.get(number=of)
    table = pa.table(
        {"in.x": np.arange(100.0), "in.carrier": ["UA", "B6"] * 50, "out.0": np.arange(100.0) * 2}
    )
    roles = {"in.x": Role.INPUT, "in.carrier": Role.INPUT, "out.0": Role.OUTPUT}
    layout = fit(table, roles, None)
    return Baseline.objects.create(
        version=revision.version,
        number=number,
        origin="training",
        state="ready",
        rows=100,
        layout=layout.as_json(),
        counts=pack64(layout.count(table)[0]),
        created_at=AT,
        frozen_at=AT,
    )


def asked(second: float, *rows: tuple[Any, Any], **more: Any) -> dict[str, Any]:
    request = {"dataframe_split": {"columns": ["x", "carrier"], "data": [*map(list, rows)]}}
    return record(
        START_US + round(second * 1e6),
        **{
            "format": "mlflow",
            "request": request,
            "response": {"predictions": [len(rows)] * len(rows)},
        }
        | more,
    )


def collect(now: datetime = AT) -> None:
    Collector(now=lambda: now).tick()
    Collector(now=lambda: now + MINUTE).tick()


def spans(**where: Any) -> dict[datetime, Tally]:
    rows = (
        Tally.objects.filter(width_seconds=60, slice=None, shadow=False)
        if not where
        else (Tally.objects.filter(**where))
    )
    return {row.at: row for row in rows}


def test_a_span_holds_what_its_rows_were(endpoint: Endpoint) -> None:
    made = baseline(endpoint)
    revision = endpoint.revisions.get(number=1)
    segment(
        revision.pk,
        [
            asked(0, (5, "UA"), (50, "XX"), us=1000, share=0.5),
            asked(59, (None, "B6"), us=2000),
            asked(30, (1, "UA"), status=400),
            asked(31, (1, "UA"), status=503),
            asked(32, status=200),  # no row at all
            asked(60, (200, "B6"), us=3000),
            asked(1, (5, "B6"), shadow=True),
        ],
    )
    collect()
    found = spans()
    assert list(found) == [AT, AT + MINUTE]
    first = found[AT]
    assert (first.revision, first.baseline, first.rows) == (revision, made, 3)
    assert (first.requests, first.client_errors, first.server_errors) == (6.0, 1.0, 1.0)
    bins = histogram.unpack(first.latency_bins)
    assert bins.tolist() == histogram.from_us([1000, 1000, 2000, 1500]).tolist()
    layout = shape(made).layout
    counts = packing.unpack(first.counts)
    start, stop = layout.slices["in.x"]
    assert counts[start:stop].sum() == 2
    assert counts[stop] == 1  # missing
    words = layout.by_name["in.carrier"].labels()
    start, stop = layout.slices["in.carrier"]
    seen = dict(zip(words, counts[start:stop].tolist(), strict=True))
    assert seen == {"UA": 1, "B6": 1, "other": 0, "unseen": 1}
    (shadow,) = Tally.objects.filter(width_seconds=60, shadow=True)
    assert (shadow.rows, shadow.requests) == (1, 1.0)
    assert Counted.objects.count() == 1


def expected(var: Path, lens: tuple[Layout, list[dict[str, Any]] | None], revision: int) -> Any:
    """What the committed files of a revision come to."""
    layout, condition = lens
    total, rows = np.zeros(layout.size, np.int64), 0
    for file in RowFile.objects.filter(revision=revision):
        table = pq.ParquetFile(var / "rows" / file.path).read()
        held = np.ones(len(table), bool)
        if condition is not None:
            held = conditions.mask(condition, table)
        total += layout.count(table, np.where(held, 0, -1), 1)[0]
        status = table["status"].to_numpy()
        rows += int(
            (held & (status >= 200) & (status < 300) & (table["row"].to_numpy() >= 0)).sum()
        )
    return rows, total.tolist()


def whole(made: Baseline, width: int, part: Slice | None = None) -> Any:
    found = Tally.objects.filter(baseline=made, slice=part, width_seconds=width)
    counts = [packing.unpack(row.counts) for row in found]
    return sum(row.rows for row in found), (np.sum(counts, axis=0)).tolist()


def test_tiers_and_slices_are_the_files(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = baseline(endpoint)
    pk = endpoint.revisions.get(number=1).pk
    actor = UserFactory.create()
    condition = [{"column": "in.x", "op": "lt", "value": 50}]
    part = slices.create(endpoint=endpoint, name="small", condition=condition, actor=actor, now=AT)
    for late in (0, 1, 2):
        segment(pk, [asked(n * 37 + late, (n, "UA"), (99 - n, n)) for n in range(100)])
        collect(AT + late * DAY)
    layout = shape(made).layout
    for width in windows.TALLIES:
        assert whole(made, width) == expected(var, (layout, None), pk)
        assert whole(made, width, part) == expected(var, (layout, condition), pk)
    assert Counted.objects.count() == 2 * RowFile.objects.count() == 6
    assert sum(row.requests for row in Tally.objects.filter(slice=part, width_seconds=60)) == 300
    seen = selectors.window(endpoint, made, AT, AT + DAY, now=AT)
    assert (seen.rows, seen.counts.tolist()) == whole(made, 86_400)
    assert seen.requests == 300.0
    day = Tally.objects.get(slice=None, width_seconds=86_400, at=AT)
    assert int(histogram.unpack(day.latency_bins).sum()) == day.requests
    assert (seen.first_at, seen.last_at) == (AT, AT + DAY)
    small = selectors.window(endpoint, made, AT, AT + DAY, slice=part, now=AT)
    assert (small.rows, small.counts.tolist()) == whole(made, 60, part)
    starts, counts, rows = selectors.series(endpoint, made, AT, AT + 62 * MINUTE, 300, now=AT)
    assert starts == [AT + n * 5 * MINUTE for n in range(13)]
    assert (int(rows.sum()), counts.sum(axis=0).tolist()) == whole(made, 3_600)
    monkeypatch.setattr(selectors, "AT_ONCE", 5)  # three portions, the last of three spans
    parts = selectors.series(endpoint, made, AT, AT + 62 * MINUTE, 300, now=AT)
    assert (parts[0], parts[1].tolist(), parts[2].tolist()) == (
        starts, counts.tolist(), rows.tolist(),
    )  # fmt: skip
    nothing = selectors.window(endpoint, made, AT, AT + DAY, revisions=[], now=AT)
    assert (nothing.rows, int(nothing.counts.sum()), nothing.first_at) == (0, 0, None)
    slices.retire(part=part, actor=actor, now=AT)
    segment(pk, [asked(0, (1, "UA"))])
    collect(AT + 3 * DAY)
    assert whole(made, 60)[0] == 601
    assert whole(made, 60, part)[0] == 300  # as before it was retired


def test_a_new_baseline_counts_what_was_there_before_newest_first(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.get(number=1).pk
    for number in range(3):
        segment(pk, [asked(number * 60, (number, "UA"))])
        collect(AT + number * DAY)
    assert not Tally.objects.exists()
    first = baseline(endpoint)
    assert tallies.count(now=AT, most=2)
    assert sorted(spans()) == [AT + MINUTE, AT + 2 * MINUTE]
    assert not tallies.count(now=AT, most=2)
    assert whole(first, 86_400)[0] == 3
    second = baseline(endpoint, number=2)
    assert not tallies.count(now=AT)
    assert (whole(first, 60)[0], whole(second, 60)[0]) == (3, 3)
    assert Counted.objects.count() == 6


def test_fine_tiers_of_old_rows_are_not_written(endpoint: Endpoint) -> None:
    baseline(endpoint)
    segment(endpoint.revisions.get(number=1).pk, [asked(0, (1, "UA"))])
    collect(AT)
    Tally.objects.all().delete()
    Counted.objects.all().delete()
    tallies.count(now=AT + 30 * DAY)
    widths = Tally.objects.order_by("width_seconds").values_list("width_seconds", flat=True)
    assert list(widths) == [300, 3_600, 86_400]
    leftovers.sweep(now=AT + 32 * DAY)
    assert list(widths.all()) == [3_600, 86_400]


def test_a_file_that_is_gone_is_counted_as_nothing(
    endpoint: Endpoint, var: Path, caplog: pytest.LogCaptureFixture
) -> None:
    segment(endpoint.revisions.get(number=1).pk, [asked(0, (1, "UA"))])
    collect()
    (var / "rows" / RowFile.objects.get().path).unlink()
    baseline(endpoint)
    assert not tallies.count(now=AT)
    assert Counted.objects.count() == 1
    assert not Tally.objects.exists()
    assert "cannot be counted" in caplog.text
    assert not tallies.count(now=AT)


def test_wide_layouts_are_counted_in_parts(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, var: Path
) -> None:
    monkeypatch.setattr(tallies, "SLOTS_AT_ONCE", 1)
    made = baseline(endpoint)
    pk = endpoint.revisions.get(number=1).pk
    segment(pk, [asked(n * 45, (n, "UA")) for n in range(50)])
    collect()
    for width in windows.TALLIES:
        assert whole(made, width) == expected(var, (shape(made).layout, None), pk)


class Crash(BaseException):
    """A kill: nothing that stands after it runs, and nobody catches it."""


def _same(moment: datetime) -> datetime:
    return moment


STEPS: list[tuple[object, str, int]] = [
    (type(Counted.objects), "create", 1),
    (type(RowFile.objects), "bulk_create", 2),
    (tallies, "_commit", 1),
    (tallies, "_commit", 2),
    (tallies, "_add", 1),
    (tallies, "_read", 1),
    (log_files, "_commit", 1),
    (os, "fsync", 3),
]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("holder", "step", "nth"), STEPS)
def test_a_crash_between_any_two_steps_counts_nothing_twice_and_loses_nothing(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch,
    holder: object, step: str, nth: int, before: bool,
) -> None:  # fmt: skip
    made = baseline(endpoint)
    pk = endpoint.revisions.get(number=1).pk
    condition = [{"column": "in.carrier", "op": "eq", "value": "UA"}]
    actor = UserFactory.create()
    part = slices.create(endpoint=endpoint, name="UA", condition=condition, actor=actor, now=AT)
    for number in range(3):
        segment(pk, [asked(number * 61, (number, "UA"), (number, "B6"))])
    real: Callable[..., Any] = getattr(holder, step)
    calls: list[str] = []

    def crashing(*args: Any, **named: Any) -> Any:
        calls.append(step)
        if len(calls) == nth and before:
            raise Crash
        done = real(*args, **named)
        if len(calls) == nth:
            raise Crash
        return done

    with monkeypatch.context() as cut:
        cut.setattr(holder, step, crashing)
        for moment in (AT, AT + MINUTE):
            with contextlib.suppress(Crash):
                Collector(now=partial(_same, moment)).tick()
    assert len(calls) >= nth
    collect(AT + 5 * MINUTE)
    layout = shape(made).layout
    for width in windows.TALLIES:
        assert whole(made, width) == expected(var, (layout, None), pk)
        assert whole(made, width, part) == expected(var, (layout, condition), pk)
    assert whole(made, 60)[0] == 6
    assert whole(made, 60, part)[0] == 3
    leftovers.sweep(now=datetime.now(UTC) + timedelta(hours=1, seconds=1))
    on_disk = {str(path.relative_to(var / "rows")) for path in (var / "rows").glob("*/*/*")}
    assert on_disk == set(RowFile.objects.values_list("path", flat=True))


def test_two_at_once_count_nothing_twice(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(endpoint)
    segment(endpoint.revisions.get(number=1).pk, [asked(0, (1, "UA"))])
    with monkeypatch.context() as held:
        held.setattr(tallies, "count", lambda **_: False)
        collect()
    waiting = tallies._waiting(9)
    assert not tallies.count(now=AT)
    monkeypatch.setattr(tallies, "_waiting", lambda _: waiting)
    with pytest.raises(IntegrityError), connection.constraint_checks_disabled():
        tallies.count(now=AT)


def test_slices_are_named_once_and_limited(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline(endpoint)
    actor = UserFactory.create()
    condition = [{"column": "in.x", "op": "is_null"}]

    def make(name: str) -> Slice:
        return slices.create(endpoint=endpoint, name=name, condition=condition, actor=actor, now=AT)

    one = make("one")
    with pytest.raises(slices.NameTaken, match="'one' already"):
        make("one")
    with pytest.raises(Refused, match="needs a name"):
        make(" ")
    monkeypatch.setattr(slices, "MOST_SLICES", 1)
    with pytest.raises(slices.TooManySlices):
        make("two")
    slices.retire(part=one, actor=actor, now=AT)
    with pytest.raises(Refused, match="retired already"):
        slices.retire(part=one, actor=actor, now=AT)
    assert make("one").pk != one.pk
    verbs = Event.objects.order_by("pk").values_list("verb", flat=True)
    assert list(verbs) == ["slice.created", "slice.retired", "slice.created"]


TABLE = pa.table(
    {
        "in.x": [1.0, 2.5, None, 5.0],
        "in.late": [True, False, None, True],
        "in.c": ["UA", "B6", None, "1"],
        "status": pa.array([200, 400, 200, 500], pa.int16()),
    }
)


@pytest.mark.parametrize(
    ("column", "op", "value", "rows"),
    [
        ("in.x", "eq", 2.5, [1]),
        ("in.x", "eq", "2.5", [1]),
        ("in.x", "eq", "x", []),
        ("in.x", "ne", 2.5, [0, 3]),
        ("in.x", "in", [1, 5], [0, 3]),
        ("in.x", "lt", 2.5, [0]),
        ("in.x", "le", 2.5, [0, 1]),
        ("in.x", "gt", 2.5, [3]),
        ("in.x", "ge", 2.5, [1, 3]),
        ("in.x", "between", [1, 2.5], [0, 1]),
        ("in.x", "is_null", None, [2]),
        ("in.x", "not_null", None, [0, 1, 3]),
        ("in.late", "eq", True, [0, 3]),
        ("in.late", "eq", "false", [1]),
        ("in.late", "lt", 1, []),
        ("in.c", "eq", "UA", [0]),
        ("in.c", "in", ["B6", 1], [1, 3]),
        ("in.c", "ne", "UA", [1, 3]),
        ("in.c", "gt", 1, []),
        ("status", "ge", 400, [1, 3]),
        ("in.none", "eq", 1, []),
        ("in.none", "is_null", None, [0, 1, 2, 3]),
    ],
)
def test_a_condition_holds_for_its_rows(
    column: str, op: str, value: object, rows: list[int]
) -> None:
    part = {"column": column, "op": op, "value": value}
    conditions.check([part], ["in.x", "in.late", "in.c", "in.none"])
    assert np.flatnonzero(conditions.mask([part], TABLE)).tolist() == rows


def test_all_parts_must_hold() -> None:
    parts = [
        {"column": "in.x", "op": "ge", "value": 1},
        {"column": "status", "op": "eq", "value": 200},
    ]
    assert np.flatnonzero(conditions.mask(parts, TABLE)).tolist() == [0]


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ([], "a list of 1 to 10 parts"),
        ("x", "a list of 1 to 10 parts"),
        ([1], "Each part"),
        ([{"column": "in.x"}], "Each part"),
        ([{"column": "in.x", "op": "eq", "value": 1, "or": 1}], "Each part"),
        ([{"column": "in.y", "op": "eq", "value": 1}], "no column 'in.y'"),
        ([{"column": "in.x", "op": "like", "value": 1}], "'like' is none of eq, ne"),
        ([{"column": "in.x", "op": "eq", "value": None}], "takes a text"),
        ([{"column": "in.x", "op": "in", "value": []}], "takes a list of 1 to 100"),
        ([{"column": "in.x", "op": "lt", "value": "1"}], "takes a number"),
        ([{"column": "in.x", "op": "lt", "value": True}], "takes a number"),
        ([{"column": "in.x", "op": "between", "value": [2, 1]}], "the lower first"),
        ([{"column": "in.x", "op": "is_null", "value": 1}], "takes no value"),
    ],
)
def test_what_says_nothing_is_refused(condition: object, why: str) -> None:
    with pytest.raises(conditions.BadCondition, match=why):
        conditions.check(condition, ["in.x"])
