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
    replicas = models.PositiveSmallIntegerField(default=1)
    configuration = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    # Wish
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
