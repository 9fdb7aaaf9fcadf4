"""Reads the gateway's access log: where it lies in its rotated files, and what its lines say.

The fields are those of `ACCESS` in apps/serving/backends/envoy.py. Knows no database.
"""

import hashlib
import logging
import os
import re
import socket
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from apps.monitoring.segments import EARLIEST_US, LATEST_US, LONGEST_US
from apps.monitoring.sums import Answers
from apps.serving.lifecycle import TRYING

log = logging.getLogger(__name__)

NAME = "access.log"
CHUNK_BYTES = 8 << 20
ROTATED_OVER_BYTES = 64 << 20
HEAD_BYTES = 64 << 10
HUNG_UP = 499  # no answer was due any more: the caller's, as the model server calls it
_REVISION = re.compile(r"\.r(\d+)$")


@dataclass(frozen=True)
class Place:
    """How far the log was read.

    The file by its inode, since rotation changes its name, and by its first line, since a copy of
    the data directory changes the inode; only a file without a whole line has no `head`.
    """

    inode: int
    offset: int
    head: str = ""


@dataclass(frozen=True)
class Chunk:
    """Whole lines that were not read before, and the place behind them."""

    content: bytes
    end: Place
    more: bool  # there may be more to read at once


@dataclass
class Rows:
    at_us: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    latency_us: list[int] = field(default_factory=list)

    def answers(self) -> Answers:
        return Answers(
            np.array(self.at_us, dtype=np.int64),
            np.array(self.status, dtype=np.int64),
            np.array(self.latency_us, dtype=np.int64),
            np.zeros(len(self.at_us), dtype=np.bool_),  # the log has callers' requests only
        )


@dataclass
class Lines:
    """Inference requests as callers sent them."""

    by_revision: dict[int, Rows] = field(default_factory=lambda: defaultdict(Rows))
    by_route: dict[str, Rows] = field(default_factory=lambda: defaultdict(Rows))  # no cluster
    nowhere: Counter[str] = field(default_factory=Counter)  # of no endpoint, by answer
    torn: int = 0


def files(folder: Path) -> list[Path]:
    """It lists the log's files from the oldest to the one that is written now."""
    rotated = sorted(
        (path for path in folder.glob(f"{NAME}.*") if path.suffix[1:].isdigit()),
        key=lambda path: int(path.suffix[1:]),
    )
    current = folder / NAME
    return [*rotated, current] if current.exists() else rotated


def first(folder: Path) -> Place | None:
    """It gives the beginning of the log; None when there is none yet."""
    listed = files(folder)
    return Place(listed[0].stat().st_ino, 0) if listed else None


def read(folder: Path, place: Place) -> Chunk:
    """It reads on from a place; a line that is still being written is left for the next time."""
    # The list is taken before the reading: when a later file stood in it already, the writer had
    # closed this one, so that its end is its end.
    listed = [_log(path) for path in files(folder)]
    if not listed:
        return Chunk(b"", place, more=False)
    index = _index(listed, place)
    if index is None:
        log.warning("The gateway's log was replaced; what was not read of the old one is lost")
        return Chunk(b"", Place(listed[0].inode, 0), more=True)
    chosen, is_last = listed[index], index + 1 == len(listed)
    with chosen.path.open("rb") as file:
        if os.fstat(file.fileno()).st_ino != chosen.inode:
            return Chunk(b"", place, more=True)  # rotated between the list and here
        offset = _offset(chosen, place, os.fstat(file.fileno()).st_size)
        file.seek(offset)
        content = file.read(CHUNK_BYTES)
    whole = content.rfind(b"\n") + 1
    if whole:
        more = len(content) == CHUNK_BYTES or not is_last
        return Chunk(content[:whole], chosen.at(offset + whole), more)
    if len(content) == CHUNK_BYTES:
        log.error("A line of the gateway's log has more than %d bytes and is skipped", CHUNK_BYTES)
        return Chunk(b"", chosen.at(offset + CHUNK_BYTES), more=True)
    if not is_last:
        if content:
            log.warning("The gateway ended in the middle of a line of its log")
        return Chunk(b"", listed[index + 1].at(0), more=True)
    return Chunk(b"", chosen.at(offset), more=False)


@dataclass(frozen=True)
class _Log:
    """One file of the log when it was listed."""

    path: Path
    inode: int
    head: str

    def at(self, offset: int) -> Place:
        return Place(self.inode, offset, self.head)


def _log(path: Path) -> _Log:
    """It looks at a file; its first line names the moment and the request it was of."""
    with path.open("rb") as file:
        inode, line = os.fstat(file.fileno()).st_ino, file.readline(HEAD_BYTES)
    is_whole = line.endswith(b"\n") or len(line) == HEAD_BYTES
    return _Log(path, inode, hashlib.sha256(line).hexdigest() if is_whole else "")


def _index(listed: list[_Log], place: Place) -> int | None:
    """It finds the file of a place, after a copy too; None when it is gone."""
    same = [i for i, one in enumerate(listed) if one.inode == place.inode]
    copies = [i for i, one in enumerate(listed) if place.head and one.head == place.head]
    # A copy may have the inode that another file had: where both speak, the first line is right.
    found = [i for i in same if i in copies] or copies or same
    return found[0] if found else None


def _offset(chosen: _Log, place: Place, size: int) -> int:
    """It gives where to read on in the file that was found."""
    if place.head not in ("", chosen.head):
        log.warning("The gateway's log was cut off; it is read from its beginning")
        return 0
    if chosen.inode != place.inode:
        log.warning("The gateway's log was copied; it is read on in the copy")
    # What stands in an older copy was counted already, when it was not yet a copy.
    return min(place.offset, size)


def forget_before(folder: Path, place: Place) -> None:
    """It removes rotated files that were read to their end."""
    listed = files(folder)
    inodes = [path.stat().st_ino for path in listed]
    if place.inode in inodes:
        for path in listed[: inodes.index(place.inode)]:
            path.unlink()


def rotate(folder: Path, place: Place, *, admin: Path, mark: int) -> None:
    """It puts a large log aside and has the gateway begin a new one.

    `mark` orders rotated files: it must grow. Safe to call at any time and again: without a
    current file the gateway is only asked once more, so that a call lost here is made up for.
    """
    current = folder / NAME
    try:
        about = current.stat()
    except FileNotFoundError:
        if files(folder):
            _reopen(admin)
        return
    # Never a second one before the first was read: there is one old file at most.
    if about.st_size > ROTATED_OVER_BYTES and about.st_ino == place.inode:
        current.rename(folder / f"{NAME}.{mark}")
        _reopen(admin)


def parse(content: bytes) -> Lines:
    """It sorts whole lines by whom they were for."""
    lines = Lines()
    for line in content.splitlines():
        try:
            entry = orjson.loads(line)
            row = (int(entry["ts"]), _status(entry), int(entry["us"] or 0))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            lines.torn += 1
            continue
        # A line that a full disk mangled must not stop all that stands behind it.
        if not (
            EARLIEST_US <= row[0] < LATEST_US and 0 <= row[1] < 1000 and 0 <= row[2] < LONGEST_US
        ):
            lines.torn += 1
        # Readiness and metadata are asked with GET: probes are no predictions.
        elif entry.get("method", "POST") == "POST":
            _sort(entry, row, lines)
    return lines


def _status(entry: dict[str, Any]) -> int:
    """It gives what the caller got; 0 when it waited in vain for an answer that we owed it."""
    code = int(entry["code"] or 0)
    if code or "DC" not in str(entry.get("flags")).split(","):
        return code
    # The caller hung up. The log has no duration then, as nothing was sent; but a replica that
    # hangs for the time limit of one try (10 s, `Timeouts` in apps/serving/backends/routing.py) is
    # given up for a second attempt. A candidate that hangs must not pass for impatient callers.
    return HUNG_UP if int(entry.get("attempts") or 0) <= 1 else 0


def _sort(entry: dict[str, Any], row: tuple[int, int, int], lines: Lines) -> None:
    cluster, route = entry.get("cluster") or "", entry.get("route") or ""
    if route.endswith(TRYING):
        return  # somebody tries a revision out: that says nothing of what callers get
    found = _REVISION.search(cluster)
    if found:
        rows = lines.by_revision[int(found[1])]
    elif "/" in route and not cluster:
        rows = lines.by_route[route]
    else:
        lines.nowhere[str(row[1])] += 1
        return
    rows.at_us.append(row[0])
    rows.status.append(row[1])
    rows.latency_us.append(row[2])


def _reopen(admin: Path) -> None:
    try:
        with closing(_Admin(admin)) as connection:
            connection.request("POST", "/reopen_logs")
            answer = connection.getresponse()
            answer.read()
            said = answer.status
    except (OSError, HTTPException) as down:
        # A gateway that starts opens its log anyway; one that runs is asked again.
        log.warning("The gateway was not told to open a new log: %s", down)
        return
    if said != 200:
        log.warning("The gateway refused to open a new log: it answered %d", said)


class _Admin(HTTPConnection):
    """The gateway's admin listens on a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("gateway", timeout=2)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
