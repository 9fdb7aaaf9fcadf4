from factory.django import DjangoModelFactory

from apps.jobs.models import Job, JobLine
from tests.factories.registry import NOON


class JobFactory(DjangoModelFactory[Job]):
    class Meta:
        model = Job

    kind = "builds"
    subject_id = 0
    owning_team_id = 0
    status = "succeeded"
    attempt = 1
    not_before = NOON
    created_at = NOON
    started_at = NOON


class JobLineFactory(DjangoModelFactory[JobLine]):
    class Meta:
        model = JobLine

    at = NOON
    attempt = 1
    text = "Attempt 1 of 3 started"
