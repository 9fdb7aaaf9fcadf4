from typing import ClassVar

from django.db import models
from django.db.models import Q

from apps.baselines.lifecycle import Origin, State
from apps.builds.models import Build
from apps.jobs.models import Job
from apps.registry.models import Dataset, Version


class Baseline(models.Model):
    """The frozen bins and counts of a version's reference data: what live data is compared with.

    The newest ready one of a version is in force; an older one keeps what was counted in its bins.
    """

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="baselines")
    number = models.PositiveIntegerField()  # of this version, from 1
    build = models.ForeignKey(Build, null=True, on_delete=models.PROTECT, related_name="+")
    origin = models.CharField(max_length=10, choices=[(o.value, o.value) for o in Origin])
    dataset = models.ForeignKey(Dataset, null=True, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in State], default=State.QUEUED
    )
    reason = models.TextField(blank=True)  # why it failed, or what is not in it
    job = models.ForeignKey(Job, null=True, on_delete=models.PROTECT, related_name="+")
    # What follows is written once, when it is frozen.
    rows = models.PositiveBigIntegerField(default=0)
    layout = models.JSONField(default=dict)  # baselines.layout.Layout
    counts = models.BinaryField(default=bytes)  # of the reference, little-endian uint64
    # Column -> {"js", "missing", "unseen"}: the largest that any of the reference's ten blocks of
    # time differs from the other nine. Only "unseen" where the rows are in no order of time.
    natural = models.JSONField(default=dict)
    importance = models.JSONField(default=dict)  # input -> share of all, sums to 1; {}: not known
    meaning = models.JSONField(default=dict)  # baselines.meaning.Meaning
    # Share of positive labels per score bin (None: no such rows), isotonic; {}: no labels.
    calibration = models.JSONField(default=dict)
    quality = models.JSONField(default=dict)  # metric -> value on the reference's labels
    time_from = models.DateTimeField(null=True)  # the time that its rows speak of
    time_to = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    frozen_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "number"], name="baseline_once"),
            models.UniqueConstraint(
                fields=["version"],
                condition=Q(state__in=["queued", "running"]),
                name="baseline_one_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return f"baseline {self.number} of {self.version}"

    @property
    def owning_team_id(self) -> int:
        return self.version.owning_team_id
