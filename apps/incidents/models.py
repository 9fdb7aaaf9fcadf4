from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.urls import reverse

from apps.incidents.lifecycle import Past, Severity, Standing, State, WatchState
from apps.serving.models import Endpoint, Revision

LONG_AGO = datetime.fromisoformat("2000-01-01T00:00:00+00:00")
SEVERITIES = [(s.value, s.value) for s in Severity]


class Round(models.Model):
    """When an endpoint's monitors are read next; one worker at a time, by lease."""

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, related_name="+")
    due_at = models.DateTimeField(default=LONG_AGO)
    lease_until = models.DateTimeField(default=LONG_AGO)
    read_at = models.DateTimeField(null=True)
    error = models.TextField(blank=True)  # why the last round could not be made
    broken_since = models.DateTimeField(null=True)  # the first of those that could not be made

    def __str__(self) -> str:
        return f"monitors of {self.endpoint_id}"

    def claim(self, now: datetime, *, seconds: int = 120) -> bool:
        """One worker at a time. The lease outlives a round."""
        until = now + timedelta(seconds=seconds)
        rows = type(self).objects.filter(pk=self.pk, lease_until__lte=now, due_at__lte=now)
        won = rows.update(lease_until=until) == 1
        if won:
            self.lease_until = until
        return won

    def finish(self, now: datetime, *, due_at: datetime, error: str = "") -> None:
        """Give the lease back, unless it ran out and is another worker's by now."""
        mine = type(self).objects.filter(pk=self.pk, lease_until=self.lease_until)
        since = Coalesce("broken_since", Value(now)) if error else None
        mine.update(lease_until=now, due_at=due_at, read_at=now, error=error, broken_since=since)


class Incident(models.Model):
    """What people handle: all alerts of an endpoint that have one cause."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="incidents")
    number = models.PositiveIntegerField()  # of this endpoint, from 1
    # What serves with the fault; null: the endpoint as a whole.
    served = models.ForeignKey(Revision, null=True, on_delete=models.CASCADE, related_name="+")
    title = models.CharField(max_length=250)
    severity = models.CharField(max_length=10, choices=SEVERITIES)
    state = models.CharField(
        max_length=12, choices=[(s.value, s.value) for s in State], default=State.OPEN
    )
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    acknowledged_at = models.DateTimeField(null=True)
    muted_until = models.DateTimeField(null=True)  # no mails until then
    opened_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )  # null with a time: it ended by itself
    revision = models.PositiveIntegerField(default=0)  # a stale write finds no row

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "number"], name="incident_once")
        ]
        indexes: ClassVar = [models.Index(fields=["state"], name="incident_state")]

    def __str__(self) -> str:
        return f"incident {self.number} of {self.endpoint}"

    def get_absolute_url(self) -> str:
        return reverse("incident", args=[self.pk])

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def is_final(self) -> bool:
        return State(self.state).is_final

    def is_muted(self, now: datetime) -> bool:
        return self.muted_until is not None and self.muted_until > now

    def move(self, **changes: Any) -> bool:
        """Write, unless somebody wrote since this row was read."""
        changes["revision"] = self.revision + 1
        mine = type(self).objects.filter(pk=self.pk, revision=self.revision)
        won = mine.update(**changes) == 1
        if won:
            for field, value in changes.items():
                setattr(self, field, value)
        return won


class Watch(models.Model):
    """One monitor of one endpoint, on one column where it has columns: where it stands.

    The row without a column tells of the monitor as a whole; columns have one from the first time
    that they were wrong.
    """

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="watches")
    rule = models.CharField(max_length=60)  # its name in the policy
    metric = models.CharField(max_length=60)
    served = models.ForeignKey(Revision, null=True, on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=200, blank=True)  # a column; "": the monitor as a whole
    state = models.CharField(
        max_length=8, choices=[(s.value, s.value) for s in WatchState], default=WatchState.WAITING
    )
    severity = models.CharField(max_length=10, blank=True)  # of its open alert
    history = models.JSONField(default=list)  # [[end of the window, is wrong, is critical]]
    reading = models.JSONField(default=dict)  # the last one: value, words, verdict
    smallest = models.FloatField(null=True)  # the smallest change that it could have seen
    last_enough_at = models.DateTimeField(null=True)
    evaluated_at = models.DateTimeField(null=True)
    muted_until = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["rule", "subject", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "rule", "served", "subject"],
                nulls_distinct=False,
                name="watch_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.rule}{f' of {self.subject}' if self.subject else ''}"

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def standing(self) -> Standing:
        past = tuple(
            Past(datetime.fromisoformat(until), wrong, critical)
            for until, wrong, critical in self.history
        )
        severity = Severity(self.severity) if self.severity else None
        return Standing(WatchState(self.state), severity, past)

    def take(self, standing: Standing) -> None:
        """It holds what was decided; the caller saves it."""
        self.state = standing.state
        self.severity = standing.severity or ""
        self.history = [
            [past.until.isoformat(), past.is_wrong, past.is_critical] for past in standing.history
        ]

    def is_muted(self, now: datetime) -> bool:
        return self.muted_until is not None and self.muted_until > now


class Alert(models.Model):
    """One firing of a watch, until it cleared."""

    watch = models.ForeignKey(Watch, on_delete=models.CASCADE, related_name="alerts")
    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="alerts")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    severity = models.CharField(max_length=10, choices=SEVERITIES)
    headline = models.CharField(max_length=200)  # as the title says it
    words = models.TextField()
    ended = models.TextField(blank=True)  # what was seen when it closed
    rank = models.FloatField(default=0)
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["-rank", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["watch"], condition=Q(closed_at=None), name="alert_one_open"
            )
        ]

    def __str__(self) -> str:
        return self.words


class IncidentNote(models.Model):
    """What a person wrote down about an incident."""

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="notes")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField()
    text = models.TextField()

    class Meta:
        ordering: ClassVar = ["pk"]

    def __str__(self) -> str:
        return self.text[:80]


class Digest(models.Model):
    """A day on which the owners were told what is open: it is told once."""

    day = models.DateField(unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"digest of {self.day}"
