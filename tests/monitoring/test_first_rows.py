"""The baseline of a version that nobody gave reference data for: its own first rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.baselines import selectors
from apps.baselines.models import Baseline
from apps.monitoring import places
from apps.monitoring.models import LogFile, RowFile
from apps.monitoring.services import first_rows
from apps.serving.models import Revision
from tests.factories.baselines import BaselineFactory
from tests.factories.registry import NOON
from tests.factories.serving import RevisionFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Revision:
    monkeypatch.setattr(places, "rows", lambda: tmp_path)
    revision: Revision = RevisionFactory.create()
    return revision


def add(revision: Revision, name: str, rows: int, *, at: datetime = NOON, bad: int = 0) -> RowFile:
    """It writes a file of rows, the first of them refused."""
    numbers = np.arange(rows)
    table = pa.table(
        {
            "id": [f"{name}-{n}" for n in numbers],
            "row": pa.array(np.zeros(rows), pa.int32()),
            "at": [at + timedelta(seconds=int(n)) for n in numbers],
            "status": pa.array(np.where(numbers < bad, 400, 200), pa.int16()),
            "in.distance": numbers * 1.0,
            "in.carrier": ["AA"] * rows,
            "out.0": numbers % 2 * 1.0,
        }
    )
    pq.write_table(table, places.rows() / name)
    span = {"rows": rows, "size_bytes": 1, "first_at": at, "last_at": at}
    log_file = LogFile.objects.create(
        endpoint=revision.endpoint, day=at.date(), path=name, created_at=at, **span
    )
    return RowFile.objects.create(log_file=log_file, revision=revision, path=name, **span)


def test_a_thousand_rows_are_enough(revision: Revision, now: datetime) -> None:
    add(revision, "b", 500, at=NOON + timedelta(hours=1))
    first_rows.sweep(now=now)
    assert not Baseline.objects.exists()
    add(revision, "a", 500)

    first_rows.sweep(now=now)
    first_rows.sweep(now=now)

    baseline = Baseline.objects.get()
    assert (baseline.version, baseline.origin, baseline.rows) == (revision.version, "traffic", 1000)
    assert (baseline.time_from, baseline.time_to) == (NOON, NOON + timedelta(hours=1, seconds=499))
    names = [column.name for column in selectors.shape(baseline).layout.columns]
    assert names == ["in.distance", "in.carrier", "out.0"]


def test_refused_rows_do_not_count(revision: Revision, now: datetime) -> None:
    add(revision, "a", 1200, bad=201)

    first_rows.sweep(now=now)

    assert not Baseline.objects.exists()


def test_no_more_than_the_first_are_taken(
    revision: Revision, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_rows, "MOST_ROWS", 1500)
    add(revision, "a", 1000)
    add(revision, "b", 1000, at=NOON + timedelta(hours=1))
    gone = add(revision, "c", 10, at=NOON - timedelta(hours=1))
    (places.rows() / gone.path).unlink()

    first_rows.sweep(now=now)

    baseline = Baseline.objects.get()
    assert baseline.rows == 1500
    assert baseline.time_to == NOON + timedelta(hours=1, seconds=499)


@pytest.mark.parametrize(("state", "count"), [("failed", 2), ("queued", 1), ("ready", 1)])
def test_where_one_is_there_or_on_its_way(
    revision: Revision, now: datetime, state: str, count: int
) -> None:
    BaselineFactory.create(build=revision.build, state=state)
    add(revision, "a", 1000)

    first_rows.sweep(now=now)

    assert Baseline.objects.count() == count
