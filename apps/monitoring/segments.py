"""Reads what model servers captured: one JSON object a line, in sealed files.

A model runs its author's code beside the capture, so a segment is read as what a stranger wrote:
a line that is not what it should be is counted as torn, never trusted and never an error.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from apps.monitoring.sums import Answers

SEALED = ".seg"
MOST_BYTES = 64 << 20  # a server seals at 8 MiB; one record more may be 16 MiB
EARLIEST_US = 946_684_800_000_000  # the year 2000, and
LATEST_US = 4_102_444_800_000_000  # 2100: a time outside of them would fit no column
LONGEST_US = 1 << 40  # twelve days


class Unreadable(Exception):
    """The file is not a segment: no regular file, or larger than any server writes."""


@dataclass
class Segment:
    """What one file holds."""

    records: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0  # what the server said it could not keep
    torn: int = 0  # lines that are not records

    def answers(self) -> Answers:
        return Answers(
            np.array([record["ts"] for record in self.records], dtype=np.int64),
            np.array([record["status"] for record in self.records], dtype=np.int64),
            np.array([record["us"] for record in self.records], dtype=np.int64),
            np.array([record["shadow"] for record in self.records], dtype=np.bool_),
        )


def read(path: Path) -> Segment:
    """It reads a sealed segment.

    Raises: Unreadable; FileNotFoundError.
    """
    segment = Segment()
    for line in _content(path).split(b"\n"):
        if line:
            _take(line, segment)
    return segment


def waiting(folder: Path) -> Iterator[os.DirEntry[str]]:
    """It lists the sealed segments of one revision, oldest name first."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name.endswith(SEALED)]
    except FileNotFoundError:
        return
    yield from sorted(found, key=lambda entry: entry.name)


def _content(path: Path) -> bytes:
    try:
        # A link could lead to a file that only we may read, and we delete what we have logged.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(f"{path.name} cannot be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable(f"{path.name} is no regular file")
        if about.st_size > MOST_BYTES:
            raise Unreadable(f"{path.name} has {about.st_size} bytes, more than any server writes")
        return file.read()


def _take(line: bytes, segment: Segment) -> None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        segment.torn += 1
        return
    if not isinstance(record, dict):
        segment.torn += 1
    elif _is_record(record):
        segment.records.append(record)
    elif type(record.get("dropped")) is int and 0 <= record["dropped"] < 1 << 31:
        segment.dropped += record["dropped"]
    else:
        segment.torn += 1


def _is_record(record: dict[str, Any]) -> bool:
    at, status, us = record.get("ts"), record.get("status"), record.get("us")
    return (
        type(at) is int
        and EARLIEST_US <= at < LATEST_US
        and type(status) is int
        and 0 <= status < 1000
        and type(us) is int
        and 0 <= us < LONGEST_US
        and type(record.get("shadow")) is bool
        and isinstance(record.get("id"), str)
    )
