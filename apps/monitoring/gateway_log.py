"""Reads the gateway's access log: where it lies in its rotated files, and what its lines say.

The fields are those of `ACCESS` in apps/serving/backends/envoy.py. Knows no database.
"""

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

from apps.monitoring.sums import Answers

log = logging.getLogger(__name__)

NAME = "access.log"
CHUNK_BYTES = 8 << 20
ROTATED_OVER_BYTES = 64 << 20
_REVISION = re.compile(r"\.r(\d+)$")


@dataclass(frozen=True)
class Place:
    """How far the log was read: the file by its inode, since rotation changes its name."""

    inode: int
    offset: int


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
    listed = files(folder)
    inodes = [path.stat().st_ino for path in listed]
    if place.inode not in inodes:
        if not listed:
            return Chunk(b"", place, more=False)
        log.warning("The gateway's log was replaced; what was not read of the old one is lost")
        return Chunk(b"", Place(inodes[0], 0), more=True)
    index = inodes.index(place.inode)
    with listed[index].open("rb") as file:
        if os.fstat(file.fileno()).st_ino != place.inode:
            return Chunk(b"", place, more=True)  # rotated between the list and here
        offset = place.offset
        if os.fstat(file.fileno()).st_size < offset:
            log.warning("The gateway's log was cut off; it is read from its beginning")
            offset = 0
        file.seek(offset)
        content = file.read(CHUNK_BYTES)
    whole = content.rfind(b"\n") + 1
    if whole:
        more = len(content) == CHUNK_BYTES or index + 1 < len(listed)
        return Chunk(content[:whole], Place(place.inode, offset + whole), more)
    if len(content) == CHUNK_BYTES:
        log.error("A line of the gateway's log has more than %d bytes and is skipped", CHUNK_BYTES)
        return Chunk(b"", Place(place.inode, offset + CHUNK_BYTES), more=True)
    if index + 1 < len(listed):
        if content:
            log.warning("The gateway ended in the middle of a line of its log")
        return Chunk(b"", Place(inodes[index + 1], 0), more=True)
    return Chunk(b"", Place(place.inode, offset), more=False)


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
            row = (int(entry["ts"]), int(entry["code"] or 0), int(entry["us"] or 0))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            lines.torn += 1
            continue
        # Readiness and metadata are asked with GET: probes are no predictions.
        if entry.get("method", "POST") == "POST":
            _sort(entry, row, lines)
    return lines


def _sort(entry: dict[str, Any], row: tuple[int, int, int], lines: Lines) -> None:
    cluster, route = entry.get("cluster") or "", entry.get("route") or ""
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
