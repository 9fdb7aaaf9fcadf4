"""An endpoint with a prediction log that the real collector wrote."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from apps.explorer import services
from apps.explorer.models import Search
from apps.explorer.question import Condition, Question
from apps.jobs import services as jobs
from apps.jobs.models import Job
from apps.monitoring.collector import Collector
from apps.monitoring.models import RowFile
from apps.serving.models import Endpoint
from tests.monitoring import making
from tests.monitoring.making import START_US, record, segment
from tests.people import Cast

DAY = datetime.fromtimestamp(START_US / 1e6, UTC)
SECOND_US = 1_000_000


@pytest.fixture
def var(settings: Settings, tmp_path: Path) -> Path:
    settings.STACK = making.stack_at(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def endpoint(cast: Cast, now: datetime, var: Path) -> Endpoint:
    return making.endpoint(cast.team, now)


def asked(distance: object, origin: object = "JFK", **more: Any) -> dict[str, Any]:
    """The changes that make a record one of a row with two features and one output."""
    split = {"columns": ["distance", "origin"], "data": [[distance, origin]]}
    return {
        "format": "mlflow",
        "request": {"dataframe_split": split},
        "response": {"predictions": [0.25]},
        **more,
    }


def put(endpoint: Endpoint, *records: dict[str, Any], number: int = 1) -> None:
    """It has one revision capture these, the first at START_US, a second between two."""
    revision = endpoint.revisions.get(number=number)
    lines = [record(START_US + place * SECOND_US, **one) for place, one in enumerate(records)]
    segment(revision.pk, lines)


def collect(now: datetime) -> None:
    """It puts what was captured into a file of the log."""
    for moment in (now, now + timedelta(seconds=61)):
        works = Collector(now=lambda moment=moment: moment)  # type: ignore[misc]
        while works.tick():  # tests of one run share a spool: there may be others' segments before
            pass


def question(*conditions: tuple[str, str, Any], **named: Any) -> Question:
    since = named.pop("since", DAY - timedelta(hours=1))
    until = named.pop("until", DAY + timedelta(hours=1))
    return Question(since, until, conditions=tuple(Condition(*one) for one in conditions), **named)


def find(endpoint: Endpoint, cast: Cast, now: datetime, asks: Question) -> Search:
    """It asks and lets the job run to its end in this process."""
    search = services.ask(endpoint=endpoint, question=asks, actor=cast.viewer, now=now)
    assert search.job is not None
    run(search.job.pk)
    search.refresh_from_db()
    return search


def run(job_id: int) -> None:
    Job.objects.filter(pk=job_id).update(not_before=datetime.fromtimestamp(0, UTC))
    jobs.run(job_id)


@pytest.fixture(autouse=True)
def quick(settings: Settings) -> None:
    """A heart that beats from a thread would see nothing of a test's own transaction."""
    settings.JOB_LEASE_SECONDS = 600


@pytest.fixture
def logged(endpoint: Endpoint, now: datetime) -> Endpoint:
    """Six requests to two revisions, of which one failed and one is a copy."""
    put(
        endpoint,
        asked(100.0, id="a", us=900),
        asked(200.0, "LGA", id="b", us=2500),
        asked(None, "JFK", id="c", caller="other"),
        asked(300.0, "'; drop table x; --", id="d"),
        asked(400.0, id="e", status=500, error="ValueError: no such airport", response=None),
    )
    put(endpoint, asked(100.0, id="a", shadow=True, response={"predictions": [0.75]}), number=2)
    collect(now)
    assert RowFile.objects.count() == 2
    return endpoint
