"""Workers that vanish, servers that are down, people who change their mind."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from apps.audit.models import Event
from apps.builds import runner, services
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.builds.steps import BuildFailed, bundles, environments
from apps.builds.steps.interpreters import choose
from apps.jobs import services as jobs
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job
from apps.registry.models import Version
from tests.builds import artifacts
from tests.builds.cast import Store, build

pytestmark = pytest.mark.django_db(transaction=True)


def lost_attempt(version: Version, now: datetime) -> tuple[Build, Job]:
    """It is a build whose worker claimed it, left half a bundle, and was killed."""
    queued = services.start(version=version, actor=None, now=now)
    job = queued.job
    assert job is not None
    assert job.claim(worker="gone:1", now=now, seconds=15)
    assert services.begin(build=queued, running=jobs.Running(job))
    half = bundles.work_directory(queued.pk, 1) / "model"
    half.mkdir()
    (half / "MLmodel").write_text("half a fi")
    return queued, job


def run_again(job: Job, now: datetime) -> Build:
    """It lets the lease pass, sweeps, and runs the job as the next worker would."""
    jobs.sweep(now=now + timedelta(seconds=16))
    job.refresh_from_db()
    assert job.status == Status.QUEUED
    Job.objects.filter(pk=job.pk).update(not_before=timezone.now())
    jobs.run(job.pk)
    job.refresh_from_db()
    return Build.objects.get(pk=job.subject_id)


def test_a_build_whose_worker_vanished_is_done_once_by_the_next(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    queued, job = lost_attempt(version, now)
    half = bundles.folder() / f"tmp-{queued.pk}-1"
    assert half.is_dir()

    done = run_again(job, now)

    assert (done.status, job.status, job.attempt) == (BuildStatus.SUCCEEDED, Status.SUCCEEDED, 2)
    assert not half.exists()
    assert Event.objects.filter(verb="build.succeeded").count() == 1
    assert Build.objects.count() == 1


def test_a_worker_that_lost_its_job_cannot_write_any_more(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    stale, job = lost_attempt(version, now)
    of_the_first = jobs.Running(Job.objects.get(pk=job.pk))
    done = run_again(job, now)

    with pytest.raises(jobs.LeaseLost):
        services.note(build=stale, running=of_the_first, digest="sha256:old", failure="load")

    done.refresh_from_db()
    assert (done.status, done.failure) == (BuildStatus.SUCCEEDED, "")
    assert done.digest != "sha256:old"


def test_a_worker_killed_after_its_last_step_does_not_make_the_build_run_twice(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    done = build(version, now)
    lease_until = now + timedelta(seconds=15)
    Job.objects.update(status=Status.RUNNING, lease_until=lease_until, finished_at=None)
    assert done.job is not None

    again = run_again(done.job, now)

    assert store.downloads == 1
    assert (again.digest, again.finished_at) == (done.digest, done.finished_at)
    assert Event.objects.filter(verb="build.succeeded").count() == 1


def test_workers_that_vanish_every_time_fail_the_build(version: Version, now: datetime) -> None:
    queued, job = lost_attempt(version, now)
    Job.objects.filter(pk=job.pk).update(attempt=3)

    jobs.sweep(now=now + timedelta(seconds=16))

    queued.refresh_from_db()
    assert (queued.status, queued.failure) == (BuildStatus.FAILED, "lost")
    assert queued.reason == "The worker gone:1 was lost (after 3 attempts)"


def test_a_registry_that_is_down_makes_the_build_wait_and_then_succeed(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    store.down = True
    waiting = build(version, now)
    assert waiting.job is not None
    assert waiting.job.status == Status.QUEUED
    assert waiting.job.reason == "Will be tried again: The MLflow server does not answer"
    store.down = False
    Job.objects.update(not_before=now)

    jobs.run(waiting.job.pk)

    waiting.refresh_from_db()
    assert (waiting.status, waiting.number) == (BuildStatus.SUCCEEDED, 1)


def test_a_cancelled_build_ends_between_its_steps(
    version: Version, store: Store, now: datetime
) -> None:
    artifacts.write(store.place(version))
    queued = services.start(version=version, actor=None, now=now)
    assert queued.job is not None
    queued.job.claim(worker="here:1", now=now, seconds=15)
    running = jobs.Running(queued.job)
    running.stop.set()

    with pytest.raises(jobs.Cancelled):
        runner.work(queued.pk, running)

    assert store.downloads == 0
    assert list(bundles.folder().glob(f"tmp-{queued.pk}-*")) == []


def test_half_an_environment_is_never_used(version: Version, store: Store, now: datetime) -> None:
    artifacts.write(store.place(version))
    first = build(version, now)
    place = Path(first.environment_path)
    python = choose(artifacts.PYTHON)
    lock = "uvicorn==0.0.0 is never installed for this lock\n"
    half = place.parent / f"tmp-{environments.key(lock, python)}-12345678"
    half.mkdir()
    broken = place.parent / environments.key(lock, python)
    broken.mkdir()

    with pytest.raises(BuildFailed) as failed:
        environments.ready(lock=lock, python=python, tick=lambda: None)

    assert failed.value.kind == "environment"
    assert not half.exists()
    assert not broken.exists()


def test_two_builds_of_one_lock_make_one_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    python, lock = choose(artifacts.PYTHON), f"# nothing to install for {uuid.uuid4()}\n"
    made: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def install(fresh: Path, *_: object) -> None:
        made.append(fresh.name)
        inside.set()
        assert go_on.wait(30)
        (fresh / "bin").mkdir(parents=True)
        (fresh / "bin" / "python").touch()

    def first() -> None:
        environments.ready(lock=lock, python=python, tick=lambda: None)

    monkeypatch.setattr(environments, "_install", install)
    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(30)

    place, new = environments.ready(lock=lock, python=python, tick=go_on.set)
    thread.join()

    assert (new, len(made)) == (False, 1)
    assert place.parent == settings.STACK.var / "environments"
