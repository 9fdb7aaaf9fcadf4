"""What MLflow says of a version and its run, as values that our columns hold. Pure."""

import math
from datetime import datetime
from typing import Any

from django.db.models import Model as DjangoModel

from apps.registry import mlflow_link
from apps.registry.models import RunInput, Version

Said = dict[str, Any]


def registered_at(found: Said) -> datetime:
    """By MLflow's clock; with name and number it tells one registration from the next."""
    return mlflow_link.moment(found["creation_timestamp"])


def identity(found: Said) -> tuple[str, int, datetime]:
    return found["name"], int(found["version"]), registered_at(found)


def version_fields(found: Said, run: Said) -> Said:
    return fitting(
        Version,
        run_id=found.get("run_id", ""),
        source=found.get("source", ""),
        description=found.get("description", ""),
        registered_at=registered_at(found),
        run=_summary(run),
    )


def input_fields(run: Said) -> list[Said]:
    """The data sets that the run logged."""
    return [_input(given) for given in run.get("inputs", {}).get("dataset_inputs", [])]


def _input(given: Said) -> Said:
    dataset = given["dataset"]
    tags = {tag["key"]: tag["value"] for tag in given.get("tags", [])}
    return fitting(
        RunInput,
        name=dataset["name"],
        digest=dataset["digest"],
        context=tags.get("mlflow.data.context", ""),
        source=dataset.get("source", ""),
        profile={"profile": dataset.get("profile", ""), "schema": dataset.get("schema", "")},
    )


def _summary(run: Said) -> Said:
    """What people ask of a training run, without MLflow's lists of keys and values."""
    data, info = run.get("data", {}), run.get("info", {})
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
    return {
        "name": info.get("run_name", ""),
        "experiment_id": info.get("experiment_id", ""),
        "params": {p["key"]: p["value"] for p in data.get("params", [])},
        "metrics": {m["key"]: m["value"] for m in data.get("metrics", [])},
        "tags": {key: value for key, value in tags.items() if not key.startswith("mlflow.")},
        "commit": tags.get("mlflow.source.git.commit", ""),
        "script": tags.get("mlflow.source.name", ""),
    }


def fitting(table: type[DjangoModel], **values: Any) -> Said:
    """It cuts texts to their columns, or one that is longer would keep the version out."""
    return {name: _cut(_plain(value), _room(table, name)) for name, value in values.items()}


def _room(table: type[DjangoModel], name: str) -> int | None:
    return getattr(table._meta.get_field(name), "max_length", None)


def _cut(value: Any, room: int | None) -> Any:
    return value[:room] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """MLflow's SQLite keeps what PostgreSQL refuses: NUL, halves of characters, NaN in JSON."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
