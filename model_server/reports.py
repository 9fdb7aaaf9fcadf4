"""It writes a command's report so that nobody ever reads half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from model_server.answers import dumps


def write(path: Path, report: dict[str, Any]) -> None:
    """It writes the report beside its place, then renames it there."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with fresh.open("wb") as file:
        file.write(dumps(report))
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
