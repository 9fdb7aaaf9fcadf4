from typing import ClassVar

from django.db import models

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


class Segment(models.Model):
    """One spool segment of one replica: counted once, and once in a log file."""

    name = models.CharField(max_length=200, unique=True)
    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="+")
    rows = models.PositiveIntegerField()
    dropped = models.PositiveIntegerField(default=0)  # what the replica could not keep
    torn = models.PositiveIntegerField(default=0)  # lines that a kill cut in two
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
    latency_bins = models.BinaryField(default=bytes)  # uint32 counts, monitoring.histogram

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["revision", "origin", "width_seconds", "at"], name="rollup_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.revision_id} {self.at:%H:%M:%S} +{self.width_seconds}s"


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
