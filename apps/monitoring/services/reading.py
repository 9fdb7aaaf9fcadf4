"""Reads segments ahead of those who need what is in them, and keeps it for the next who does.

The counting needs a segment's sums, the log its rows a moment later: it is parsed once for both,
as long as there is memory to keep it and its file stays as it was. Nothing depends on it: what is
not kept is read anew.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from apps.monitoring import contents, segments
from apps.monitoring.contents import About, Contents
from apps.monitoring.services.segments import Found
from apps.serving.models import Revision
from apps.serving.selectors import serving_part

log = logging.getLogger(__name__)

HELD_BYTES = 256 << 20
POOL_BYTES = 16 << 20  # what must wait before other processes are worth their start
POOL_IDLE_SECONDS = 60.0
PROCESSES = min(os.cpu_count() or 1, 4)


class Reader:
    """One collector's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._abouts: dict[int, About] = {}
        self._held: dict[Found, Contents] = {}
        self._held_bytes = 0
        self._ahead: dict[Found, Future[Contents]] = {}
        self._pool: ProcessPoolExecutor | None = None
        self._used_at = 0.0

    def look_ahead(self, found: Sequence[Found]) -> None:
        """It lets other processes read what will be asked for soon, when it is much."""
        new = [one for one in found if one not in self._ahead and one not in self._held]
        if self._pool is None and sum(map(_size, new)) < POOL_BYTES:
            return
        self._used_at = self._clock()
        try:
            pool = self._started()
            for one in new:
                self._ahead[one] = pool.submit(contents.read, one.path, self._about(one.revision))
        except BrokenProcessPool:
            self.close()

    def read(self, one: Found) -> Contents:
        """It reads a segment and keeps what is in it.

        Raises: segments.Unreadable; FileNotFoundError.
        """
        found = self._awaited(one) or contents.read(one.path, self._about(one.revision))
        if self._held_bytes + found.size <= HELD_BYTES:
            self._forget(one)
            self._held[one] = found
            self._held_bytes += found.size
        return found

    def take(self, one: Found) -> Contents:
        """It gives what is in a segment, for the last time.

        Raises: segments.Unreadable; FileNotFoundError.
        """
        stamp = segments.stamp(one.path)
        held = self._forget(one)
        if held is not None and held.stamp == stamp:
            return held
        return contents.read(one.path, self._about(one.revision))

    def rest(self) -> None:
        """It ends processes that had nothing to do for a while, and asks for policies anew."""
        self._abouts.clear()
        if self._pool is not None and self._clock() - self._used_at >= POOL_IDLE_SECONDS:
            self.close()

    def close(self, *, wait: bool = False) -> None:
        """It ends the other processes, and waits for their end when it is told to."""
        pool, self._pool = self._pool, None
        self._ahead.clear()
        if pool is not None:
            pool.shutdown(wait=wait, cancel_futures=True)

    def _awaited(self, one: Found) -> Contents | None:
        future = self._ahead.pop(one, None)
        if future is None:
            return None
        try:
            return future.result()
        except BrokenProcessPool as killed:  # of memory, say; here it may be read all the same
            log.warning("A process that read segments ended: %s", killed)
            self.close()
        return None

    def _forget(self, one: Found) -> Contents | None:
        held = self._held.pop(one, None)
        if held is not None:
            self._held_bytes -= held.size
        return held

    def _about(self, revision: int) -> About:
        if revision not in self._abouts:
            rows = Revision.objects.select_related("version", "build", "endpoint__environment")
            row = rows.filter(pk=revision).first()
            if row is None:
                return About(revision)
            redacted = tuple(serving_part(row.endpoint).capture.redact)
            self._abouts[revision] = About(
                revision, row.version.number, row.build.signature, redacted
            )
        return self._abouts[revision]

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                PROCESSES, multiprocessing.get_context("spawn"), initializer=contents.begin
            )
        return self._pool


def _size(one: Found) -> int:
    try:
        return one.path.lstat().st_size
    except OSError:
        return 0
