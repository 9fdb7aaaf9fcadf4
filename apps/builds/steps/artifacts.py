"""Fetches what was registered and takes its fingerprint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings

from apps.builds.steps import BuildFailed
from apps.registry.models import Version
from apps.registry.services import artifacts
from model_server import card
from model_server.digest import Entry, Unmanifestable, manifest


def fetch(version: Version, into: Path, tick: Callable[[], None]) -> dict[str, Entry]:
    """It downloads the version's files and lists each with its digest.

    Raises: core.errors.Unavailable when MLflow does not answer; BuildFailed "artifact" when the
    files are gone, or hold a link: its target could change after the digest was taken.
    """
    try:
        artifacts.download_artifacts(version, into=into, tick=tick)
    except artifacts.ArtifactGone as gone:
        raise BuildFailed("artifact", str(gone)) from gone
    try:
        files = manifest(into)
    except Unmanifestable as odd:
        raise BuildFailed("artifact", f"The artifacts cannot be shipped: {odd}") from odd
    if "MLmodel" not in files and card.NAME not in files:
        raise BuildFailed(
            "artifact",
            f"The artifacts of {version} hold neither an MLmodel file, which MLflow's log_model "
            f"writes, nor a {card.NAME}, which names an ONNX file, a command or an address",
        )
    return files


def flavors(model: Path) -> list[str]:
    """It names what can load the model. Raises: BuildFailed "artifact" for a wrong description."""
    if not card.is_card(model):
        return sorted(_mapping(model / "MLmodel").get("flavors") or {})
    return [described(model).runtime]


def described(model: Path) -> card.ServingCard:
    """It reads the card, and readies what it names.

    Raises: BuildFailed "artifact" for a wrong card, and for a server that may not be asked: the
    card's author could have callers' rows sent anywhere.
    """
    try:
        found = card.read(model)
    except card.WrongCard as wrong:
        raise BuildFailed("artifact", f"{card.NAME} is wrong: {wrong}") from wrong
    if found.url and not card.is_allowed(found.url, settings.REMOTE_SERVERS):
        host, port = card.address(found.url)
        raise BuildFailed(
            "artifact",
            f"The server {host}:{port} is not among those that models may be served from; "
            "who runs the panel allows it with PORTAL_REMOTE_SERVERS=host:port,host:port",
        )
    own = card.program(found)
    if own is not None:
        own.chmod(0o755)  # artifact stores keep contents, no modes
    return found


def wanted_python(model: Path) -> str:
    """It tells which Python the model was trained with ("3.11.7"), or nothing where it is blank."""
    if card.is_card(model):
        return ""
    python_env = model / "python_env.yaml"
    if python_env.is_file():
        return str(_mapping(python_env).get("python") or "")
    known = _mapping(model / "MLmodel").get("flavors")
    pyfunc = known.get("python_function") if isinstance(known, dict) else None
    return str(pyfunc.get("python_version") or "") if isinstance(pyfunc, dict) else ""


def _mapping(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as broken:
        raise BuildFailed("artifact", f"{path.name} is not readable as YAML: {broken}") from broken
    if not isinstance(found, dict):
        raise BuildFailed("artifact", f"{path.name} holds no mapping")
    return found
