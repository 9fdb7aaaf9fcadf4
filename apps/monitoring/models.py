from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q

from apps.baselines.models import Baseline
from apps.serving.models import Endpoint, Revision


class LogFile(models.Model):
    """One Parquet file of the prediction log. A file without a row does not exist for readers."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="log_files")
    day = models.DateField()
    path = models.CharField(max_length=500, unique=True)  # below the log's directory
    rows = models.PositiveIntegerField()
    size_bytes = models.PositiveBigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["endpoint", "day"], name="log_file_day")]

    def __str__(self) -> str:
        return self.path


class RowFile(models.Model):
    """The rows of one revision in one log file, a column a feature (monitoring.rows).

    It comes and goes with its log file; it is counted once for each Lens.
    """

    log_file = models.ForeignKey(LogFile, on_delete=models.CASCADE, related_name="row_files")
    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="row_files")
    path = models.CharField(max_length=500, unique=True)  # below the directory of rows
    rows = models.PositiveIntegerField()
    size_bytes = models.PositiveBigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.path


class Segment(models.Model):
    """One spool segment of one replica: counted once, and once in a log file."""

    name = models.CharField(max_length=200, unique=True)
    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="+")
    rows = models.PositiveIntegerField()
    dropped = models.PositiveIntegerField(default=0)  # what the replica could not keep
    torn = models.PositiveIntegerField(default=0)  # lines that a kill cut in two
    left_out = models.PositiveBigIntegerField(default=0)  # rows that only the log has (MOST_ROWS)
    set_aside = models.CharField(max_length=300, blank=True)  # why its file lies in spool/rejected
    counted_at = models.DateTimeField()
    log_file = models.ForeignKey(
        LogFile, null=True, on_delete=models.PROTECT, related_name="segments"
    )

    def __str__(self) -> str:
        return self.name


class Rollup(models.Model):
    """What one revision did in one short span of time, as sums that merge exactly.

    From the gateway's log: what callers got, with the answers that no model server gave.
    From the model servers' capture: what the model itself took, for callers and, apart from that,
    for copies of requests whose answers reach nobody.
    """

    class From(models.TextChoices):
        GATEWAY = "gateway"
        SERVER = "server"
        SHADOW = "shadow"

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="rollups")
    origin = models.CharField(max_length=10, choices=From)
    at = models.DateTimeField()  # start of the span
    width_seconds = models.PositiveIntegerField()
    requests = models.PositiveBigIntegerField(default=0)
    client_errors = models.PositiveBigIntegerField(default=0)  # 4xx: the caller's
    server_errors = models.PositiveBigIntegerField(default=0)  # 5xx and no answer: ours
    # Of requests answered 2xx: what an error took says nothing about speed.
    latency_count = models.PositiveBigIntegerField(default=0)
    log_latency_sum = models.FloatField(default=0)  # natural log of milliseconds
    log_latency_square_sum = models.FloatField(default=0)
    latency_bins = models.BinaryField(default=bytes)  # monitoring.histogram

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "origin", "width_seconds", "at"], name="rollup_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.revision_id} {self.at:%H:%M:%S} +{self.width_seconds}s"


class ReplicaUse(models.Model):
    """What one replica used in one span of time, as sums and maxima that merge exactly."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="replica_use")
    index = models.PositiveSmallIntegerField()
    at = models.DateTimeField()  # start of the span
    width_seconds = models.PositiveIntegerField()
    processor_seconds = models.FloatField(default=0)
    measured_seconds = models.FloatField(default=0)  # in which those were used
    most_processors = models.FloatField(null=True)  # between two looks
    memory_looks = models.PositiveIntegerField(default=0)
    memory_mb_sum = models.PositiveBigIntegerField(default=0)  # over the looks
    most_memory_mb = models.PositiveIntegerField(null=True)
    in_flight_looks = models.PositiveIntegerField(default=0)
    in_flight_sum = models.PositiveBigIntegerField(default=0)
    most_in_flight = models.PositiveIntegerField(null=True)
    # At the last look. null: there was none, or nothing to compare with it.
    processors_limit = models.FloatField(null=True)
    memory_limit_mb = models.FloatField(null=True)
    in_flight_limit = models.FloatField(null=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "width_seconds", "at", "index"], name="replica_use_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.revision_id}.{self.index} {self.at:%H:%M:%S} +{self.width_seconds}s"


class ReplicaLook(models.Model):
    """How far one replica's use was counted; moves in the transaction that adds what was new."""

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="+")
    index = models.PositiveSmallIntegerField()
    at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    processor_at = models.DateTimeField(null=True)
    processor_seconds = models.FloatField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["revision", "index"], name="replica_look_once")
        ]

    def __str__(self) -> str:
        return f"{self.revision_id}.{self.index} at {self.at}"


class Slice(models.Model):
    """A named part of an endpoint's rows, by a condition on their columns."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="slices")
    name = models.CharField(max_length=100)
    # All must hold: [{"column", "op", "value"}], monitoring.conditions
    condition = models.JSONField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(null=True)  # no longer counted; its sums stay

    class Meta:
        ordering: ClassVar = ["name", "pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "name"], condition=Q(retired_at=None), name="slice_once"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def owning_team_id(self) -> int:
        return self.endpoint.owning_team_id


class Tally(models.Model):
    """The rows of one revision in one span of time, counted in the bins of a baseline.

    Of all rows, or of those of a slice. Everything is a sum, so that windows, revisions of one
    baseline and late rows merge exactly. Requests, errors and latency as the model servers saw
    them; a request is in a slice when one of its rows is.
    """

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="tallies")
    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="+")
    slice = models.ForeignKey(Slice, null=True, on_delete=models.CASCADE, related_name="+")
    shadow = models.BooleanField(default=False)
    at = models.DateTimeField()  # start of the span
    width_seconds = models.PositiveIntegerField()
    rows = models.PositiveBigIntegerField(default=0)  # answered with 2xx
    # Weighed by 1 / share, so that a sampled log counts every request.
    requests = models.FloatField(default=0)
    client_errors = models.FloatField(default=0)
    server_errors = models.FloatField(default=0)
    latency_bins = models.BinaryField(default=bytes)  # as in Rollup
    counts = models.BinaryField(default=bytes)  # a slot each of the layout, baselines.packing

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "baseline", "slice", "shadow", "width_seconds", "at"],
                nulls_distinct=False,
                name="tally_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.revision_id} {self.at:%H:%M:%S} +{self.width_seconds}s"


class Counted(models.Model):
    """A file of rows was counted in the bins of a baseline, of all rows or of a slice's."""

    row_file = models.ForeignKey(RowFile, on_delete=models.CASCADE, related_name="counted")
    baseline = models.ForeignKey(Baseline, on_delete=models.CASCADE, related_name="+")
    slice = models.ForeignKey(Slice, null=True, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["row_file", "baseline", "slice"], nulls_distinct=False, name="counted_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.row_file_id} by baseline {self.baseline_id}"


class Comparison(models.Model):
    """The rows of one revision are counted in the bins of another's version as well.

    So that the two can be compared value by value, whatever data their baselines were made of.
    """

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="comparisons")
    other = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["revision", "other"], name="comparison_once")
        ]

    def __str__(self) -> str:
        return f"{self.revision_id} in the bins of {self.other_id}"


class Expired(models.Model):
    """What was removed from an endpoint's log and stands in no audit event yet."""

    endpoint = models.OneToOneField(Endpoint, on_delete=models.CASCADE, related_name="+")
    files = models.PositiveIntegerField(default=0)
    rows = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    last_at = models.DateTimeField()  # of the newest row
    told_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.rows} rows of endpoint {self.endpoint_id}"


class TailPosition(models.Model):
    """How far the gateway's log was read; moves in the transaction that counts what was read."""

    path = models.CharField(max_length=500, unique=True)
    inode = models.BigIntegerField()
    # SHA-256 of its first line: of a data directory that was copied only this is as it was.
    head = models.CharField(max_length=64, blank=True)
    offset = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.path}:{self.offset}"
