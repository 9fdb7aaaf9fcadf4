"""Which baselines are asked for, when, and what stays of the older ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import numpy as np
import pyarrow as pa
import pytest
from django.db import connection

from apps.accounts.lifecycle import Role
from apps.audit.models import Event
from apps.baselines import selectors, services
from apps.baselines.models import Baseline
from apps.baselines.services import BaselineRefused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job
from apps.registry.models import Version
from tests.factories.accounts import member
from tests.factories.baselines import BaselineFactory
from tests.factories.builds import BuildFactory
from tests.factories.registry import DatasetFactory, ModelFactory, RunInputFactory, VersionFactory
from tests.factories.serving import RevisionFactory

pytestmark = pytest.mark.django_db
LOGGED = '{"uri": "mlflow-artifacts:/1/00/artifacts/train.parquet"}'


@pytest.fixture
def version() -> Version:
    version: Version = BuildFactory.create(version__number=1).version
    return version


def later(version: Version, number: int, **said: object) -> Version:
    """A later version of the same model that was built too."""
    at = version.registered_at + timedelta(minutes=number)
    made: Version = VersionFactory.create(
        model=version.model, number=number, registered_at=at, **said
    )
    BuildFactory.create(version=made)
    return made


def give(version: Version, role: str = "reference", **said: object) -> object:
    return DatasetFactory.create(model=version.model, role=role, name=role, **said)


def ready(baseline: Baseline) -> None:
    """As if its job had frozen it."""
    Baseline.objects.filter(pk=baseline.pk).update(state="ready")


def swept(now: datetime) -> list[Baseline]:
    """What one more sweep queues."""
    before = set(Baseline.objects.values_list("pk", flat=True))
    services.sweep(now=now)
    return list(Baseline.objects.exclude(pk__in=before).order_by("pk"))


def test_a_built_version_with_data_gets_one(version: Version, now: datetime) -> None:
    assert swept(now) == []
    dataset = give(version)
    VersionFactory.create(model=version.model, number=7)  # not built

    [baseline] = swept(now)

    assert (baseline.version, baseline.number, baseline.state) == (version, 1, "queued")
    assert (baseline.origin, baseline.dataset) == ("reference", dataset)
    assert baseline.build == version.builds.get()
    assert baseline.job == Job.objects.get(kind="baselines", subject_id=baseline.pk)
    assert swept(now) == []


def test_a_holdout_is_no_reference(version: Version, now: datetime) -> None:
    give(version, "holdout")

    assert swept(now) == []


def test_reference_data_is_taken_before_training_data(version: Version, now: datetime) -> None:
    training = give(version, "training")
    [baseline] = swept(now)
    ready(baseline)
    reference = give(version)
    give(version, "training")

    [newer] = swept(now)

    assert (baseline.origin, baseline.dataset) == ("training", training)
    assert (newer.origin, newer.dataset, newer.number) == ("reference", reference, 2)


def test_a_newer_training_set_is_of_a_later_version(version: Version, now: datetime) -> None:
    give(version, "training")
    [baseline] = swept(now)
    ready(baseline)
    give(version, "training")

    assert swept(now) == []


def test_a_newer_reference_set_is_for_what_serves_and_what_was_built_last(now: datetime) -> None:
    old = BuildFactory.create(version__number=1).version
    served, last = later(old, 2), later(old, 3)
    RevisionFactory.create(build=served.builds.get(), endpoint__model=old.model)
    give(old)
    first = swept(now)
    assert [row.version.number for row in first] == [3, 2, 1]
    for row in first:
        ready(row)
    newer = give(old)

    second = swept(now)

    assert [(row.version, row.number, row.dataset) for row in second] == [
        (last, 2, newer),
        (served, 2, newer),
    ]
    assert Baseline.objects.filter(state="ready").count() == 3


def test_a_failed_one_is_not_tried_again_by_itself(version: Version, now: datetime) -> None:
    give(version)
    [baseline] = swept(now)
    services.end(baseline.pk, Status.FAILED, "The data set reference has lost its file")

    assert swept(now) == []
    baseline.refresh_from_db()
    assert (baseline.state, baseline.reason) == (
        "failed",
        "The data set reference has lost its file",
    )
    assert selectors.in_force(version) is None
    asked = services.ask(version=version, actor=None, now=now)
    assert asked.number == 2


def test_what_the_run_logged_comes_before_another_training_set(
    version: Version, now: datetime
) -> None:
    give(version, "training")
    RunInputFactory.create(version=version, source=LOGGED, name="train")

    [baseline] = swept(now)

    assert (baseline.origin, baseline.dataset) == ("training", None)
    given = selectors.input_of(version)
    assert given is not None
    assert given.name == "train"
    services.end(baseline.pk, Status.FAILED, "gone")
    [instead] = swept(now)
    assert instead.dataset is not None


@pytest.mark.parametrize(
    "source",
    [
        "",
        '{"url": "https://github.com/tidyverse/nycflights13"}',
        '{"tags": {"mlflow.source.name": "train.py"}}',
        '{"uri": "mlflow-artifacts:/1/00/artifacts/train.pkl"}',
        '{"uri": "/tmp/train.parquet"}',
    ],
)
def test_what_mlflow_does_not_keep_is_no_data(version: Version, now: datetime, source: str) -> None:
    RunInputFactory.create(version=version, source=source)

    assert swept(now) == []
    with pytest.raises(BaselineRefused) as refused:
        services.ask(version=version, actor=None, now=now)
    assert refused.value.message == (
        f"{version.model} has no data set of the role reference or training; register one"
    )


def test_what_is_refused(version: Version, now: datetime) -> None:
    give(version)
    unbuilt = VersionFactory.create(model=version.model, number=9)
    services.ask(version=version, actor=None, now=now)

    with pytest.raises(BaselineRefused, match="is being frozen; wait for it"):
        services.ask(version=version, actor=None, now=now)
    with pytest.raises(BaselineRefused, match="has no build that succeeded"):
        services.ask(version=unbuilt, actor=None, now=now)
    assert Baseline.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_at_once_are_one(now: datetime) -> None:
    version = BuildFactory.create().version
    give(version)
    together = Barrier(4, timeout=10)
    seen: list[None] = []

    def call() -> None:
        try:
            together.wait()
            services.sweep(now=now)
            seen.append(None)
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 4
    assert Baseline.objects.get().number == 1


def test_who_asked_stands_in_the_audit(version: Version, now: datetime) -> None:
    give(version)
    ada = member(version.model.team, Role.DATA_SCIENTIST)

    baseline = services.ask(version=version, actor=ada, now=now)

    event = Event.objects.get(verb="baseline.asked")
    assert (event.actor, event.object_id) == (ada, baseline.pk)


def test_a_cancelled_job_ends_the_baseline(version: Version, now: datetime) -> None:
    give(version)
    baseline = services.ask(version=version, actor=None, now=now)
    ada = member(version.model.team, Role.DATA_SCIENTIST)
    assert baseline.job is not None

    jobs.cancel(job=baseline.job, actor=ada, now=now)

    baseline.refresh_from_db()
    assert baseline.state == "failed"
    assert baseline.reason.startswith("Cancelled by ")


def traffic(rows: int) -> pa.Table:
    """As monitoring's files of rows hold them."""
    start = datetime(2030, 1, 1, tzinfo=UTC)
    return pa.table(
        {
            "row": pa.array(np.zeros(rows), pa.int32()),
            "status": pa.array(np.full(rows, 200), pa.int16()),
            "at": [start + timedelta(seconds=n) for n in range(rows)],
            "in.distance": np.arange(rows, dtype=float),
            "in.carrier": ["AA" if n % 4 else None for n in range(rows)],
            "out.0": np.linspace(10, 20, rows),
        }
    )


def test_first_rows_are_frozen_where_nobody_gave_data(version: Version, now: datetime) -> None:
    baseline = services.freeze_from_rows(version=version, table=traffic(1000), now=now)

    assert baseline is not None
    baseline.refresh_from_db()
    assert (baseline.state, baseline.origin, baseline.rows) == ("ready", "traffic", 1000)
    assert (baseline.reason, baseline.frozen_at) == (services.FROM_TRAFFIC, now)
    assert baseline.time_from == datetime(2030, 1, 1, tzinfo=UTC)
    assert baseline.time_to == datetime(2030, 1, 1, 0, 16, 39, tzinfo=UTC)
    assert selectors.in_force(version) == baseline
    carrier = next(c for c in selectors.columns_of(baseline) if c.name == "in.carrier")
    assert carrier.counters["missing"] == 250
    assert carrier.bins == {"AA": 750, "other": 0, "unseen": 0}
    assert baseline.meaning["task"] == "regression"
    assert Event.objects.get(verb="baseline.frozen").evidence["origin"] == "traffic"
    assert services.freeze_from_rows(version=version, table=traffic(1000), now=now) is None


def test_data_that_is_given_later_replaces_them(version: Version, now: datetime) -> None:
    frozen = services.freeze_from_rows(version=version, table=traffic(1000), now=now)
    dataset = give(version, "training")

    [baseline] = swept(now)

    assert (baseline.number, baseline.dataset) == (2, dataset)
    assert selectors.in_force(version) == frozen  # until the other is ready
    assert services.freeze_from_rows(version=version, table=traffic(1000), now=now) is None


def test_the_newest_ready_one_is_in_force(now: datetime) -> None:
    build = BuildFactory.create()
    other = BuildFactory.create(version__model=ModelFactory.create())
    for number, state in enumerate(("ready", "ready", "failed", "queued"), 1):
        BaselineFactory.create(build=build, number=number, state=state)

    found = selectors.in_force_of([build.version_id, other.version_id])

    assert {version: row.number for version, row in found.items()} == {build.version_id: 2}
