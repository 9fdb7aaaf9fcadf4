from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from apps.jobs.lifecycle import FINAL, NEXT, Status


class JobQuerySet(models.QuerySet["Job"]):
    def waiting(self, now: datetime) -> "JobQuerySet":
        return self.filter(status=Status.QUEUED, not_before__lte=now)

    def abandoned(self, now: datetime) -> "JobQuerySet":
        """Their worker stopped renewing its lease: killed, or cut off from the database."""
        running = [Status.RUNNING, Status.CANCELLING]
        return self.filter(status__in=running, lease_until__lt=now)

    def unfinished(self) -> "JobQuerySet":
        return self.exclude(status__in=FINAL)


class Job(models.Model):
    """Long work, as a row that people can look at. Messages only wake whoever runs it."""

    kind = models.CharField(max_length=40)  # which handler runs it
    subject_id = models.BigIntegerField()  # the row that the handler works on
    owning_team_id = models.BigIntegerField()
    status = models.CharField(
        max_length=12, choices=[(s.value, s.value) for s in Status], default=Status.QUEUED
    )
    reason = models.TextField(blank=True)
    progress = models.CharField(max_length=200, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)  # one more with each claim
    waits = models.PositiveSmallIntegerField(default=0)  # attempts that a server's absence ended
    max_attempts = models.PositiveSmallIntegerField(default=3)
    not_before = models.DateTimeField()
    lease_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(status__in=[s.value for s in Status]), name="job_status_known"
            ),
            # Two clicks, two webhooks, two sweeps: one job.
            models.UniqueConstraint(
                fields=["kind", "subject_id"],
                condition=~Q(status__in=sorted(s.value for s in FINAL)),
                name="job_one_unfinished",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["status", "not_before"], name="job_status")]

    def __str__(self) -> str:
        return f"{self.kind} job {self.pk}"

    def move(self, to: Status, **changes: object) -> bool:
        """Take one step along the table. False: another process moved it first; look again."""
        came_from = Status(self.status)
        if to not in NEXT[came_from]:
            raise ValueError(f"A {came_from} job cannot become {to}")
        changes["status"] = to
        rows = type(self).objects.filter(pk=self.pk, status=came_from, attempt=self.attempt)
        won = rows.update(**changes) == 1
        if won:
            for field, value in changes.items():
                setattr(self, field, value)
        return won

    def claim(self, *, worker: str, now: datetime, seconds: float) -> bool:
        """One worker runs it: whoever turns queued into running."""
        rows = type(self).objects.filter(pk=self.pk, status=Status.QUEUED, not_before__lte=now)
        won = (
            rows.update(
                status=Status.RUNNING,
                worker=worker,
                attempt=F("attempt") + 1,
                lease_until=now + timedelta(seconds=seconds),
                started_at=now,
                reason="",
            )
            == 1
        )
        if won:
            self.refresh_from_db()
        return won

    def renew(self, *, now: datetime, seconds: float) -> Status | None:
        """Keep the claim alive. None: it is no longer ours (the lease ran out and was taken)."""
        rows = type(self).objects.filter(
            pk=self.pk, attempt=self.attempt, status__in=[Status.RUNNING, Status.CANCELLING]
        )
        if rows.update(lease_until=now + timedelta(seconds=seconds)) != 1:
            return None
        return Status(rows.values_list("status", flat=True).get())


class JobLine(models.Model):
    """One line of a job's log."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField()
    attempt = models.PositiveSmallIntegerField()
    text = models.TextField()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.text
