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
    """What one file holds: one place a record in each list.

    Lists of plain values and not of records: a hundred thousand nested records cost ten times
    the memory, and the garbage collector's walks through them most of the time.
    """

    at_us: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)
    shadow: list[bool] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    texts: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # as in TEXTS
    dropped: int = 0  # what the server said it could not keep
    torn: int = 0  # lines that are not records

    @property
    def rows(self) -> int:
        return len(self.at_us)

    def answers(self) -> Answers:
        return Answers(
            np.array(self.at_us, dtype=np.int64),
            np.array(self.status, dtype=np.int64),
            np.array(self.latency_us, dtype=np.int64),
            np.array(self.shadow, dtype=np.bool_),
        )


TEXTS = ("format", "caller", "request", "response", "error")  # the bodies as JSON


def read(path: Path, *, whole: bool = False) -> Segment:
    """It reads a sealed segment; the texts only when the `whole` is asked for.

    Raises: Unreadable; FileNotFoundError.
    """
    segment = Segment()
    for line in _content(path).split(b"\n"):
        if line:
            _take(line, segment, whole)
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


def _take(line: bytes, segment: Segment, whole: bool) -> None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        segment.torn += 1
        return
    if not isinstance(record, dict):
        segment.torn += 1
    elif _is_record(record):
        _add(record, segment, whole)
    elif type(record.get("dropped")) is int and 0 <= record["dropped"] < 1 << 31:
        segment.dropped += record["dropped"]
    else:
        segment.torn += 1


def _add(record: dict[str, Any], segment: Segment, whole: bool) -> None:
    segment.at_us.append(record["ts"])
    segment.status.append(record["status"])
    segment.latency_us.append(record["us"])
    segment.shadow.append(record["shadow"])
    if whole:
        segment.id.append(record["id"])
        segment.texts.append(
            (
                _text(record.get("format")),
                _text(record.get("caller")),
                orjson.dumps(record.get("request")).decode(),
                orjson.dumps(record.get("response")).decode(),
                _text(record.get("error")),
            )
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


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
