"""It reads a bundle directory and proves that its model is the one that was built."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from model_server.digest import Unmanifestable, digest, manifest
from model_server.errors import WrongBundle


@dataclass(frozen=True)
class Bundle:
    """It is a verified bundle: where its model lies and what it is called."""

    model: Path
    digest: str


def verified(directory: Path) -> Bundle:
    """It recomputes the digest of the model's files and refuses one that differs."""
    card = _card(directory / "bundle.json")
    expected = card.get("model_digest")
    if not isinstance(expected, str) or not expected:
        raise WrongBundle("bundle.json holds no model_digest")
    try:
        found = digest(manifest(directory / "model"))
    except (Unmanifestable, OSError) as error:
        raise WrongBundle(f"the model directory cannot be digested: {error}") from error
    if _hex(found) != _hex(expected):
        raise WrongBundle(f"the model's digest is {found}, bundle.json says {expected}")
    whole = card.get("digest")
    return Bundle(
        model=directory / "model", digest=whole if isinstance(whole, str) and whole else found
    )


def _card(path: Path) -> dict[str, object]:
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WrongBundle(f"bundle.json cannot be read: {error}") from error
    if not isinstance(card, dict):
        raise WrongBundle("bundle.json is not an object")
    return card


def _hex(text: str) -> str:
    return text.removeprefix("sha256:").lower()
