"""Reads what model servers captured: one JSON object a line, in sealed files.

A model runs its author's code beside the capture, so a segment is read as what a stranger wrote:
a line that is not what it should be is counted as torn, never trusted and never an error.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from apps.monitoring import bodies, lines, many
from apps.monitoring.lines import Line
from apps.monitoring.many import Group, Heads
from apps.monitoring.patterns import Patterns
from apps.monitoring.sums import Answers

OPEN = ".open"
SEALED = ".seg"
# As model_server/segments.py gives them: <revision>.<replica>.<start ms>-<pid>.<sequence>. The
# lengths keep any name below the width of its column.
NAME = re.compile(r"\d{1,18}\.[\w-]{1,64}\.\d{1,20}-\d{1,10}\.\d{8,12}\.(open|seg)", re.ASCII)
_FOLDER = re.compile(r"\d{1,18}", re.ASCII)
PART_BYTES = 4 << 20
AT_ONCE_BYTES = 512 << 10  # of lines that are read together; a line that is no JSON is read alone
MOST_BYTES = 64 << 20  # a server seals at 8 MiB; one record more may be 16 MiB
EARLIEST_US = 946_684_800_000_000  # the year 2000, and
LATEST_US = 4_102_444_800_000_000  # 2100: a time outside of them would fit no column
LONGEST_US = 1 << 40  # twelve days
# A server writes what it answered within the second. Times all over the centuries would be a
# rollup row and a file of the log each; a day is far more than any clock is set by.
FURTHEST_US = 86_400_000_000  # from the file's own time
MOST_DROPPED = (1 << 31) - 1  # what the column holds
ID_CHARACTERS = 500  # a server cuts ids and callers' names to 256 bytes
LEAST_SHARE = 1e-6  # as policies have it
# Ours and over in a moment; every other failure to open is the file's and stays.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}


class Unreadable(Exception):
    """The file is not a segment: no regular file, or larger than any server writes."""


@dataclass
class Segment:
    """What one file holds: one place a record in each list.

    Read for its sums it has all requests, read whole those of which more than the outline was
    kept, and the outlines apart. Whole ones come in parts: a hundred thousand nested records cost
    ten times the memory of their lines.
    """

    at_us: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)
    shadow: list[bool] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    share: list[float] = field(default_factory=list)
    texts: list[tuple[str, str, bytes, bytes, str]] = field(default_factory=list)  # as in TEXTS
    # What was asked and answered, as parsed; the Shape of what one of the patterns could read.
    bodies: list[tuple[Any, Any]] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)  # the bodies of those that have none there
    outlines: list[tuple[int, int, int, bool]] = field(default_factory=list)  # for sums alone
    dropped: int = 0  # what the server said it could not keep
    torn: int = 0  # lines that are not records, or of another time
    rows: int = 0  # what belongs into the log

    def answers(self) -> Answers:
        """It gives all requests, of whatever was kept."""
        more = zip(*self.outlines, strict=True) if self.outlines else ([], [], [], [])
        at_us, status, latency_us, shadow = map(list, more)
        return Answers(
            np.array(self.at_us + at_us, dtype=np.int64),
            np.array(self.status + status, dtype=np.int64),
            np.array(self.latency_us + latency_us, dtype=np.int64),
            np.array(self.shadow + shadow, dtype=np.bool_),
        )


TEXTS = ("format", "caller", "request", "response", "error")  # the bodies as JSON


@dataclass(frozen=True)
class Listing:
    """The names in one revision's spool."""

    sealed: list[str]  # oldest name first
    open: list[str]
    odd: list[str]  # what no model server calls a segment


def folders(spool: Path) -> Iterator[tuple[int, Path]]:
    """It gives the revisions that have a directory in the spool."""
    try:
        found = sorted(spool.iterdir())
    except FileNotFoundError:
        return
    for folder in found:
        if _FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
            yield int(folder.name), folder


def listing(folder: Path) -> Listing:
    """It lists one revision's spool; one that is not there is empty."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except FileNotFoundError:
        names = []
    known = [name for name in names if NAME.fullmatch(name)]
    return Listing(
        sealed=[name for name in known if name.endswith(SEALED)],
        open=[name for name in known if name.endswith(OPEN)],
        odd=[name for name in names if not NAME.fullmatch(name)],
    )


def read(path: Path, *, whole: bool = False) -> Segment:
    """It reads a sealed segment; the texts only when the `whole` is asked for.

    Raises: Unreadable; FileNotFoundError.
    """
    segment = Segment()
    for line, written_us in _lines(path):
        _take(line, segment, written_us, whole)
        segment.bodies.clear()  # only parts are small enough to hold them all
    return segment


def parts(path: Path, patterns: Patterns | None = None) -> Iterator[Segment]:
    """It reads a sealed segment whole, a part after the other.

    Raises: Unreadable; FileNotFoundError.
    """
    part, size, pause = Segment(), 0, 0
    content, written_us = _content(path)
    file = BytesIO(content)
    while given := file.readlines(AT_ONCE_BYTES):
        seen = None
        if pause:
            pause -= 1
        elif patterns is not None and patterns.is_taught:
            seen = _seen_together(given, written_us, patterns)
            pause = many.PAUSE if seen is None else 0
        _take_all(given, seen, part, written_us, patterns)
        size += sum(map(len, given))
        if size >= PART_BYTES:
            yield part
            part, size = Segment(), 0
    yield part


def stamp(path: Path) -> tuple[int, int, int]:
    """It gives what changes when a file is written or replaced.

    Raises: FileNotFoundError.
    """
    about = path.lstat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _lines(path: Path) -> Iterator[tuple[bytes, int]]:
    content, written_us = _content(path)
    for line in BytesIO(content):
        if line != b"\n":
            yield line, written_us


def open_regular(path: Path) -> int:
    """It opens what stands in a spool, which belongs to the model.

    Raises: Unreadable when it is no regular file; FileNotFoundError.
    """
    try:
        # A link could lead to a file that only we may read, and we delete what we have logged.
        # A pipe without a writer would be waited for until the end of time.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _PASSING:
            raise
        raise Unreadable(f"It cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("It is no regular file")
    return descriptor


def _content(path: Path) -> tuple[bytes, int]:
    """It gives the bytes of a file and when it was written, in epoch microseconds."""
    with os.fdopen(open_regular(path), "rb") as file:
        about = os.fstat(file.fileno())
        if about.st_size > MOST_BYTES:
            raise Unreadable(f"It has {about.st_size} bytes, more than any server writes")
        try:
            # No more than it had: its writer could go on as fast as we read.
            return file.read(about.st_size), about.st_mtime_ns // 1000
        except OSError as error:
            raise Unreadable(f"It cannot be read: {error.strerror}") from error


def _take(
    line: bytes, segment: Segment, written_us: int, whole: bool, patterns: Patterns | None = None
) -> None:
    try:
        found = (lines.cut(line, patterns) if whole else None) or lines.parsed(line)
    except orjson.JSONDecodeError:
        segment.torn += 1
        return
    record = found.record
    if not isinstance(record, dict):
        segment.torn += 1
    elif _is_counted(record, written_us):
        if record.get("kept") is not False:
            _keep(found, segment, whole)
        elif whole:
            segment.outlines.append(
                (record["ts"], record["status"], record["us"], record["shadow"])
            )
        else:
            _count(record, segment)
    elif type(record.get("dropped")) is int and 0 <= record["dropped"] <= MOST_DROPPED:
        segment.dropped = min(segment.dropped + record["dropped"], MOST_DROPPED)
    else:
        segment.torn += 1


_Seen = tuple[Heads, list[Group]]


def _seen_together(given: list[bytes], written_us: int, patterns: Patterns) -> _Seen | None:
    """It reads many lines at once; None where that was worth too little."""
    heads = many.heads(given)
    if heads is None or not _are_counted(heads, written_us):
        return None
    groups = many.groups(heads, patterns)
    if 2 * sum(len(group.places) for group in groups) < len(given):
        return None
    return heads, groups


def _take_all(
    given: list[bytes],
    seen: _Seen | None,
    segment: Segment,
    written_us: int,
    patterns: Patterns | None,
) -> None:
    """It takes lines in their order, those that were seen together from what was seen."""
    if seen is None:
        for line in given:
            if line != b"\n":
                _take(line, segment, written_us, True, patterns)
        return
    heads, groups = seen
    together = sorted(chain.from_iterable(group.places for group in groups))
    place_of: dict[int, int] = {}
    first = 0
    for other in [*sorted(set(range(len(given))).difference(together)), len(given)]:
        if first < other:
            place_of.update(zip(range(first, other), count(segment.rows), strict=False))
            _keep_many(heads, slice(first, other), segment)
        if other < len(given):
            _take(given[other], segment, written_us, True, patterns)
        first = other + 1
    for group in groups:
        group.places = [place_of[place] for place in group.places]
    segment.groups += groups


def _keep_many(heads: Heads, those: slice, segment: Segment) -> None:
    member = {name: values[those] for name, values in heads.member.items()}
    bodies = heads.request[those], heads.response[those]
    segment.at_us += member["ts"]
    segment.status += member["status"]
    segment.latency_us += member["us"]
    segment.shadow += member["shadow"]
    segment.id += member["id"]
    segment.share += heads.share[those]
    segment.texts += zip(member["format"], member["caller"], *bodies, member["error"], strict=True)
    rows = those.stop - those.start
    segment.bodies += [(None, None)] * rows
    segment.rows += rows


def _are_counted(heads: Heads, written_us: int) -> bool:
    """It tells whether `_is_counted` holds for all of them, and nothing is to be cut."""
    member = heads.member
    earliest, latest = min(member["ts"]), max(member["ts"])
    return (
        max(EARLIEST_US, written_us - FURTHEST_US) <= earliest
        and latest < LATEST_US
        and latest <= written_us + FURTHEST_US
        and min(member["status"]) >= 0
        and max(member["status"]) < 1000
        and min(member["us"]) >= 0
        and max(member["us"]) < LONGEST_US
        and max(map(len, member["id"])) <= ID_CHARACTERS
        and max(map(len, member["caller"])) <= ID_CHARACTERS
        and min(heads.share) >= LEAST_SHARE
        and max(heads.share) <= 1
    )


def _count(record: dict[str, Any], segment: Segment) -> None:
    segment.at_us.append(record["ts"])
    segment.status.append(record["status"])
    segment.latency_us.append(record["us"])
    segment.shadow.append(record["shadow"])


def _keep(line: Line, segment: Segment, whole: bool) -> None:
    record = line.record
    share = record.get("share", 1.0)
    # Smaller ones, which no policy may ask for, would add up to sums without end.
    if not (_is_id(record.get("id")) and type(share) in (int, float) and LEAST_SHARE <= share <= 1):
        segment.torn += 1
        return
    _count(record, segment)
    segment.rows += 1
    if whole:
        segment.id.append(record["id"])
        segment.share.append(float(share))
        segment.texts.append(
            (
                _text(record.get("format")),
                _text(record.get("caller"))[:ID_CHARACTERS],
                bodies.text(record.get("request")) if line.request is None else line.request,
                bodies.text(record.get("response")) if line.response is None else line.response,
                _text(record.get("error")),
            )
        )
        segment.bodies.append((record.get("request"), record.get("response")))


def _is_id(value: object) -> bool:
    # It stands in each row of its request.
    return isinstance(value, str) and len(value) <= ID_CHARACTERS


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _is_counted(record: dict[str, Any], written_us: int) -> bool:
    at, status, us = record.get("ts"), record.get("status"), record.get("us")
    return (
        type(at) is int
        and EARLIEST_US <= at < LATEST_US
        and abs(at - written_us) <= FURTHEST_US
        and type(status) is int
        and 0 <= status < 1000
        and type(us) is int
        and 0 <= us < LONGEST_US
        and type(record.get("shadow")) is bool
    )
