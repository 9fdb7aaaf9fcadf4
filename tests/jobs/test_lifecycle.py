from datetime import datetime

import pytest

from apps.jobs.lifecycle import FINAL, NEXT, Status
from apps.jobs.models import Job

pytestmark = pytest.mark.django_db


def job_in(status: Status, now: datetime) -> Job:
    return Job.objects.create(
        kind="test", subject_id=1, owning_team_id=1, status=status, not_before=now, created_at=now
    )


@pytest.mark.parametrize(("came_from", "to"), [(a, b) for a in Status for b in Status])
def test_only_the_table_is_allowed(came_from: Status, to: Status, now: datetime) -> None:
    job = job_in(came_from, now)

    if to in NEXT[came_from]:
        assert job.move(to)
        job.refresh_from_db()
        assert job.status == to
    else:
        with pytest.raises(ValueError, match=f"A {came_from} job cannot become {to}"):
            job.move(to)
        job.refresh_from_db()
        assert job.status == came_from


def test_the_second_worker_loses(now: datetime) -> None:
    first = job_in(Status.QUEUED, now)
    second = Job.objects.get(pk=first.pk)

    assert first.claim(worker="a", now=now, seconds=15)
    assert not second.claim(worker="b", now=now, seconds=15)
    second.refresh_from_db()
    assert (second.worker, second.attempt) == ("a", 1)


def test_final() -> None:
    assert {Status.SUCCEEDED, Status.FAILED, Status.CANCELLED} == FINAL
