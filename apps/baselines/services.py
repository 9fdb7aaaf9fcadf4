"""Verbs on baselines. What a running one writes, it writes only while the job is its own."""

import logging
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.baselines import freezing, selectors
from apps.baselines.freezing import Facts
from apps.baselines.lifecycle import Origin, State
from apps.baselines.models import Baseline
from apps.builds.models import Build
from apps.builds.selectors import latest_success
from apps.core import live
from apps.core.errors import Refused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.registry.models import Dataset, Version

log = logging.getLogger(__name__)
KIND = "baselines"
UNFINISHED = selectors.UNFINISHED
FROM_TRAFFIC = (
    "Frozen from the first requests, since no reference data was given: what was wrong with them "
    "from the start is not seen"
)


class BaselineRefused(Refused):
    code = "baseline_refused"


@transaction.atomic
def ask(*, version: Version, actor: User | None, now: datetime) -> Baseline:
    """It queues a baseline of the version's data, numbered after its last one.

    Raises: BaselineRefused while another one is unfinished, without a build that succeeded, and
    when nobody gave any data.
    """
    version = _locked(version)
    build = latest_success(version)
    if version.gone_at is not None or build is None:
        raise BaselineRefused(
            f"{version} has no build that succeeded, so nothing of it can be compared",
            "version_not_built",
        )
    if version.baselines.filter(state__in=UNFINISHED).exists():
        raise BaselineRefused(
            f"A baseline of {version} is being frozen; wait for it", "baseline_unfinished"
        )
    data = selectors.data_of(version)
    if data is None:
        raise BaselineRefused(
            f"{version.model} has no data set of the role reference or training; register one",
            "baseline_without_data",
        )
    origin, dataset = data
    baseline = _create(version, build, origin, dataset, now)
    baseline.job = jobs.enqueue(
        kind=KIND, subject_id=baseline.pk, owning_team_id=baseline.owning_team_id, now=now
    )
    baseline.save(update_fields=["job"])
    if actor is not None:
        _record("baseline.asked", baseline, actor, now, {"dataset": str(dataset or "")})
    _announce(baseline)
    return baseline


def sweep(*, now: datetime) -> None:
    """It queues what is missing: first baselines, and those of newer reference sets."""
    for version in selectors.waiting()[:100]:
        try:
            ask(version=version, actor=None, now=now)
        except (BaselineRefused, IntegrityError) as other:  # another sweep was quicker
            log.info("No baseline of %s queued: %s", version, other)


def begin(*, baseline: Baseline, running: jobs.Running) -> bool:
    """It marks the baseline as running. False: it has ended."""
    baseline.refresh_from_db()
    if State(baseline.state).is_final:
        return False
    note(baseline=baseline, running=running, state=State.RUNNING, reason="")
    _announce(baseline)
    return True


def note(*, baseline: Baseline, running: jobs.Running, **facts: Any) -> None:
    """It writes down what is known so far.

    Raises: jobs.services.LeaseLost when another worker has the job: its findings stand.
    """
    jobs.note(Baseline.objects.filter(state__in=UNFINISHED), baseline, running, **facts)


@transaction.atomic
def freeze(
    *, baseline: Baseline, running: jobs.Running, facts: Facts, now: datetime, **said: Any
) -> None:
    """It freezes what was found; from now on live data of the version is compared with it.

    `said`: rows, reason, importance, time_from, time_to. Raises: jobs.services.LeaseLost.
    """
    note(
        baseline=baseline, running=running, state=State.READY, frozen_at=now,
        **facts.fields(), **said,
    )  # fmt: skip
    _frozen(baseline, now)


def freeze_from_rows(*, version: Version, table: pa.Table, now: datetime) -> Baseline | None:
    """It freezes the first rows that a version answered, where nobody gave reference data.

    `table` holds columns as monitoring's files of rows do, in the order of time. None: it has a
    baseline, or one is being frozen.
    """
    named = selectors.positive_class(version)
    facts = freezing.freeze(table, None, named, is_timed=True, tick=lambda: None)
    span = pc.min_max(table.column("at")).as_py() if "at" in table.column_names else {}
    with transaction.atomic():
        version = _locked(version)
        if version.baselines.exclude(state=State.FAILED).exists():
            return None
        baseline = _create(version, latest_success(version), Origin.TRAFFIC, None, now)
        said = {
            "state": State.READY,
            "rows": table.num_rows,
            "reason": FROM_TRAFFIC,
            "time_from": span.get("min"),
            "time_to": span.get("max"),
            "frozen_at": now,
            **facts.fields(),
        }
        for field, value in said.items():
            setattr(baseline, field, value)
        baseline.save()
        _frozen(baseline, now)
    return baseline


@transaction.atomic
def end(baseline_id: int, status: Status, reason: str) -> None:
    """It writes down that the baseline's job ended without success."""
    baseline = (
        Baseline.objects.select_for_update(of=("self",))
        .select_related("version__model", "job")
        .get(pk=baseline_id)
    )
    if State(baseline.state).is_final:
        return
    job = baseline.job
    assert job is not None
    baseline.state, baseline.reason = State.FAILED, reason
    baseline.save(update_fields=["state", "reason"])
    now = job.finished_at or job.created_at
    evidence = {"attempts": job.attempt, "cancelled": status is Status.CANCELLED}
    _record("baseline.failed", baseline, None, now, evidence, reason)
    _announce(baseline)


def _locked(version: Version) -> Version:
    """The lock gives two at once one number each."""
    rows = Version.objects.select_for_update(of=("self",)).select_related("model")
    return rows.get(pk=version.pk)


def _create(
    version: Version,
    build: Build | None,
    origin: Origin,
    dataset: Dataset | None,
    now: datetime,
) -> Baseline:
    last = version.baselines.order_by("-number").values_list("number", flat=True).first()
    return Baseline.objects.create(
        version=version,
        number=(last or 0) + 1,
        build=build,
        origin=origin,
        dataset=dataset,
        created_at=now,
    )


def _frozen(baseline: Baseline, now: datetime) -> None:
    evidence = {
        "number": baseline.number,
        "origin": baseline.origin,
        "dataset": str(baseline.dataset or ""),
        "rows": baseline.rows,
        "columns": len(baseline.layout.get("columns", [])),
        "quality": baseline.quality,
    }
    _record("baseline.frozen", baseline, None, now, evidence, baseline.reason)
    _announce(baseline)


def _record(
    verb: str,
    baseline: Baseline,
    actor: User | None,
    now: datetime,
    evidence: dict[str, Any],
    reason: str = "",
) -> None:
    record(
        verb,
        baseline,
        actor=actor,
        now=now,
        model_name=baseline.version.model.name,
        reason=reason,
        evidence=evidence,
    )


def _announce(baseline: Baseline) -> None:
    live.publish(f"version:{baseline.version_id}")
