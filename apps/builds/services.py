"""Verbs on builds. What a running build writes, it writes only while the job is its own."""

import logging
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.notifications.services import tell
from apps.registry.models import Version

log = logging.getLogger(__name__)
KIND = "builds"
UNFINISHED = (BuildStatus.QUEUED, BuildStatus.RUNNING)


class BuildRefused(Refused):
    code = "build_refused"


@transaction.atomic
def start(*, version: Version, actor: User | None, now: datetime) -> Build:
    """It queues a build of the version, numbered after its last one.

    Raises: BuildRefused while another build of the version is unfinished, and when MLflow no
    longer has the version.
    """
    # The lock gives two starts at once one number each.
    version = (
        Version.objects.select_for_update(of=("self",)).select_related("model").get(pk=version.pk)
    )
    if version.gone_at is not None:
        raise BuildRefused(f"MLflow no longer has {version}, so it cannot be built", "version_gone")
    last = Build.objects.filter(version=version).order_by("-number").first()
    if last is not None and last.status in UNFINISHED:
        raise BuildRefused(f"{last} is still {last.status}; wait for it", "build_unfinished")
    build = Build.objects.create(
        version=version, number=last.number + 1 if last else 1, created_at=now
    )
    build.job = jobs.enqueue(
        kind=KIND, subject_id=build.pk, owning_team_id=version.owning_team_id, now=now
    )
    build.save(update_fields=["job"])
    record(
        "build.started",
        build,
        actor=actor,
        now=now,
        model_name=version.model.name,
        evidence={"number": build.number, "job": build.job.pk},
    )
    _announce(build)
    return build


def sweep(*, now: datetime) -> None:
    """It queues the first build of each version that has none."""
    waiting = Version.objects.filter(builds=None, gone_at=None).select_related("model")
    for version in waiting.order_by("pk")[:100]:
        try:
            start(version=version, actor=None, now=now)
        except (BuildRefused, IntegrityError) as other:  # another sweep was quicker
            log.info("No build of %s queued: %s", version, other)


def begin(*, build: Build, running: jobs.Running) -> bool:
    """It marks the build as running and clears what a lost attempt left. False: it has ended."""
    build.refresh_from_db()
    if BuildStatus(build.status).is_final:
        return False
    note(build=build, running=running, status=BuildStatus.RUNNING, reason="", failure="", probe={})
    _announce(build)
    return True


def note(*, build: Build, running: jobs.Running, **facts: Any) -> None:
    """It writes down what the build found out so far.

    Raises: jobs.services.LeaseLost when another worker has the job: its findings stand.
    """
    jobs.note(Build.objects.filter(status__in=UNFINISHED), build, running, **facts)
    live.publish(f"build:{build.pk}")


@transaction.atomic
def succeed(*, build: Build, running: jobs.Running, now: datetime) -> None:
    """It makes the bundle the one that the version ships.

    Raises: jobs.services.LeaseLost when another worker has the job.
    """
    note(build=build, running=running, status=BuildStatus.SUCCEEDED, finished_at=now)
    Version.objects.filter(pk=build.version_id).update(digest=build.digest)
    record(
        "build.succeeded",
        build,
        actor=None,
        now=now,
        model_name=build.version.model.name,
        evidence={
            "digest": build.digest,
            "model_digest": build.model_digest,
            "python": build.python_version,
            "packages": len(build.packages),
            "durations": build.durations,
        },
    )
    _announce(build)
    wake("promotions.sweep")


@transaction.atomic
def end(build_id: int, status: Status, reason: str) -> None:
    """It writes down that the build's job ended without success, and tells who registered it."""
    build = (
        Build.objects.select_for_update(of=("self",))
        .select_related("version__model")
        .get(pk=build_id)
    )
    if BuildStatus(build.status).is_final:
        return
    job = build.job
    assert job is not None
    now = job.finished_at or job.created_at
    cancelled = status is Status.CANCELLED
    build.status = BuildStatus.CANCELLED if cancelled else BuildStatus.FAILED
    build.reason = reason
    build.finished_at = now
    if not cancelled and not build.failure:
        build.failure = "lost"  # its workers, or a server that it needs
    build.save(update_fields=["status", "reason", "finished_at", "failure"])
    record(
        "build.cancelled" if cancelled else "build.failed",
        build,
        actor=None,
        now=now,
        model_name=build.version.model.name,
        reason=reason,
        evidence={"failure": build.failure, "attempts": job.attempt},
    )
    _announce(build)
    registrant = build.version.registered_by
    if not cancelled and registrant is not None:
        _tell(build, registrant, now)


def _tell(build: Build, registrant: User, now: datetime) -> None:
    version = build.version
    tell(
        users=[registrant],
        team_id=build.owning_team_id,
        kind="build.failed",
        key=f"build.failed:{build.pk}",
        subject=f"{version} could not be built",
        sentences=[
            f"Build {build.number} of {version} failed, so the version cannot be promoted.",
            build.reason,
        ],
        facts=[("Model", version.model.name), ("Version", str(version.number))],
        link_path=build.get_absolute_url(),
        button="Look at the build",
        now=now,
    )


def _announce(build: Build) -> None:
    model = build.version.model.name
    for topic in (f"build:{build.pk}", f"version:{build.version_id}", f"model:{model}", "home:all"):
        live.publish(topic)
