"""Reads a segment once for all that is made of it: sums, the log's columns, rows. No database.

It works in processes of its own as well, where many segments wait.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from apps.monitoring import extract, handing, parquet, segments, shapes
from apps.monitoring.extract import Extracted
from apps.monitoring.handing import Memory
from apps.monitoring.patterns import Patterns
from apps.monitoring.sums import Answers

log = logging.getLogger(__name__)

MOST_KNOWN = 64  # revisions whose segments were read last
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # as malloc.h names them


@dataclass(frozen=True)
class About:
    """What a segment does not say of the revision that wrote it."""

    revision: int
    version: int = 0
    signature: Mapping[str, Any] = field(default_factory=dict)
    redacted: tuple[str, ...] = ()  # the columns that the policy hides


@dataclass
class Contents:
    """What one segment holds."""

    answers: Answers
    rows: int  # what belongs into the log
    dropped: int
    torn: int
    left_out: int  # rows that only the log has
    stamp: tuple[int, int, int]  # of the file that was read
    log: pa.Table  # parquet.SCHEMA
    predictions: pa.Table  # the columns of rows.py

    @cached_property
    def size(self) -> int:
        """How much memory it takes."""
        return int(self.log.nbytes + self.predictions.nbytes)


@dataclass
class Handed:
    """What one segment holds, with the tables in a Memory: the log's, and the predictions'."""

    contents: Contents  # its tables are empty

    def whole(self, memory: Memory) -> Contents:
        """It takes the tables from where they were put."""
        log_table, predictions = memory.tables()
        return replace(self.contents, log=log_table, predictions=predictions)


# It only spares work: a process that begins anew reads the same.
_KNOWN: dict[int, tuple[About, Patterns]] = {}


def read(path: Path, about: About) -> Contents:
    """It reads a sealed segment.

    Raises: segments.Unreadable; FileNotFoundError.
    """
    stamp = segments.stamp(path)
    patterns = _patterns(about)
    answers: list[Answers] = []
    logged: list[pa.Table] = []
    predictions: list[pa.Table] = []
    rows = dropped = torn = left_out = 0
    with _without_garbage():
        for part in segments.parts(path, patterns):
            answers.append(part.answers())
            rows, dropped, torn = rows + part.rows, dropped + part.dropped, torn + part.torn
            batch = parquet.batch(part, revision=about.revision, version=about.version)
            logged.append(pa.Table.from_batches([batch]))
            found = _predictions(part, logged[-1], patterns.known)
            predictions.append(found.table)
            left_out += found.left_out
            del part  # or two would be in memory at once
    return Contents(
        answers=joined(answers),
        rows=rows,
        dropped=min(dropped, segments.MOST_DROPPED),
        torn=torn,
        left_out=left_out,
        stamp=stamp,
        log=pa.concat_tables(logged),
        predictions=extract.joined(predictions),
    )


def hand(path: Path, about: About, to: str | None) -> Handed | Contents:
    """It reads a sealed segment for another process, and puts the tables into its Memory.

    Raises: segments.Unreadable; FileNotFoundError.
    """
    found = read(path, about)
    if to is None:
        return found
    try:
        handing.put([found.log, found.predictions], to)
    except OSError as why:  # they go through the pipe
        log.warning("What is in %s cannot be put into shared memory: %s", path.name, why)
        return found
    nothing = found.log.schema.empty_table()
    return Handed(replace(found, log=nothing, predictions=nothing))


def joined(parts: list[Answers]) -> Answers:
    """It puts answers of one revision together."""
    return Answers(
        np.concatenate([part.at_us for part in parts]),
        np.concatenate([part.status for part in parts]),
        np.concatenate([part.latency_us for part in parts]),
        np.concatenate([part.shadow for part in parts]),
    )


def _predictions(part: segments.Segment, logged: pa.Table, known: shapes.Plan) -> Extracted:
    formats = [texts[0] for texts in part.texts]
    try:
        asked = extract.Requests(logged, formats, part.status, part.bodies, part.groups)
        return extract.rows_of(asked, known)
    except Exception:
        # The log must not wait for a body that nobody thought of.
        log.exception("%d requests could not be read as rows", part.rows)
        nothing = [(None, None)] * part.rows
        return extract.rows_of(extract.Requests(logged, formats, part.status, nothing), known)


def _patterns(about: About) -> Patterns:
    """It gives what is known of the revision's bodies from the segments before."""
    known, patterns = _KNOWN.pop(about.revision, (None, None))
    if patterns is None or known != about:
        patterns = Patterns(shapes.plan(about.signature, about.redacted))
    _KNOWN[about.revision] = about, patterns
    if len(_KNOWN) > MOST_KNOWN:
        del _KNOWN[next(iter(_KNOWN))]
    return patterns


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Parsed bodies hold no circles; to look for some among them takes most of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def begin() -> None:
    """It prepares a process that reads for another."""
    _keep_memory()
    gc.freeze()
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _keep_memory() -> None:
    # What is given back after a segment is asked for again with the next, and the kernel clears
    # each page anew: a sixth of the time. The process ends soon after there is nothing to read.
    with suppress(AttributeError, OSError):  # of another C library than GNU's
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 512 << 20)


def _end_with_the_parent() -> None:
    # One that is killed tells nobody, and its processes would wait for work until the end of time.
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
