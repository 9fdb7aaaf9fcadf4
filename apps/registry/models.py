from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.urls import reverse

from apps.accounts.models import Team
from apps.registry.lifecycle import DatasetRole, Source


class Model(models.Model):
    """A registered model; MLflow is the registry of record, this row is what we need of it."""

    name = models.CharField(max_length=200, unique=True)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, related_name="models")
    description = models.TextField(blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("model", args=[self.name])

    @property
    def owning_team_id(self) -> int:
        return self.team_id


class VersionQuerySet(models.QuerySet["Version"]):
    def living(self) -> "VersionQuerySet":
        return self.filter(gone_at=None)

    def newest(self) -> "VersionQuerySet":
        """One row a number: the living one, or the last that is gone."""
        later = Version.objects.filter(
            model=OuterRef("model"), number=OuterRef("number"), pk__gt=OuterRef("pk")
        )
        return self.exclude(Exists(later))


class Version(models.Model):
    """One numbered version of a model, as MLflow recorded it.

    Whoever deletes a model in MLflow and registers its name again gets the number 1 again: the
    old row is gone then and keeps what was built of it, the new one is a row of its own.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    run_id = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=1000)  # where MLflow keeps the artifacts
    artifact_uri = models.CharField(max_length=1000, blank=True)
    description = models.TextField(blank=True)
    registered_at = models.DateTimeField()  # by MLflow's clock
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    seen_at = models.DateTimeField()  # when the panel first knew of it
    seen_by = models.CharField(max_length=10, choices=[(s.value, s.value) for s in Source])
    run = models.JSONField(default=dict)  # name, params, metrics, tags, url of the MLflow run
    digest = models.CharField(max_length=80, blank=True)  # of the bundle; blank until it is built
    gone_at = models.DateTimeField(null=True)  # MLflow no longer has it; never taken back

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-number", "-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "number"], condition=Q(gone_at=None), name="version_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.model.name} v{self.number}"

    def get_absolute_url(self) -> str:
        address = reverse("version", args=[self.model.name, self.number])
        return f"{address}?row={self.pk}" if self.gone_at else address

    @property
    def owning_team_id(self) -> int:
        return self.model.team_id


class Submission(models.Model):
    """Who sent a version through the panel's /mlflow: MLflow itself knows no people."""

    model_name = models.CharField(max_length=200)
    number = models.PositiveIntegerField()
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model_name", "number"], name="submission_once")
        ]

    def __str__(self) -> str:
        return f"{self.model_name} v{self.number}"


class Dataset(models.Model):
    """A named, fingerprinted table. The file is ours and never changes after it was registered.

    Of several with one name and role the newest counts.
    """

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="datasets")
    name = models.CharField(max_length=200)
    role = models.CharField(max_length=10, choices=[(r.value, r.value) for r in DatasetRole])
    fingerprint = models.CharField(max_length=80)  # sha256 of the Parquet file
    path = models.CharField(max_length=500)
    rows = models.PositiveBigIntegerField()
    columns = models.JSONField()  # [{"name", "type"}]
    label_column = models.CharField(max_length=200, blank=True)
    time_column = models.CharField(max_length=200, blank=True)
    time_from = models.DateTimeField(null=True)  # the time its rows speak of
    time_to = models.DateTimeField(null=True)
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        return f"{self.name} ({self.role})"

    @property
    def owning_team_id(self) -> int:
        return self.model.team_id


class RunInput(models.Model):
    """A data set that the training run logged with `mlflow.log_input`."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="inputs")
    name = models.CharField(max_length=500)
    digest = models.CharField(max_length=100)
    context = models.CharField(max_length=500, blank=True)
    source = models.TextField(blank=True)
    profile = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name} ({self.context})"


class Policy(models.Model):
    """One edition of a model's deployment policy; the newest is in force."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="policies")
    number = models.PositiveIntegerField()
    text = models.TextField()  # the YAML as it was given, with its comments
    document = models.JSONField()  # checked and completed with defaults (registry.policy.Document)
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["-number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "number"], name="policy_once")
        ]

    def __str__(self) -> str:
        return f"policy {self.number} of {self.model.name}"

    @property
    def owning_team_id(self) -> int:
        return self.model.team_id


class Alias(models.Model):
    """An MLflow alias that the panel keeps: `@production` on the version that serves."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=60)
    wanted = models.PositiveIntegerField()  # version number; written by services
    seen = models.PositiveIntegerField(null=True)  # what MLflow confirmed; written by the sweep
    changed_at = models.DateTimeField()
    error = models.TextField(blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "name"], name="alias_once")
        ]

    def __str__(self) -> str:
        return f"{self.model.name}@{self.name}"


class WebhookCall(models.Model):
    """A delivery that was taken, so that a replayed one is not."""

    delivery_id = models.CharField(max_length=100, unique=True)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return self.delivery_id
