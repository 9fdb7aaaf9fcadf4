"""Drift of live rows, from tallies as the collector writes them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from pytest_django import DjangoAssertNumQueries

from apps.baselines.layout import Layout, Role, fit, pack64
from apps.baselines.models import Baseline
from apps.monitoring.drift import State
from apps.monitoring.models import Slice, Tally
from apps.monitoring.selectors import drift
from apps.serving.models import Endpoint, Revision
from tests.monitoring.tallied import tally

NOW = datetime(2030, 1, 10, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def revision(endpoint: Endpoint) -> Revision:
    """It began long before any window of these tests."""
    found = endpoint.revisions.get(number=1)
    found.created_at = NOW - timedelta(days=60)
    found.save()
    return found


@pytest.fixture
def baseline(revision: Revision) -> Baseline:
    """Numbers from 0 to 1, of which x is by far the most important."""
    rows = np.arange(5000) / 5000
    table = pa.table({"in.x": rows, "in.y": rows, "out.0": rows})
    roles = {"in.x": Role.INPUT, "in.y": Role.INPUT, "out.0": Role.OUTPUT}
    layout = fit(table, roles, None)
    return Baseline.objects.create(
        version=revision.version,
        number=1,
        origin="reference",
        state="ready",
        rows=5000,
        layout=layout.as_json(),
        counts=pack64(layout.count(table)[0]),
        natural={"in.x": {"js": 0.04, "missing": 0.0, "unseen": 0.0}},
        importance={"in.x": 0.9, "in.y": 0.1},
        created_at=NOW,
        frozen_at=NOW,
    )


def live(
    revision: Revision,
    baseline: Baseline,
    at: datetime,
    rows: int,
    *,
    x: float = 0.0,
    y: float = 0.0,
    part: Slice | None = None,
) -> None:
    """It tallies rows of one moment, evenly spread from 0 to 1 and moved, in every tier."""
    even = (np.arange(rows) + 0.5) / rows
    tally(
        revision,
        baseline,
        at,
        pa.table({"in.x": even + x, "in.y": even + y, "out.0": even}),
        part=part,
    )


def states(found: drift.Drift) -> dict[str, State]:
    return {column.label: column.state for column in found.columns}


def test_rows_are_compared_with_the_baseline(revision: Revision, baseline: Baseline) -> None:
    live(revision, baseline, NOW - 30 * MINUTE, 1000, x=0.2, y=0.5)
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (found.baseline, found.rows, found.widened) == (baseline, 1000, False)
    assert (found.since, found.until) == (NOW - HOUR, NOW)
    assert [(c.label, c.state) for c in found.columns] == [
        ("x", State.CRITICAL), ("y", State.CRITICAL), ("out.0", State.QUIET),
    ]  # fmt: skip
    x = found.columns[0]
    assert (x.rows, x.reference_rows, x.natural, x.importance) == (1000, 5000, 0.04, 0.9)
    assert (x.above.window, x.above.state) == (0.2, State.CRITICAL)


def test_rows_are_compared_with_the_window_before(revision: Revision, baseline: Baseline) -> None:
    live(revision, baseline, NOW - 90 * MINUTE, 2000, y=0.5)
    live(revision, baseline, NOW - 30 * MINUTE, 1000, x=0.2, y=0.5)
    found = drift.of(revision, NOW - HOUR, NOW, against="previous", now=NOW)
    quiet = State.QUIET
    assert states(found) == {"x": State.CRITICAL, "y": quiet, "out.0": quiet}
    assert {column.reference_rows for column in found.columns} == {2000}


def test_too_few_rows_are_looked_for_further_back(revision: Revision, baseline: Baseline) -> None:
    for hours in (0.5, 1.5, 3.5, 9.5):
        live(revision, baseline, NOW - hours * HOUR, 300)
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (found.rows, found.since, found.widened) == (1200, NOW - 16 * HOUR, True)
    assert set(states(found).values()) == {State.QUIET}


def test_a_window_with_rows_enough_is_left_alone(revision: Revision, baseline: Baseline) -> None:
    live(revision, baseline, NOW - 30 * MINUTE, 500)
    live(revision, baseline, NOW - 90 * MINUTE, 900)
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (found.rows, found.widened) == (500, False)
    found = drift.of(revision, NOW - HOUR, NOW, at_least=1200, now=NOW)
    assert (found.rows, found.since) == (1400, NOW - 2 * HOUR)


def test_a_window_is_widened_to_the_revisions_beginning_at_most(
    revision: Revision, baseline: Baseline
) -> None:
    live(revision, baseline, NOW - 30 * MINUTE, 100)
    live(revision, baseline, NOW - 90 * MINUTE, 100)
    live(revision, baseline, NOW - 9 * HOUR, 800)
    revision.created_at = NOW - 3 * HOUR
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (found.rows, found.since, found.widened) == (200, NOW - 3 * HOUR, True)
    assert set(states(found).values()) == {State.NOT_ENOUGH_DATA}
    revision.created_at = NOW - 60 * HOUR
    found = drift.of(revision, NOW - HOUR, NOW, widest=2 * HOUR, now=NOW)
    assert (found.rows, found.since) == (200, NOW - 2 * HOUR)


def test_without_rows_nothing_is_said_and_nothing_widened(
    revision: Revision, baseline: Baseline
) -> None:
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (found.rows, found.since, found.widened) == (0, NOW - HOUR, False)
    assert set(states(found).values()) == {State.NOT_ENOUGH_DATA}


def test_without_a_baseline_there_is_nothing_to_compare_with(revision: Revision) -> None:
    found = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert found == drift.Drift(None, NOW - HOUR, NOW, 0, False, [])


def test_slices_shadows_and_other_revisions_are_apart(
    endpoint: Endpoint, revision: Revision, baseline: Baseline
) -> None:
    part = Slice.objects.create(endpoint=endpoint, name="far", condition=[], created_at=NOW)
    at = NOW - 30 * MINUTE
    live(revision, baseline, at, 1000)
    live(revision, baseline, at, 600, x=0.5, part=part)
    for row in Tally.objects.filter(slice=part):
        row.pk, row.slice, row.shadow = None, None, True
        row.save()
    live(endpoint.revisions.get(number=2), baseline, at, 900, x=0.5)
    whole = drift.of(revision, NOW - HOUR, NOW, now=NOW)
    assert (whole.rows, states(whole)["x"]) == (1000, State.QUIET)
    sliced = drift.of(revision, NOW - HOUR, NOW, slice=part, now=NOW)
    assert (sliced.rows, states(sliced)["x"]) == (600, State.CRITICAL)
    shadow = drift.of(revision, NOW - HOUR, NOW, shadow=True, now=NOW)
    assert (shadow.rows, states(shadow)["x"]) == (600, State.CRITICAL)


def test_another_comparison_is_refused(revision: Revision, baseline: Baseline) -> None:
    with pytest.raises(ValueError, match="not 'training'"):
        drift.of(revision, NOW - HOUR, NOW, against="training")


@pytest.mark.parametrize("rows", [100, 10_000])
def test_the_queries_do_not_grow_with_the_rows(
    revision: Revision,
    baseline: Baseline,
    rows: int,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    for minutes in range(1, 11):
        live(revision, baseline, NOW - minutes * MINUTE, rows)
    revision = Revision.objects.select_related("version", "endpoint").get(pk=revision.pk)
    with django_assert_num_queries(2):  # the baseline in force, and the tallies
        found = drift.of(revision, NOW - 2 * HOUR, NOW, now=NOW)
    assert found.rows == 10 * rows


def test_a_layout_of_extremes_comes_back_from_the_database(baseline: Baseline) -> None:
    table = pa.table(
        {
            "in.x": np.append(np.arange(99.0), 1e300),
            "in.y": [5e-324, 1e300] * 50,
            "in.word": ["x\0y", "a" * 1000] * 50,
        }
    )
    layout = fit(table, dict.fromkeys(table.column_names, Role.INPUT), None)
    Baseline.objects.filter(pk=baseline.pk).update(layout=layout.as_json())
    baseline.refresh_from_db()
    assert Layout.from_json(baseline.layout) == layout
    assert (Layout.from_json(baseline.layout).count(table) == layout.count(table)).all()
