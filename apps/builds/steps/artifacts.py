"""Fetches what was registered and takes its fingerprint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from apps.builds.steps import BuildFailed
from apps.registry import services as registry
from apps.registry.models import Version
from model_server.digest import Entry, Unmanifestable, manifest


def fetch(version: Version, into: Path, tick: Callable[[], None]) -> dict[str, Entry]:
    """It downloads the version's files and lists each with its digest.

    Raises: core.errors.Unavailable when MLflow does not answer; BuildFailed "artifact" when the
    files are gone, or hold a link: its target could change after the digest was taken.
    """
    try:
        registry.download_artifacts(version, into=into, tick=tick)
    except registry.ArtifactGone as gone:
        raise BuildFailed("artifact", str(gone)) from gone
    try:
        files = manifest(into)
    except Unmanifestable as odd:
        raise BuildFailed("artifact", f"The artifacts cannot be shipped: {odd}") from odd
    if "MLmodel" not in files:
        raise BuildFailed("artifact", f"The artifacts of {version} hold no MLmodel file")
    return files


def card(model: Path) -> dict[str, Any]:
    """It reads the MLmodel file. Raises: BuildFailed "artifact" when it is not one."""
    return _mapping(model / "MLmodel")


def wanted_python(model: Path) -> str:
    """It tells which Python the model was trained with ("3.11.7"), or nothing where it is blank."""
    python_env = model / "python_env.yaml"
    if python_env.is_file():
        return str(_mapping(python_env).get("python") or "")
    flavors = card(model).get("flavors")
    pyfunc = flavors.get("python_function") if isinstance(flavors, dict) else None
    return str(pyfunc.get("python_version") or "") if isinstance(pyfunc, dict) else ""


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as broken:
        raise BuildFailed("artifact", f"{path.name} is not readable as YAML: {broken}") from broken
    if not isinstance(found, dict):
        raise BuildFailed("artifact", f"{path.name} holds no mapping")
    return found
