"""Verbs on jobs. A handler is registered by the app whose work it is, and woken by name."""

import os
import socket
import threading
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.db import IntegrityError, close_old_connections, connection, transaction
from django.db.models import Model, QuerySet
from django.db.utils import InterfaceError, OperationalError
from django.utils import timezone

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused, Unavailable
from apps.core.registry import Registry
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job, JobLine

# A server that is down is no fault of the job: it waits for about a quarter of an hour.
MOST_WAITS = 35
LONGEST_PAUSE_SECONDS = 30
SWEEP_SECONDS = 3  # between two sweeps
M = TypeVar("M", bound=Model)


class Cancelled(Exception):
    """A person asked the job to stop, and it did."""


class LeaseLost(Exception):
    """Another worker has the job now; this one must not touch it any more."""


class Failed(Exception):
    """The work cannot succeed as things are; trying again would not help."""


class JobRefused(Refused):
    code = "job_refused"


class Running:
    """What a handler holds of its job: it logs, tells progress, and asks whether to go on."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stop = threading.Event()  # set when the job was cancelled or lost
        self.lost = False

    def log(self, text: str) -> None:
        now = timezone.now()
        JobLine.objects.create(job=self.job, at=now, attempt=self.job.attempt, text=text)
        Job.objects.filter(pk=self.job.pk).update(progress=text[:200])
        live.publish(f"job:{self.job.pk}")

    def check(self) -> None:
        """Raises Cancelled or LeaseLost when the handler must stop; call it between steps."""
        if self.lost:
            raise LeaseLost(f"{self.job} is run by another worker")
        if self.stop.is_set():
            raise Cancelled("Cancelled by request")


# kind -> (task that runs it, what to do, what to tell the subject when it ends without success)
Work = Callable[[int, Running], None]
Ending = Callable[[int, Status, str], None]
HANDLERS: Registry[tuple[str, Work, Ending]] = Registry("job kind")


def enqueue(*, kind: str, subject_id: int, owning_team_id: int, now: datetime) -> Job:
    """It queues work on a subject; the unfinished job of the same work is returned instead."""
    try:
        with transaction.atomic():
            job = Job.objects.create(
                kind=kind,
                subject_id=subject_id,
                owning_team_id=owning_team_id,
                max_attempts=settings.JOB_MAX_ATTEMPTS,
                not_before=now,
                created_at=now,
            )
    except IntegrityError:
        return Job.objects.unfinished().get(kind=kind, subject_id=subject_id)
    wake(f"{kind}.run", job.pk)
    return job


def note(unfinished: QuerySet[M], subject: M, running: Running, /, **facts: Any) -> None:
    """It writes down on a job's subject what is known so far, while the job is its own.

    `unfinished`: the rows that have not ended. Raises: LeaseLost when this subject is none of
    them any more, or another worker has the job: what that one finds stands.
    """
    mine = unfinished.filter(pk=subject.pk, job__attempt=running.job.attempt)
    if mine.update(**facts) != 1:
        raise LeaseLost(f"{subject} is run by another worker")
    for field, value in facts.items():
        setattr(subject, field, value)


@transaction.atomic
def cancel(*, job: Job, actor: User, now: datetime) -> None:
    """It asks the job to stop: a queued one ends at once, a running one at its next step.

    Raises: JobRefused when the job has ended.
    """
    # A worker that claims the job at this moment waits for the lock, then finds it cancelled.
    held = Job.objects.select_for_update().get(pk=job.pk)
    status = Status(held.status)
    if status.is_final:
        raise JobRefused(f"{held} has already {status}", "job_ended")
    reason = f"Cancelled by {actor.get_full_name() or actor.get_username()}"
    if status is Status.QUEUED:
        held.move(Status.CANCELLED, finished_at=now, reason=reason)
        _tell_subject(held)
    elif status is Status.RUNNING:
        held.move(Status.CANCELLING, reason=reason)
    if status is not Status.CANCELLING:
        record(
            "job.cancelled",
            held,
            actor=actor,
            now=now,
            reason=reason,
            evidence={"kind": held.kind, "subject": held.subject_id, "was": status},
        )
    live.publish(f"job:{held.pk}")


def run(job_id: int) -> None:
    """It claims the job and works on it, in this process, until it ended one way or another."""
    job = Job.objects.get(pk=job_id)
    seconds = settings.JOB_LEASE_SECONDS
    worker = f"{socket.gethostname()}:{os.getpid()}"
    if not job.claim(worker=worker, now=timezone.now(), seconds=seconds):
        return  # another worker has it, or it has ended
    running = Running(job)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(running, done, seconds), daemon=True)
    heart.start()
    try:
        _, work, _ = HANDLERS.get(job.kind)
        running.log(f"Attempt {job.attempt} started")
        work(job.subject_id, running)
        running.check()
    except LeaseLost:
        return
    except Cancelled:
        _end(job, Status.CANCELLED, _why_cancelled(job))
    except Failed as failure:
        _end(job, Status.FAILED, str(failure))
    except Unavailable as down:
        _wait(job, down.message, timezone.now())
    except (OperationalError, InterfaceError):
        raise  # the database is gone: the sweep finds the job when its lease has run out
    except Exception as unforeseen:  # noqa: BLE001  a handler's bug must end the job, not hide it
        running.log(traceback.format_exc())
        _retry(job, f"{type(unforeseen).__name__}: {unforeseen}", timezone.now())
    else:
        _end(job, Status.SUCCEEDED, "")
    finally:
        done.set()
        heart.join()


def sweep(*, now: datetime) -> None:
    """It takes back jobs whose worker was lost and wakes those that nobody has begun."""
    for job in Job.objects.abandoned(now):
        if job.status == Status.CANCELLING:
            _end(job, Status.CANCELLED, f"{_why_cancelled(job)}; its worker was lost")
        else:
            _retry(job, f"The worker {job.worker} was lost", now)
    for job in Job.objects.waiting(now).filter(not_before__lt=now - timedelta(seconds=2)):
        wake(f"{job.kind}.run", job.pk, expires_seconds=SWEEP_SECONDS)


def _retry(job: Job, reason: str, now: datetime) -> None:
    """It queues the job again after an attempt that broke or whose worker was lost."""
    if job.attempt - job.waits >= job.max_attempts:
        _give_up(job, f"{reason} (after {job.attempt} attempts)")
    else:
        _queue_again(job, reason, now, pause_of=job.attempt - job.waits)


def _wait(job: Job, reason: str, now: datetime) -> None:
    """It queues the job again after a server did not answer; none of its attempts is used up."""
    if job.waits + 1 >= MOST_WAITS:
        _give_up(job, f"{reason} (after {job.attempt} attempts)")
    else:
        _queue_again(job, reason, now, pause_of=job.waits + 1, waits=job.waits + 1)


def _give_up(job: Job, reason: str) -> None:
    if not _is_cancelling(job):
        _end(job, Status.FAILED, reason)


def _queue_again(job: Job, reason: str, now: datetime, *, pause_of: int, **changes: object) -> None:
    if _is_cancelling(job):
        return
    pause = timedelta(seconds=min(2**pause_of, LONGEST_PAUSE_SECONDS))
    with transaction.atomic():
        words = f"Will be tried again: {reason}"
        if job.move(Status.QUEUED, reason=words, not_before=now + pause, **changes):
            JobLine.objects.create(job=job, at=now, attempt=job.attempt, text=reason)
            live.publish(f"job:{job.pk}")
            wake(f"{job.kind}.run", job.pk, delay_seconds=pause.total_seconds())


def _is_cancelling(job: Job) -> bool:
    """True, and the job has ended: somebody asked it to stop while its attempt came to nothing."""
    if Job.objects.get(pk=job.pk).status != Status.CANCELLING:
        return False
    job.status = Status.CANCELLING
    _end(job, Status.CANCELLED, _why_cancelled(job))
    return True


def _why_cancelled(job: Job) -> str:
    """Whoever asked for it wrote their name."""
    return Job.objects.values_list("reason", flat=True).get(pk=job.pk) or "Cancelled by request"


def _end(job: Job, status: Status, reason: str) -> None:
    now = timezone.now()
    with transaction.atomic():
        current = Job.objects.select_for_update().get(pk=job.pk)
        if current.attempt != job.attempt or Status(current.status).is_final:
            return
        job.status = current.status
        if not job.move(status, reason=reason, finished_at=now, lease_until=None):
            return
        if reason:
            JobLine.objects.create(job=job, at=now, attempt=job.attempt, text=reason)
        if status is not Status.SUCCEEDED:
            _tell_subject(job)
        live.publish(f"job:{job.pk}")


def _tell_subject(job: Job) -> None:
    _, _, ending = HANDLERS.get(job.kind)
    ending(job.subject_id, Status(job.status), job.reason)


def _beat(running: Running, done: threading.Event, seconds: float) -> None:
    try:
        while not done.wait(seconds / 4):
            close_old_connections()
            try:
                status = running.job.renew(now=timezone.now(), seconds=seconds)
            except (OperationalError, InterfaceError):
                continue  # the lease tells: if the database stays away, another worker takes it
            if status is None:
                running.lost = True
            if status is not Status.RUNNING:
                running.stop.set()
    finally:
        connection.close()
