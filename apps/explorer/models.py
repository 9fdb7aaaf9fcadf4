from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.urls import reverse

from apps.explorer.lifecycle import State
from apps.jobs.models import Job
from apps.serving.models import Endpoint, Revision


class Search(models.Model):
    """A question to an endpoint's prediction log, and where its result lies."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="searches")
    question = models.JSONField()  # explorer.question.Question
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in State], default=State.QUEUED
    )
    files_total = models.PositiveIntegerField(default=0)
    files_done = models.PositiveIntegerField(default=0)
    found = models.PositiveBigIntegerField(default=0)  # rows that fit, so far
    shown = models.PositiveIntegerField(default=0)  # of them in the result
    truncated = models.BooleanField(default=False)  # more rows fit than the result has
    result_path = models.CharField(max_length=500, blank=True)  # below var/searches; "": gone
    size_bytes = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)  # SHA-256 of the result
    reason = models.TextField(blank=True)  # why it failed, or what is not in the result
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)  # when the result goes

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"search {self.pk} in the log of {self.endpoint}"

    def get_absolute_url(self) -> str:
        place = [self.endpoint.environment.name, self.endpoint.name]
        return f"{reverse('endpoint-log', args=place)}?search={self.pk}"

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def has_result(self) -> bool:
        return bool(self.result_path)


class Replay(models.Model):
    """Recorded requests that are asked of another revision, and how its answers compare."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="replays")
    search = models.ForeignKey(Search, null=True, on_delete=models.SET_NULL, related_name="replays")
    request_id = models.CharField(max_length=500, blank=True)  # when it is of one request
    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="+")
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in State], default=State.QUEUED
    )
    total = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    equal = models.PositiveIntegerField(default=0)
    differing = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)  # answered before, and not any more
    left_out = models.PositiveIntegerField(default=0)  # what was recorded cannot be sent
    largest_difference = models.FloatField(null=True)  # of two numbers; None: none differ
    result_path = models.CharField(max_length=500, blank=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    digest = models.CharField(max_length=64, blank=True)  # SHA-256 of the result
    reason = models.TextField(blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"replay {self.pk} against revision {self.revision.number} of {self.endpoint}"

    def get_absolute_url(self) -> str:
        return reverse("replay", args=[self.pk])

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id

    @property
    def counts(self) -> dict[str, Any]:
        names = ("equal", "differing", "failed", "left_out")
        return {name: getattr(self, name) for name in names}
