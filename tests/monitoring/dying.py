"""Processes that die of what they read: of a request whose id says so."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from apps.monitoring import contents, segments
from apps.monitoring.patterns import Patterns

ALWAYS = "dies-always"
ONCE = "dies-once"  # and leaves a file beside the segment

_begin, _parts = contents.begin, segments.parts


def begin() -> None:
    """It prepares a process as `contents.begin` does, and makes it mortal."""
    _begin()
    segments.parts = parts


def parts(path: Path, patterns: Patterns | None = None) -> Iterator[segments.Segment]:
    """It reads a segment as `segments.parts` does, as far as the process lives."""
    for part in _parts(path, patterns):
        mark = path.parents[2] / ONCE
        if ALWAYS in part.id or (ONCE in part.id and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield part
