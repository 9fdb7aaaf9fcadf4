"""Asks the other tools, each in a process and an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = ("evidently", "nannyml")
MOST_SECONDS = 600.0
WORDS = 500  # of what a failure left


_asked: set[subprocess.Popen[str]] = set()


class PeerFailed(Exception):
    """A peer did not do what it was asked; the message holds its last words."""


def ask(name: str, python: Path, task: str, question: dict[str, Any], folder: Path) -> Any:
    """It lets a peer do one task in a new process. Raises: PeerFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    line = [
        str(python),
        "-m",
        f"benchmarks.monitoring.tools.{name}_tool",
        task,
        json.dumps(question),
    ]
    with subprocess.Popen(
        line, env=_env(folder), cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        _asked.add(process)
        try:
            told, error = process.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired as late:
            raise PeerFailed(f"{task} took longer than {MOST_SECONDS:g} s") from late
        finally:
            process.kill()
            _asked.discard(process)
    if process.returncode:
        raise PeerFailed(f"{task}: {error.strip()[-WORDS:]}")
    return json.loads(told.splitlines()[-1])


def stop() -> None:
    """It ends the peers that are asked in other threads, which then fail."""
    for process in list(_asked):
        process.kill()


def _env(folder: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NML_DISABLE_USAGE_LOGGING": "1",
        "DO_NOT_TRACK": "1",
    }
