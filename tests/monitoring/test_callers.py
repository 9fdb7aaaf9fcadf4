"""Who asks, from the files of rows; and what an incident says of it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.incidents.selectors import changes
from apps.monitoring import places
from apps.monitoring.models import LogFile, RowFile
from apps.monitoring.selectors import callers
from apps.serving.models import Revision
from tests.factories.incidents import IncidentFactory
from tests.factories.serving import RevisionFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Revision:
    monkeypatch.setattr(places, "rows", lambda: tmp_path)
    revision: Revision = RevisionFactory.create()
    return revision


def ask(revision: Revision, at: datetime, counts: Mapping[str | None, int], **more: object) -> None:
    """It writes a file of rows in which each caller asked so often, at one moment."""
    names = [name for name, count in counts.items() for _ in range(count)]
    path = f"{RowFile.objects.count()}.parquet"
    table = pa.table(
        {
            "caller": pa.array(names, pa.string()),
            "at": pa.array([at] * len(names), pa.timestamp("us", tz="UTC")),
            "row": pa.array([more.get("row", 0)] * len(names), pa.int32()),
            "shadow": pa.array([more.get("shadow", False)] * len(names)),
        }
    )
    pq.write_table(table, places.rows() / path)
    span = {"rows": len(names), "size_bytes": 1, "first_at": at, "last_at": at}
    log_file = LogFile.objects.create(
        endpoint=revision.endpoint, day=at.date(), path=path, created_at=at, **span
    )
    RowFile.objects.create(log_file=log_file, revision=revision, path=path, **span)


def test_requests_are_counted_by_caller(revision: Revision, now: datetime) -> None:
    ask(revision, now, {"app": 3, None: 1})
    ask(revision, now, {"app": 5}, row=1)  # more rows of requests that are counted already
    ask(revision, now, {"app": 5}, shadow=True)
    ask(revision, now + HOUR, {"late": 5})
    found = callers.mix(revision.endpoint, now, now + HOUR)
    assert (found.requests, found.shares) == (4, {"app": 0.75, "": 0.25})


def test_of_many_files_some_of_the_whole_time_are_read(
    revision: Revision, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a busy endpoint's day the last forty minutes stood for all of it."""
    monkeypatch.setattr(callers, "MOST_FILES", 3)
    for minute in range(9):
        name = "night" if minute < 6 else "day"
        ask(revision, now + timedelta(minutes=minute), {name: 10})
    found = callers.mix(revision.endpoint, now, now + HOUR)
    assert (found.requests, dict(found.shares)) == (30, {"night": 2 / 3, "day": 1 / 3})
    monkeypatch.setattr(callers, "ENOUGH_ROWS", 20)
    assert callers.mix(revision.endpoint, now, now + HOUR).requests == 20


def test_a_file_that_is_gone_is_no_error(revision: Revision, now: datetime) -> None:
    ask(revision, now, {"app": 3})
    (places.rows() / RowFile.objects.get().path).unlink()
    found = callers.mix(revision.endpoint, now, now + HOUR)
    assert (found.requests, found.shares) == (0, {})


def test_an_incident_tells_of_other_callers(revision: Revision, now: datetime) -> None:
    ask(revision, now - 5 * HOUR, {"app": 90, "batch": 10})
    ask(revision, now - HOUR / 2, {"app": 40, "batch": 60})
    incident = IncidentFactory.create(endpoint=revision.endpoint, opened_at=now)
    [told] = [change for change in changes.of(incident) if change.kind == "callers"]
    assert told.words == "Other callers than in the day before"
    assert sorted(told.detail.split("; ")) == [
        "app 90% of the requests, now 40%",
        "batch 10% of the requests, now 60%",
    ]


@pytest.mark.parametrize("now_asked", [{"app": 85, "batch": 15}, {"batch": 99}])
def test_little_or_few_is_not_told(
    revision: Revision, now: datetime, now_asked: dict[str | None, int]
) -> None:
    ask(revision, now - 5 * HOUR, {"app": 90, "batch": 10})
    ask(revision, now - HOUR / 2, now_asked)
    incident = IncidentFactory.create(endpoint=revision.endpoint, opened_at=now)
    assert [change.kind for change in changes.of(incident) if change.kind == "callers"] == []
