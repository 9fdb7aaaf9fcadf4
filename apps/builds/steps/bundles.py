"""Assembles a bundle: the model, the server, the lock, and a card that names their digests."""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings

import model_server
from model_server.digest import digest, manifest

SERVER = Path(model_server.__file__).parent
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.pyc")


def folder() -> Path:
    path: Path = settings.STACK.var / "bundles"
    path.mkdir(parents=True, exist_ok=True)
    return path


def work_directory(build_id: int, attempt: int) -> Path:
    """It makes the attempt's own directory and removes those of attempts that were lost."""
    for left in folder().glob(f"tmp-{build_id}-*"):
        remove(left)
    work = folder() / f"tmp-{build_id}-{attempt}"
    work.mkdir(mode=0o755)
    return work


def copy_server(work: Path) -> str:
    """It copies the server's code into the bundle and returns its digest."""
    place = work / "server" / "model_server"
    shutil.copytree(SERVER, place, ignore=_LEFT_OUT)
    return digest(manifest(place))


def seal(
    *, work: Path, model_digest: str, server_digest: str, lock: str, python: str, facts: Any
) -> tuple[str, Path]:
    """It gives the bundle its digest and puts it, read-only, under that name.

    The digest covers the model's files, the lock, the minor version of Python and the server.
    """
    locked = hashlib.sha256(lock.encode()).hexdigest()
    minor = ".".join(python.split(".")[:2])
    lines = f"model {model_digest}\nlock {locked}\npython {minor}\nserver {server_digest}\n"
    whole = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    place = folder() / whole.removeprefix("sha256:")
    (work / "requirements.lock").write_text(lock)
    card = {
        "digest": whole,
        "model_digest": model_digest,
        "server_digest": server_digest,
        "lock_sha256": locked,
        "python": minor,
        **facts,
    }
    (work / "bundle.json").write_text(json.dumps(card, indent=1, sort_keys=True))
    if _is_whole(place, model_digest, server_digest):
        remove(work)
        return whole, place
    remove(place)
    _protect(work)
    try:
        work.rename(place)
    except OSError:  # another build of the same content was quicker
        if not _is_whole(place, model_digest, server_digest):
            raise
        remove(work)
    return whole, place


def remove(path: Path) -> None:
    """It removes a directory, also one that was made read-only."""

    def loosen(function: Callable[[str], Any], name: str, _: object) -> None:
        Path(name).parent.chmod(0o755)
        function(name)

    if path.exists():
        shutil.rmtree(path, onerror=loosen)


def _is_whole(place: Path, model_digest: str, server_digest: str) -> bool:
    """A bundle that somebody changed by hand must not be taken for the one that was built."""
    if not (place / "bundle.json").is_file():
        return False
    return (
        digest(manifest(place / "model")) == model_digest
        and digest(manifest(place / "server" / "model_server")) == server_digest
    )


def _protect(work: Path) -> None:
    """Everybody may read, nobody writes: models run under an account that is not the panel's."""
    for name, _, files in os.walk(work):
        for file in files:
            path = Path(name, file)
            path.chmod(0o555 if path.stat().st_mode & stat.S_IXUSR else 0o444)
    for name, _, _ in os.walk(work, topdown=False):
        if Path(name) != work:
            Path(name).chmod(0o555)
    work.chmod(0o755)  # renaming a directory needs the right to write into it
