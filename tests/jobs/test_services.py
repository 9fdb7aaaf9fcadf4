from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from apps.accounts.models import User
from apps.audit.models import Event
from apps.core.errors import Unavailable
from apps.jobs import services
from apps.jobs.lifecycle import Status
from apps.jobs.models import Job
from apps.jobs.services import HANDLERS, Failed, JobRefused, Running

# A job's heartbeat writes from a thread of its own, which sees only what was committed.
pytestmark = pytest.mark.django_db(transaction=True)


class Handler:
    """Work whose outcome the test chooses, and what its subject was told."""

    def __init__(self) -> None:
        self.outcome: Exception | None = None
        self.ran: list[int] = []
        self.told: list[tuple[int, Status, str]] = []

    def work(self, subject_id: int, running: Running) -> None:
        self.ran.append(subject_id)
        running.log("working")
        if self.outcome:
            raise self.outcome

    def ending(self, subject_id: int, status: Status, reason: str) -> None:
        self.told.append((subject_id, status, reason))


@pytest.fixture
def handler() -> Iterator[Handler]:
    made = Handler()
    HANDLERS.add("test", ("test.run", made.work, made.ending))
    yield made
    del HANDLERS._held["test"]


def enqueue(now: datetime) -> Job:
    return services.enqueue(kind="test", subject_id=7, owning_team_id=1, now=now)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def past() -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC)


def test_work_that_ends_well(handler: Handler, past: datetime) -> None:
    job = enqueue(past)

    services.run(job.pk)

    job.refresh_from_db()
    assert (job.status, job.reason, job.attempt) == (Status.SUCCEEDED, "", 1)
    assert [line.text for line in job.lines.all()] == ["Attempt 1 started", "working"]
    assert handler.told == []


def test_two_requests_for_the_same_work_are_one_job(handler: Handler, past: datetime) -> None:
    assert enqueue(past).pk == enqueue(past).pk
    assert Job.objects.count() == 1


def test_a_worker_that_dies_while_somebody_cancels_leaves_nothing_half_done(
    handler: Handler, past: datetime, ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job's end and what it means for its subject are one transaction."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    job = enqueue(past)
    monkeypatch.setattr(services, "_tell_subject", killed)
    with pytest.raises(KeyboardInterrupt):
        services.cancel(job=job, actor=ada, now=past)

    job.refresh_from_db()
    assert job.status == Status.QUEUED
    assert not Event.objects.exists()


def test_a_job_is_run_once_however_often_it_is_woken(handler: Handler, past: datetime) -> None:
    job = enqueue(past)

    services.run(job.pk)
    services.run(job.pk)

    assert handler.ran == [7]


def test_work_that_cannot_succeed_fails_with_its_reason(handler: Handler, past: datetime) -> None:
    handler.outcome = Failed("The requirements do not resolve")
    job = enqueue(past)

    services.run(job.pk)

    job.refresh_from_db()
    assert (job.status, job.reason) == (Status.FAILED, "The requirements do not resolve")
    assert handler.told == [(7, Status.FAILED, "The requirements do not resolve")]


def test_what_it_needs_being_down_is_tried_again_and_then_given_up(
    handler: Handler, past: datetime
) -> None:
    handler.outcome = Unavailable("The MLflow server does not answer")
    job = enqueue(past)

    for attempt in range(1, services.MOST_WAITS):
        services.run(job.pk)
        job.refresh_from_db()
        assert (job.status, job.attempt) == (Status.QUEUED, attempt)
        assert job.reason == "Will be tried again: The MLflow server does not answer"
        Job.objects.update(not_before=past)
    assert handler.told == []
    services.run(job.pk)

    job.refresh_from_db()
    assert job.status == Status.FAILED
    assert job.reason == "The MLflow server does not answer (after 35 attempts)"
    assert [told[1] for told in handler.told] == [Status.FAILED]


def test_waiting_for_a_server_uses_up_no_attempt(handler: Handler, past: datetime) -> None:
    handler.outcome = Unavailable("The MLflow server does not answer")
    job = enqueue(past)
    for _ in range(5):
        services.run(job.pk)
        Job.objects.update(not_before=past)

    assert Job.objects.get().claim(worker="gone:1", now=past, seconds=15)
    services.sweep(now=past + timedelta(seconds=16))
    job.refresh_from_db()
    assert (job.status, job.attempt, job.waits) == (Status.QUEUED, 6, 5)

    handler.outcome = None
    Job.objects.update(not_before=past)
    services.run(job.pk)
    job.refresh_from_db()
    assert job.status == Status.SUCCEEDED


def test_work_that_breaks_is_given_up_after_three_attempts(
    handler: Handler, past: datetime
) -> None:
    handler.outcome = RuntimeError("a bug")
    job = enqueue(past)

    for _ in range(3):
        services.run(job.pk)
        Job.objects.update(not_before=past)

    job.refresh_from_db()
    assert (job.status, job.reason) == (
        Status.FAILED,
        "RuntimeError: a bug (after 3 attempts)",
    )


def test_a_lost_worker_is_noticed_and_its_job_queued_again(
    handler: Handler, past: datetime
) -> None:
    job = enqueue(past)
    assert job.claim(worker="gone:1", now=past, seconds=15)

    services.sweep(now=past + timedelta(seconds=14))
    job.refresh_from_db()
    assert job.status == Status.RUNNING
    services.sweep(now=past + timedelta(seconds=16))

    job.refresh_from_db()
    assert (job.status, job.attempt) == (Status.QUEUED, 1)
    assert job.reason == "Will be tried again: The worker gone:1 was lost"
    assert [line.text for line in job.lines.all()] == ["The worker gone:1 was lost"]


def test_a_worker_that_comes_back_late_changes_nothing(handler: Handler, past: datetime) -> None:
    job = enqueue(past)
    assert job.claim(worker="slow:1", now=past, seconds=15)
    slow = Job.objects.get(pk=job.pk)
    services.sweep(now=past + timedelta(seconds=16))
    Job.objects.update(not_before=past)
    assert Job.objects.get().claim(worker="new:2", now=past + timedelta(minutes=1), seconds=15)

    assert slow.renew(now=past, seconds=15) is None
    services._end(slow, Status.SUCCEEDED, "")

    current = Job.objects.get()
    assert (current.status, current.worker, current.attempt) == (Status.RUNNING, "new:2", 2)


def test_cancelling_a_queued_job_ends_it(handler: Handler, past: datetime, ada: User) -> None:
    job = enqueue(past)

    services.cancel(job=job, actor=ada, now=past)

    job.refresh_from_db()
    assert job.status == Status.CANCELLED
    assert handler.told == [(7, Status.CANCELLED, "Cancelled by ada")]
    event = Event.objects.get()
    assert (event.verb, event.actor, event.reason) == ("job.cancelled", ada, "Cancelled by ada")
    services.run(job.pk)
    assert handler.ran == []


def test_cancelling_a_running_job_is_a_wish_until_its_worker_says_so(
    handler: Handler, past: datetime, ada: User
) -> None:
    job = enqueue(past)
    assert job.claim(worker="a:1", now=past, seconds=15)

    services.cancel(job=job, actor=ada, now=past)
    job.refresh_from_db()
    assert job.status == Status.CANCELLING
    services.sweep(now=past + timedelta(seconds=16))

    job.refresh_from_db()
    assert (job.status, job.reason) == (Status.CANCELLED, "Cancelled by ada; its worker was lost")


def test_an_ended_job_cannot_be_cancelled(handler: Handler, past: datetime, ada: User) -> None:
    job = enqueue(past)
    services.run(job.pk)

    with pytest.raises(JobRefused, match="has already succeeded"):
        services.cancel(job=job, actor=ada, now=past)

    job.refresh_from_db()
    assert job.status == Status.SUCCEEDED
