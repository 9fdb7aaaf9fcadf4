"""Fetches what a version and its training run left in MLflow."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apps.registry import found, mlflow_link
from apps.registry.models import Version

IMPORTANCE = re.compile(r"feature_importance[A-Za-z_]*\.json")
MOST_IMPORTANCE_BYTES = 1 << 20


class ArtifactGone(Exception):
    """MLflow knows the version, but the files it was registered with are not there any more."""


def download_artifacts(
    version: Version, into: Path, *, tick: Callable[[], None] | None = None
) -> None:
    """It fetches the version's files from MLflow into a directory.

    Raises: Unavailable when MLflow is down, ArtifactGone when the files are not there any more;
    whatever `tick`, called a few times a second, raises to stop it.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        mlflow_link.download(version.model.name, version.number, into, tick=tick)
        said = mlflow_link.version(version.model.name, version.number)
    except mlflow_link.NotThere as gone:
        raise ArtifactGone(f"MLflow has no files for {version}: {gone}") from gone
    if found.registered_at(said) != version.registered_at:
        # MLflow fetches by number, and would ship another model under this version's name.
        raise ArtifactGone(f"MLflow gave the number of {version} to another version")


def run_importance(version: Version) -> dict[str, Any]:
    """Input -> weight as the training run's autologging wrote it; {} where it wrote none.

    Raises: Unavailable.
    """
    if not version.run_id:
        return {}
    try:
        found = [
            str(file["path"])
            for file in mlflow_link.artifacts(version.run_id)
            if IMPORTANCE.fullmatch(str(file.get("path", "")))
            and int(file.get("file_size") or 0) <= MOST_IMPORTANCE_BYTES
        ]
        # What an input gains says more than how often a tree asks for it.
        found.sort(key=lambda path: ("gain" not in path, path))
        told = mlflow_link.artifact_json(version.run_id, found[0]) if found else {}
    except (mlflow_link.NotThere, mlflow_link.Refusal, KeyError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
