"""Reads segments ahead of those who need what is in them, and keeps it for the next who does.

The counting needs a segment's sums, the log its rows a moment later: it is parsed once for both,
as long as there is memory to keep it and its file stays as it was. Nothing depends on it: what is
not kept is read anew.

A process that dies tells nobody of which segment. All that were read then are read once more, each
alone; one whose process dies again is unreadable, and this process never reads it itself. What it
does read itself is noted beside the spool: whoever comes after its death suspects that segment.
"""

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass

from apps.monitoring import contents, places, segments
from apps.monitoring.contents import About, Contents, Handed
from apps.monitoring.handing import Memory
from apps.monitoring.services.segments import Found, path_of
from apps.serving.models import Revision
from apps.serving.selectors import serving_part

log = logging.getLogger(__name__)

HELD_BYTES = 256 << 20
POOL_BYTES = 16 << 20  # what must wait before other processes are worth their start
POOL_IDLE_SECONDS = 60.0
PROCESSES = min(os.cpu_count() or 1, 4)


@dataclass
class _Ahead:
    """A segment that another process reads."""

    future: Future[Handed | Contents]
    memory: Memory

    def result(self) -> Contents:
        """It waits for what is in it. Raises: what the other process raised; BrokenProcessPool."""
        found = self.future.result()
        return found.whole(self.memory) if isinstance(found, Handed) else found


class Reader:
    """One collector's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._abouts: dict[int, About] = {}
        self._held: dict[Found, Contents] = {}
        self._held_bytes = 0
        self._ahead: dict[Found, _Ahead] = {}
        self._suspects = _noted()  # were being read when a process died
        self._pool: ProcessPoolExecutor | None = None
        self._single: ProcessPoolExecutor | None = None  # for suspects, one at a time
        self._used_at = 0.0

    def look_ahead(self, found: Sequence[Found]) -> None:
        """It lets other processes read what will be asked for soon, when it is much."""
        known = self._ahead.keys() | self._held.keys() | self._suspects
        new = [one for one in found if one not in known]
        if self._pool is None and sum(map(_size, new)) < POOL_BYTES:
            return
        self._used_at = self._clock()
        if self._pool is None:
            self._pool = _processes(PROCESSES)
        try:
            for one in new:
                self._ahead[one] = self._begun(self._pool, one)
        except BrokenProcessPool as killed:
            self._suspect(killed)
            self._suspects |= set(new) - self._ahead.keys()

    def read(self, one: Found) -> Contents:
        """It reads a segment and keeps what is in it.

        Raises: segments.Unreadable; FileNotFoundError.
        """
        found = self._awaited(one)
        if found is None and one in self._suspects:
            found = self._alone(one)
        if found is None:
            found = self._here(one)
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
        return self._alone(one) if one in self._suspects else self._here(one)

    def rest(self) -> None:
        """It ends processes that had nothing to do for a while, and asks for policies anew."""
        self._abouts.clear()
        self._suspects = {one for one in self._suspects if os.path.lexists(one.path)}
        if self._clock() - self._used_at >= POOL_IDLE_SECONDS:
            self.close()

    def close(self, *, wait: bool = False) -> None:
        """It ends the other processes, and waits for their end when it is told to."""
        pools, self._pool, self._single = (self._pool, self._single), None, None
        self._ahead.clear()
        for pool in pools:
            if pool is not None:
                pool.shutdown(wait=wait, cancel_futures=True)

    def _begun(self, pool: ProcessPoolExecutor, one: Found) -> _Ahead:
        memory = Memory()
        about = self._about(one.revision)
        return _Ahead(pool.submit(contents.hand, one.path, about, memory.path), memory)

    def _awaited(self, one: Found) -> Contents | None:
        ahead = self._ahead.pop(one, None)
        if ahead is None:
            return None
        try:
            return ahead.result()
        except BrokenProcessPool as killed:
            self._ahead[one] = ahead
            self._suspect(killed)
        return None

    def _suspect(self, killed: BrokenProcessPool) -> None:
        """It remembers what was read when a process died; what was read before is there."""
        log.warning("A process that read segments ended: %s", killed)
        read = {one: ahead for one, ahead in self._ahead.items() if _is_read(ahead.future)}
        self._suspects |= self._ahead.keys() - read.keys()
        self.close()
        self._ahead = read

    def _here(self, one: Found) -> Contents:
        """It reads a segment in this process."""
        about, note = self._about(one.revision), places.reading()
        with suppress(OSError):  # on a full disk it is read all the same
            note.write_text(one.name)
        try:
            return contents.read(one.path, about)
        finally:
            note.unlink(missing_ok=True)

    def _alone(self, one: Found) -> Contents:
        """It lets a process read a segment and nothing else beside it.

        Raises: segments.Unreadable when the process dies of it; FileNotFoundError.
        """
        self._used_at = self._clock()
        # One that had nothing to do may have been killed meanwhile, for something else.
        for is_new in (self._single is None, True):
            self._single = self._single or _processes(1)
            try:
                found = self._begun(self._single, one).result()
            except BrokenProcessPool as killed:
                self._single = None
                if is_new:
                    why = f"Two processes ended while they read it: {killed}"
                    raise segments.Unreadable(why) from killed
            else:
                break
        self._suspects.discard(one)
        return found

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


def _processes(most: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(most, spawn, initializer=contents.begin)


def _noted() -> set[Found]:
    """It gives the segment that a collector read when it died."""
    try:
        name = places.reading().read_text()
    except FileNotFoundError:
        return set()
    log.warning("A collector ended while it read segment %s", name)
    revision, _, file = name.partition("/")
    if not (revision.isdecimal() and segments.NAME.fullmatch(file)):
        return set()
    return {Found(int(revision), path_of(name))}


def _is_read(future: Future[Handed | Contents]) -> bool:
    """It tells whether a process came to an end with it, be it that it raised."""
    return future.done() and not isinstance(future.exception(), BrokenProcessPool)


def _size(one: Found) -> int:
    try:
        return one.path.lstat().st_size
    except OSError:
        return 0
