"""Verbs on validation runs. What a running one writes, it writes only while the job is its own."""

from datetime import datetime
from typing import Any

from django.db import transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Policy
from apps.serving.models import Environment
from apps.validation.lifecycle import RunStatus, Verdict, overall
from apps.validation.models import CheckResult, ValidationRun

KIND = "validation"
UNFINISHED = (RunStatus.QUEUED, RunStatus.RUNNING)


class ValidationRefused(Refused):
    code = "validation_refused"


@transaction.atomic
def start(
    *,
    build: Build,
    environment: Environment,
    policy: Policy | None,
    gates: list[dict[str, Any]],
    holdout_name: str | None,
    positive_class: str | None,
    compared_with: Build | None,
    actor: User | None,
    now: datetime,
) -> ValidationRun:
    """It queues a run of these gates over the build; the same question twice is one run.

    Raises: ValidationRefused for a build that did not succeed, and while a run with other gates
    is unfinished there.
    """
    # The lock makes two starts at once see each other.
    Build.objects.select_for_update(of=("self",)).get(pk=build.pk)
    if build.status != BuildStatus.SUCCEEDED:
        raise ValidationRefused(f"{build} is {build.status}; only one that succeeded is judged")
    asked: dict[str, Any] = {
        "policy": policy,
        "gates": gates,
        "holdout_name": holdout_name or "",
        "positive_class": positive_class or "",
        "compared_with": compared_with,
        "dataset": _holdout(build, holdout_name),
    }
    unfinished = ValidationRun.objects.filter(
        build=build, environment=environment, status__in=UNFINISHED
    ).first()
    if unfinished is not None:
        if all(getattr(unfinished, field) == value for field, value in asked.items()):
            return unfinished
        raise ValidationRefused(
            f"{unfinished} still runs with other gates; wait for it", "validation_unfinished"
        )
    run = ValidationRun.objects.create(
        version=build.version, build=build, environment=environment, created_at=now, **asked
    )
    run.job = jobs.enqueue(kind=KIND, subject_id=run.pk, owning_team_id=run.owning_team_id, now=now)
    run.save(update_fields=["job"])
    _record("validation.started", run, actor, now, {"gates": gates, "digest": build.digest})
    _announce(run)
    return run


def _holdout(build: Build, name: str | None) -> Dataset | None:
    rows = Dataset.objects.filter(
        model=build.version.model_id, name=name or "", role=DatasetRole.HOLDOUT
    )
    return rows.order_by("-pk").first()


@transaction.atomic
def begin(*, run: ValidationRun, running: jobs.Running) -> bool:
    """It marks the run as running, without what a lost attempt left. False: it has ended."""
    run.refresh_from_db()
    if RunStatus(run.status).is_final:
        return False
    note(run=run, running=running, status=RunStatus.RUNNING, reason="", figures={})
    run.checks.all().delete()
    _announce(run)
    return True


def note(*, run: ValidationRun, running: jobs.Running, **facts: Any) -> None:
    """It writes down what is known so far.

    Raises: jobs.services.LeaseLost when another worker has the job: its findings stand.
    """
    jobs.note(ValidationRun.objects.filter(status__in=UNFINISHED), run, running, **facts)
    live.publish(f"validation:{run.pk}")


@transaction.atomic
def add_check(*, run: ValidationRun, running: jobs.Running, **check: Any) -> CheckResult:
    """It keeps one rule's verdict with its evidence."""
    note(run=run, running=running, status=RunStatus.RUNNING)
    check["title"], check["summary"] = check["title"][:200], check["summary"][:500]
    return CheckResult.objects.create(run=run, **check)


@transaction.atomic
def finish(*, run: ValidationRun, running: jobs.Running, now: datetime) -> Verdict:
    """It gives the run the worst of its checks' verdicts."""
    checks = list(run.checks.all())
    verdict = overall([Verdict(check.verdict) for check in checks]) if checks else Verdict.PASS
    reason = "; ".join(c.summary for c in checks if c.verdict in (Verdict.FAIL, Verdict.UNCLEAR))
    note(
        run=run, running=running, status=RunStatus.DONE, verdict=verdict, reason=reason,
        finished_at=now,
    )  # fmt: skip
    seen = [{"title": c.title, "verdict": c.verdict, "summary": c.summary} for c in checks]
    _record("validation.done", run, None, now, {"verdict": verdict, "checks": seen}, reason)
    _announce(run)
    wake("promotions.sweep")
    return verdict


@transaction.atomic
def end(run_id: int, status: Status, reason: str) -> None:
    """It writes down that the run's job ended without success."""
    run = ValidationRun.objects.select_for_update(of=("self",)).get(pk=run_id)
    if RunStatus(run.status).is_final:
        return
    job = run.job
    assert job is not None
    now = job.finished_at or job.created_at
    cancelled = status is Status.CANCELLED
    run.status = RunStatus.CANCELLED if cancelled else RunStatus.FAILED
    run.reason = reason
    run.finished_at = now
    run.save(update_fields=["status", "reason", "finished_at"])
    verb = "validation.cancelled" if cancelled else "validation.failed"
    _record(verb, run, None, now, {"attempts": job.attempt}, reason)
    _announce(run)
    wake("promotions.sweep")


def _record(
    verb: str,
    run: ValidationRun,
    actor: User | None,
    now: datetime,
    evidence: dict[str, Any],
    reason: str = "",
) -> None:
    record(
        verb,
        run,
        actor=actor,
        now=now,
        model_name=run.version.model.name,
        environment=run.environment.name,
        reason=reason,
        evidence=evidence,
    )


def _announce(run: ValidationRun) -> None:
    model = run.version.model.name
    for topic in (f"validation:{run.pk}", f"version:{run.version_id}", f"model:{model}"):
        live.publish(topic)
    live.publish("home:all")
