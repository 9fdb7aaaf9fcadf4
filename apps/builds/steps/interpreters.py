"""Chooses the Python that a model's environment gets."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from apps.builds.steps import reachable

SUPPORTED = ("3.10", "3.11", "3.12", "3.13")  # by model_server
ASK = "import platform; print(platform.python_version())"


@dataclass(frozen=True)
class Interpreter:
    path: Path
    version: str  # "3.11.7"
    note: str  # what people should know of the choice


def choose(wanted: str) -> Interpreter:
    """It finds an interpreter of the wanted minor version, or else takes the panel's own.

    One that lies in a private home is copied to where the accounts of models reach it.
    """
    found = _find(wanted)
    return replace(found, path=reachable.interpreter(found.path))


def _find(wanted: str) -> Interpreter:
    own = platform.python_version()
    minor = _minor(wanted)
    if not minor:
        said = f"The model names no Python version; its environment gets {own}"
        return Interpreter(Path(sys.executable), own, said)
    if minor == _minor(own):
        return Interpreter(Path(sys.executable), own, f"Python {wanted} is asked, {own} is used")
    if minor in SUPPORTED:
        for path in _candidates(minor):
            version = _version_of(path)
            if version and _minor(version) == minor:
                said = f"Python {wanted} is asked, {version} is used"
                return Interpreter(path, version, said)
    why = "is not on this machine" if minor in SUPPORTED else "is not supported"
    said = f"Python {wanted} is asked but {why}; {own} is used instead"
    return Interpreter(Path(sys.executable), own, said)


def _minor(version: str) -> str:
    found = re.match(r"(\d+\.\d+)(\.|$)", version)
    return found[1] if found else ""


def _candidates(minor: str) -> Iterator[Path]:
    home = Path.home()
    roots = [Path(os.environ.get("PYENV_ROOT", home / ".pyenv")) / "versions"]
    roots.append(home / ".local" / "share" / "uv" / "python")
    for root in roots:
        yield from sorted(root.glob(f"*{minor}*/bin/python{minor}"), reverse=True)
    found = shutil.which(f"python{minor}")
    if found:
        yield Path(found)


def _version_of(path: Path) -> str:
    """A shim may stand on the path without a Python behind it, so each is asked."""
    try:
        done = subprocess.run([path, "-I", "-c", ASK], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
