from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from apps.baselines.models import Baseline
from apps.monitoring.models import Slice
from apps.quality.lifecycle import State
from apps.serving.models import Endpoint, Revision


class Measure(models.Model):
    """How the labels of one revision are read and summed; frozen by the first that is joined."""

    revision = models.OneToOneField(Revision, on_delete=models.CASCADE, related_name="measure")
    # Whose meaning it took; null: there was none, so what came in had to tell.
    baseline = models.ForeignKey(Baseline, null=True, on_delete=models.SET_NULL, related_name="+")
    meaning = models.JSONField()  # baselines.meaning.Meaning
    ruler = models.JSONField()  # quality.marks.Ruler
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"measure of {self.revision}"


class Feedback(models.Model):
    """One label as somebody sent it: the truth of one predicted row."""

    sender = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="feedback"
    )
    # Where its prediction was made; null: on any endpoint whose labels the sender may send.
    endpoint = models.ForeignKey(
        Endpoint, null=True, on_delete=models.CASCADE, related_name="feedback"
    )
    request_id = models.CharField(max_length=500)
    row = models.PositiveIntegerField(default=0)
    label = models.JSONField()
    observed_at = models.DateTimeField()
    received_at = models.DateTimeField()
    state = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in State], default=State.WAITING
    )
    reason = models.CharField(max_length=200, blank=True)  # why it counts nowhere
    tried_at = models.DateTimeField(null=True)
    next_try_at = models.DateTimeField(null=True)  # null: nothing more is looked for

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["sender", "endpoint", "request_id", "row"],
                nulls_distinct=False,
                name="feedback_once",
            )
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["next_try_at"],
                condition=models.Q(next_try_at__isnull=False),
                name="feedback_due",
            ),
            models.Index(fields=["received_at"], name="feedback_received"),
        ]

    def __str__(self) -> str:
        return f"label of {self.request_id}[{self.row}]"


class Labelled(models.Model):
    """A predicted row with its label: what is counted in Marks, and what a correction takes out."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="labelled")
    request_id = models.CharField(max_length=500)
    row = models.PositiveIntegerField()
    shadow = models.BooleanField()
    at = models.DateTimeField()  # of the prediction
    label = models.JSONField()
    observed_at = models.DateTimeField()
    score = models.FloatField(null=True)  # of the positive class
    # Of each class that the ruler has, where the model tells them of more than two.
    each = ArrayField(models.FloatField(), null=True)
    predicted = models.FloatField()  # place of the class, or the value
    actual = models.FloatField()  # the label, as `predicted`
    slices = ArrayField(models.BigIntegerField(), default=list)  # in which it was counted

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "request_id", "row", "shadow"], name="labelled_once"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["revision", "at"], name="labelled_at"),
            models.Index(fields=["request_id"], name="labelled_request"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id}[{self.row}] of revision {self.revision_id}"


class Lookback(models.Model):
    """How far back a slice has counted the labels that were joined before it was known.

    Labels that are joined later count in it at once. Newest first, by when they were predicted.
    """

    slice = models.OneToOneField(Slice, on_delete=models.CASCADE, related_name="lookback")
    through = models.BigIntegerField()  # the last Labelled that was joined without the slice
    # Where it stands: those before this one are still to be looked at; null: all of them.
    at = models.DateTimeField(null=True)
    before = models.BigIntegerField(null=True)
    done_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.slice} back to {self.at}"


class Marks(models.Model):
    """The labelled rows of one revision in one span of time, by when they were predicted.

    Of all of them, or of those of a slice. Sums of integers, so that spans and corrections merge
    exactly.
    """

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="marks")
    slice = models.ForeignKey(Slice, null=True, on_delete=models.CASCADE, related_name="+")
    shadow = models.BooleanField(default=False)
    at = models.DateTimeField()  # start of the span
    width_seconds = models.PositiveIntegerField()
    labels = models.BigIntegerField(default=0)
    sums = models.BinaryField()  # int64, quality.marks

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "slice", "shadow", "width_seconds", "at"],
                nulls_distinct=False,
                name="marks_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.revision_id} {self.at:%H:%M:%S} +{self.width_seconds}s"
