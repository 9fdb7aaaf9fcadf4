from pathlib import Path
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse

from apps.builds.lifecycle import BuildStatus
from apps.core.sandbox import Limits
from apps.jobs.models import Job
from apps.registry.models import Version
from model_server import card

MLFLOW = ""


class Build(models.Model):
    """The job that turned a version into a bundle: what we ship, exactly."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="builds")
    number = models.PositiveIntegerField()  # of this version, from 1
    job = models.ForeignKey(Job, null=True, on_delete=models.PROTECT, related_name="+")
    status = models.CharField(
        max_length=10,
        choices=[(s.value, s.value) for s in BuildStatus],
        default=BuildStatus.QUEUED,
    )
    reason = models.TextField(blank=True)  # why it failed, for people
    failure = models.CharField(max_length=40, blank=True)  # for programs: "requirements", "load"…
    python_version = models.CharField(max_length=20, blank=True)  # what its environment runs
    python_wanted = models.CharField(max_length=20, blank=True)  # what it was trained with
    requirements = models.TextField(blank=True)  # as the author pinned them
    lock = models.TextField(blank=True)  # resolved, with hashes
    packages = models.JSONField(default=list)  # [{"name", "version"}] as installed
    files = models.JSONField(default=dict)  # path -> {"sha256", "bytes"} of every artifact file
    model_digest = models.CharField(max_length=80, blank=True)  # over `files`
    digest = models.CharField(max_length=80, blank=True)  # over model, lock and server: the bundle
    bundle_path = models.CharField(max_length=500, blank=True)
    environment_path = models.CharField(max_length=500, blank=True)
    signature = models.JSONField(default=dict)  # {"inputs": [...], "outputs": [...]}
    flavors = models.JSONField(default=list)
    probe = models.JSONField(default=dict)  # what `model_server probe` saw
    durations = models.JSONField(default=dict)  # step -> seconds
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["version", "number"], name="build_once"),
            models.UniqueConstraint(
                fields=["version"],
                condition=Q(status__in=["queued", "running"]),
                name="build_one_unfinished",
            ),
        ]

    def __str__(self) -> str:
        return f"build {self.number} of {self.version}"

    def get_absolute_url(self) -> str:
        return reverse("build", args=[self.pk])

    @property
    def runtime(self) -> str:
        """What answers: "" for MLflow's own, or as `model_server.card` names it: "onnx"…"""
        named = self.flavors[0] if len(self.flavors) == 1 else ""
        return named if named in card.OWN and "MLmodel" not in self.files else MLFLOW

    @property
    def card_path(self) -> Path:
        """The file that describes the model, in its bundle."""
        name = "MLmodel" if self.runtime == MLFLOW else card.NAME
        return Path(self.bundle_path) / "model" / name

    def limited(self, limits: Limits) -> Limits:
        """The limits that fit what answers: a command may be of any language."""
        return limits.of_data() if self.runtime == card.COMMAND else limits

    @property
    def owning_team_id(self) -> int:
        return self.version.owning_team_id

    def command(self, *arguments: str) -> list[str]:
        """The command line of `model_server` in the model's own environment."""
        python = str(Path(self.environment_path) / "bin" / "python")
        return [python, "-P", "-m", "model_server", *arguments]

    def process_environment(self) -> dict[str, str]:
        """What such a process needs to find its code, and nothing that the panel knows."""
        found = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(self.bundle_path) / "server"),
            # Compiled files beside the model's own code would change the bundle's digest.
            "PYTHONDONTWRITEBYTECODE": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        if self.runtime == card.URL:
            # The list of today: a server that is no longer allowed is not asked any more.
            found["PORTAL_REMOTE_SERVERS"] = ",".join(settings.REMOTE_SERVERS)
        return found
