"""What model servers and the gateway would have written, made by hand."""

import dataclasses
import json
import os
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from apps.accounts.models import Team
from apps.builds.models import Build
from apps.monitoring.models import Rollup
from apps.monitoring.sums import WIDTH_SECONDS
from apps.registry.models import Model, Version
from apps.serving.models import Endpoint, Environment, Revision
from tests.journeys.product import free_ports

START_US = 1_893_456_000_000_000  # 2030-01-01T00:00:00Z, the start of a span and of a day
_sequence = count()


def endpoint(team: Team, now: datetime, name: str = "flights", revisions: int = 2) -> Endpoint:
    """It makes an endpoint whose first revision is the stable one; versions count from 1."""
    environment, _ = Environment.objects.get_or_create(
        name="production", defaults={"order": 2, "backend": "local"}
    )
    model = Model.objects.create(name=name, team=team, created_at=now)
    made = Endpoint.objects.create(model=model, environment=environment, name=name, created_at=now)
    for number in range(1, revisions + 1):
        version = Version.objects.create(
            model=model, number=number, source="x", registered_at=now, seen_at=now, seen_by="sweep"
        )
        build = Build.objects.create(version=version, number=1, created_at=now)
        Revision.objects.create(
            endpoint=made, number=number, version=version, build=build, created_at=now
        )
    made.stable = made.revisions.get(number=1)
    made.save()
    return made


def record(at_us: int, **changes: Any) -> dict[str, Any]:
    """One line of a segment as a model server writes it."""
    return {
        "id": f"r-{next(_sequence)}",
        "ts": at_us,
        "status": 200,
        "us": 1500,
        "format": "v2",
        "caller": "airline",
        "shadow": False,
        "request": {"inputs": [{"name": "distance", "data": [1.5]}]},
        "response": {"outputs": [[0.25]]},
        "error": "",
    } | changes


def name(revision: int) -> str:
    """The next name that a model server would give to a sealed segment."""
    return f"{revision}.0.1-1.{next(_sequence):08d}.seg"


def segment(revision: int, records: list[dict[str, Any]], *, tail: bytes = b"") -> Path:
    """It seals a segment in the spool when its first record came.

    `tail` are bytes behind the last whole line.
    """
    folder = settings.STACK.var / "spool" / str(revision)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name(revision)
    content = b"".join(map(written, records)) + tail
    unfinished = path.with_suffix(".open")
    unfinished.write_bytes(content)
    dated(unfinished, records[0]["ts"] if records else START_US)
    unfinished.rename(path)
    return path


def written(record: dict[str, Any]) -> bytes:
    """A line as a model server writes it: no spaces, the bodies in their places."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def dated(path: Path, at_us: int) -> None:
    """It sets the time at which a file was written."""
    os.utime(path, (at_us / 1e6, at_us / 1e6))


def line(at_us: int, revision: Revision | None, **changes: Any) -> bytes:
    """One line of the gateway's log, with the fields that Envoy was told to write."""
    from apps.serving.backends.envoy import ACCESS, cluster_name

    entry: dict[str, Any] = dict.fromkeys(ACCESS) | {
        "id": f"g-{next(_sequence)}",
        "ts": str(at_us),
        "method": "POST",
        "route": "production/flights",
        "code": 200,
        "flags": "-",
        "us": 2500,
        "cluster": revision and cluster_name("production", "flights", revision.pk),
    }
    return json.dumps(entry | changes).encode() + b"\n"


def spans() -> QuerySet[Rollup]:
    """The sums as they were counted: the other tiers hold the same once more."""
    return Rollup.objects.filter(width_seconds=WIDTH_SECONDS)


def access_log() -> Path:
    folder = settings.STACK.var / "gateway"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "access.log"


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def stack_at(var: Path) -> Any:
    """The installation of this run with a data directory and a gateway of one test's own."""
    run = var / "run"
    run.mkdir(parents=True)
    [port] = free_ports(1)  # serving's tests may have the run's own gateway on its port
    return dataclasses.replace(settings.STACK, var=var, run=run, gateway_port=port)
