"""It makes the rows that builds and validations start from, and runs their jobs."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.accounts.services import create_team, grant
from apps.builds import services
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.builds.steps import bundles, environments, interpreters, locking
from apps.core.errors import Unavailable
from apps.jobs import services as jobs
from apps.registry.lifecycle import Source
from apps.registry.models import Model, Version
from apps.registry.services.artifacts import ArtifactGone
from model_server import mlmodel
from model_server.digest import digest, manifest


class Store:
    """It is the artifact store: what lies in it, and whether it answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.down = False
        self.downloads = 0

    def place(self, version: Version) -> Path:
        return self.folder / str(version.number)

    def download(self, version: Version, into: Path, *, tick: object = None) -> None:
        self.downloads += 1
        if self.down:
            raise Unavailable("The MLflow server does not answer", "mlflow_unavailable")
        if not self.place(version).is_dir():
            raise ArtifactGone(f"MLflow has no files for {version}")
        shutil.copytree(self.place(version), into, symlinks=True, dirs_exist_ok=True)


def make_user(name: str, team: str, role: Role) -> User:
    user = User.objects.create_user(name, f"{name}@example.org")
    grant(user=user, team=create_team(name=team), role=role)
    return user


def make_version(*, number: int, now: datetime) -> Version:
    model, _ = Model.objects.get_or_create(
        name="flight-delay", defaults={"team": create_team(name="Flights"), "created_at": now}
    )
    owner = User.objects.filter(username="dana").first()
    return Version.objects.create(
        model=model,
        number=number,
        source=f"models:/m-{number}",
        registered_at=now,
        registered_by=owner or make_user("dana", "Flights", Role.DATA_SCIENTIST),
        seen_at=now,
        seen_by=Source.SWEEP,
    )


def build(version: Version, now: datetime) -> Build:
    """It queues a build and runs its job here, to whatever end."""
    queued = services.start(version=version, actor=None, now=now)
    assert queued.job is not None
    jobs.run(queued.job.pk)
    return Build.objects.select_related("job", "version__model").get(pk=queued.pk)


def shipped(version: Version, source: Path, now: datetime) -> Build:
    """It is the row and the bundle of a build that succeeded, by the build's own steps."""
    last = version.builds.order_by("-number").first()
    row = Build.objects.create(
        version=version, number=last.number + 1 if last else 1, created_at=now
    )
    work = bundles.work_directory(row.pk, 1)
    shutil.copytree(source, work / "model")
    server_digest = bundles.copy_server(work)
    python = interpreters.choose("")
    lock = locking.lock(
        model=work / "model",
        server=work / "server" / "model_server",
        python=python,
        work=work,
        tick=lambda: None,
    )
    environment, _ = environments.ready(lock=lock, python=python, tick=lambda: None)
    signature = mlmodel.read(source).signature
    row.status = BuildStatus.SUCCEEDED
    row.lock = lock
    row.environment_path = str(environment)
    row.model_digest = digest(manifest(work / "model"))
    row.signature = {"inputs": signature.inputs, "outputs": signature.outputs} if signature else {}
    row.digest, place = bundles.seal(
        work=work,
        model_digest=row.model_digest,
        server_digest=server_digest,
        lock=lock,
        python=python.version,
        facts={},
    )
    row.bundle_path = str(place)
    row.finished_at = now
    row.save()
    return row


def lines(made: Build) -> list[str]:
    assert made.job is not None
    return list(made.job.lines.values_list("text", flat=True))
