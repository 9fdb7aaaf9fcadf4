from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.urls import reverse

from apps.builds.models import Build
from apps.jobs.models import Job
from apps.registry.models import Dataset, Policy, Version
from apps.serving.models import Environment
from apps.validation.lifecycle import RunStatus, Verdict


class ValidationRun(models.Model):
    """One run of the gates of one environment's policy over one build."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="validations")
    build = models.ForeignKey(Build, on_delete=models.PROTECT, related_name="validations")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    policy = models.ForeignKey(Policy, null=True, on_delete=models.PROTECT, related_name="+")
    gates = models.JSONField(default=list)  # the policy's gates as they were when it began
    job = models.ForeignKey(Job, null=True, on_delete=models.PROTECT, related_name="+")
    holdout_name = models.CharField(max_length=200, blank=True)  # as the policy names it
    positive_class = models.CharField(max_length=200, blank=True)
    dataset = models.ForeignKey(Dataset, null=True, on_delete=models.PROTECT, related_name="+")
    compared_with = models.ForeignKey(
        Build, null=True, on_delete=models.PROTECT, related_name="+"
    )  # what served in that environment then
    status = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in RunStatus], default=RunStatus.QUEUED
    )
    verdict = models.CharField(
        max_length=10, choices=[(v.value, v.value) for v in Verdict], blank=True
    )
    reason = models.TextField(blank=True)
    figures = models.JSONField(default=dict)  # rows read, without a label, judged; seconds
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["build", "environment"],
                condition=Q(status__in=["queued", "running"]),
                name="validation_one_unfinished",
            )
        ]

    def __str__(self) -> str:
        return f"validation {self.pk} of {self.version} for {self.environment}"

    def get_absolute_url(self) -> str:
        return reverse("validation", args=[self.pk])

    @property
    def owning_team_id(self) -> int:
        return self.version.owning_team_id


class CheckResult(models.Model):
    """One rule's verdict, with what it saw."""

    run = models.ForeignKey(ValidationRun, on_delete=models.CASCADE, related_name="checks")
    number = models.PositiveSmallIntegerField()
    gate = models.CharField(max_length=40)  # which kind of rule
    title = models.CharField(max_length=200)
    verdict = models.CharField(max_length=10, choices=[(v.value, v.value) for v in Verdict])
    summary = models.CharField(max_length=500)  # one sentence with the figures
    evidence = models.JSONField(default=dict)
    seconds = models.FloatField()

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "number"], name="check_once")
        ]

    def __str__(self) -> str:
        return f"{self.title}: {self.verdict}"
