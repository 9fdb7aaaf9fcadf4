"""It names the spool's segment files and seals those that a dead server left open."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

OPEN = ".open"
SEALED = ".seg"


def open_name(*, revision: str, replica: str, run: str, sequence: int) -> str:
    """It gives the file name of one open segment; all parts are free of dots."""
    return f"{revision}.{replica}.{run}.{sequence:08d}{OPEN}"


def seal(path: Path) -> None:
    """It renames an open segment so that the collector may take it."""
    path.rename(path.with_suffix(SEALED))


def seal_left(spool: Path, *, revision: str, replica: str) -> list[str]:
    """It seals every open segment of this replica whose writer is gone, and names them."""
    sealed = []
    for path in sorted(spool.glob(f"{revision}.{replica}.*{OPEN}")):
        try:
            file = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            # A predecessor that still drains holds this lock; its segment is its own to seal.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(file)
            seal(path)
            sealed.append(path.with_suffix(SEALED).name)
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(file)
    return sealed


def sync_directory(path: Path) -> None:
    """It makes renames in the directory survive a power cut."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
