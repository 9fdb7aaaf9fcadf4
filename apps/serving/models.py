from typing import ClassVar

from django.db import models
from django.urls import reverse

from apps.builds.models import Build
from apps.registry.models import Model, Version
from apps.serving.lifecycle import RevisionState, RevisionWish


class Environment(models.Model):
    """An ordered place where models run."""

    name = models.SlugField(max_length=60, unique=True)
    order = models.PositiveSmallIntegerField(unique=True)  # a version passes them in this order
    backend = models.CharField(max_length=60, default="local")  # alias in SERVING_BACKENDS

    class Meta:
        ordering: ClassVar = ["order"]

    def __str__(self) -> str:
        return self.name


class Endpoint(models.Model):
    """The stable name that callers use: one model in one environment."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="endpoints")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="endpoints")
    name = models.SlugField(max_length=200)  # in the address that callers use
    stable = models.ForeignKey(
        "Revision", null=True, on_delete=models.PROTECT, related_name="+"
    )  # what serves when no rollout moves
    # What we want: written by services. {revision id as text: thousandths}, sum 1000 or empty.
    traffic_wanted = models.JSONField(default=dict)
    traffic_changed_at = models.DateTimeField(null=True)
    # What the gateway reported: written by the serving sweep. null: it did not answer.
    traffic_seen = models.JSONField(null=True)
    traffic_seen_at = models.DateTimeField(null=True)
    traffic_reason = models.TextField(blank=True)  # why it is not yet what is wanted
    # Copies of requests, apart from the split: {revision id as text: thousandths}, each of all.
    shadow_wanted = models.JSONField(default=dict)
    shadow_seen = models.JSONField(null=True)  # as traffic_seen
    revision = models.PositiveIntegerField(default=0)  # every write of a wish adds one
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["name", "environment__order"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "environment"], name="endpoint_once"),
            models.UniqueConstraint(fields=["environment", "name"], name="endpoint_name_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.environment.name}"

    def get_absolute_url(self) -> str:
        return reverse("endpoint", args=[self.environment.name, self.name])

    @property
    def owning_team_id(self) -> int:
        return self.model.team_id


class Revision(models.Model):
    """One version as deployed on an endpoint, with its configuration."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()  # of this endpoint, from 1
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="revisions")
    build = models.ForeignKey(Build, on_delete=models.PROTECT, related_name="revisions")
    created_at = models.DateTimeField()
    # Wish: how many replicas now; written when it is deployed and by the scaler. 0: asleep.
    replicas = models.PositiveSmallIntegerField(default=1)
    scaled_at = models.DateTimeField(null=True)
    scaled_reason = models.TextField(blank=True)
    wanted = models.CharField(
        max_length=4, choices=[(w.value, w.value) for w in RevisionWish], default=RevisionWish.RUN
    )
    # State: written by the serving sweep
    state = models.CharField(
        max_length=10,
        choices=[(s.value, s.value) for s in RevisionState],
        default=RevisionState.STARTING,
    )
    ready_replicas = models.PositiveSmallIntegerField(default=0)
    reason = models.TextField(blank=True)
    seen_at = models.DateTimeField(null=True)
    most_memory_mb = models.PositiveIntegerField(null=True)  # that any of its replicas took

    class Meta:
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "number"], name="revision_once")
        ]

    def __str__(self) -> str:
        return f"revision {self.number} of {self.endpoint} ({self.version})"

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id


class Replica(models.Model):
    """One process, or group of them, that serves a revision: as the backend last reported it."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="sighted")
    index = models.PositiveSmallIntegerField()
    ready = models.BooleanField()
    started_at = models.DateTimeField(null=True)
    start_seconds = models.FloatField(null=True)  # from its start until it was seen ready
    restarts = models.PositiveIntegerField(default=0)
    memory_mb = models.PositiveIntegerField(null=True)
    in_flight = models.PositiveIntegerField(null=True)
    # Of its present process with all its children; begins again at 0 with the next process.
    processor_seconds = models.FloatField(null=True)
    read_at = models.DateTimeField(null=True)  # when the figures above were read
    reason = models.TextField(blank=True)  # why it is not ready, or why it was last replaced

    class Meta:
        ordering: ClassVar = ["revision", "index"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["revision", "index"], name="replica_once")
        ]

    def __str__(self) -> str:
        return f"replica {self.index} of {self.revision}"

    @property
    def memory_bytes(self) -> int | None:
        return None if self.memory_mb is None else self.memory_mb << 20


class Usage(models.Model):
    """What an endpoint's replicas used on one day in UTC, and what `max` of them would have."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="usage")
    day = models.DateField()
    replica_seconds = models.FloatField(default=0)
    most_replica_seconds = models.FloatField(default=0)

    class Meta:
        ordering: ClassVar = ["-day"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["endpoint", "day"], name="usage_once")
        ]

    def __str__(self) -> str:
        return f"{self.endpoint} on {self.day}"
