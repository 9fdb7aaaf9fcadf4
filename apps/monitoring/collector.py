"""The engine: looks at the spool and at the gateway's log, and counts what is new.

It keeps nothing that cannot be found again in the files and rows: killed at any moment, the next
one goes on where the last transaction ended.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from django.db import IntegrityError, InterfaceError, OperationalError, connection
from django.utils import timezone
from redis.exceptions import RedisError

from apps.core import live
from apps.monitoring import places, segments
from apps.monitoring.services import gateway, leftovers, log_files
from apps.monitoring.services import segments as counting
from apps.monitoring.services.segments import Found

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
BATCH_SEGMENTS = 64
RECHECK_SECONDS = 10.0
SUMMARY_SECONDS = 60.0
BETWEEN_ANNOUNCEMENTS_SECONDS = 1.0


class Collector:
    """One installation's collector. Two at once count nothing twice, they only waste work."""

    def __init__(
        self,
        now: Callable[[], datetime] = timezone.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._clock = clock
        self._known: set[str] = set()  # counted and still in the spool; only spares questions
        self._checked_at = clock()
        self._announce = _Announcements(clock)
        self._nowhere: Counter[str] = Counter()
        self._summed_at = clock()

    def run(self, stop: threading.Event) -> None:
        """It works until it is told to stop; a database that is away is waited for."""
        pause = TICK_SECONDS
        while not stop.is_set():
            try:
                busy = self.tick()
                pause = 0.0 if busy else TICK_SECONDS
            except (OperationalError, InterfaceError) as down:
                pause = min(max(pause * 2, TICK_SECONDS), LONGEST_PAUSE_SECONDS)
                log.warning("The database did not answer; again in %.1f s: %s", pause, down)
                connection.close()
            except OSError as full:  # a disk that is full, a directory that may not be written
                pause = min(max(pause * 2, TICK_SECONDS), LONGEST_PAUSE_SECONDS)
                log.error("A file could not be used; again in %.1f s: %s", pause, full)  # noqa: TRY400
            stop.wait(pause)

    def tick(self) -> bool:
        """It does what is to be done once, and tells whether more waits already."""
        busy = False
        for step in (self.tidy, self.count_segments, self.count_gateway, self.write_log_files):
            try:
                busy = step() or busy
            except (IntegrityError, gateway.PositionMoved, log_files.AlreadyLogged) as late:
                # Undone, and seen anew at the next tick: a revision was deleted meanwhile, or
                # another collector works on the same files.
                log.warning("A batch was undone: %s", late)
        self._sum_up()
        self._announce.flush()
        return busy

    def tidy(self) -> bool:
        """It does what need not be done at every tick."""
        if self._clock() - self._checked_at >= RECHECK_SECONDS:
            self._checked_at = self._clock()
            self._known.clear()
            leftovers.seal_abandoned(now=self._now())
            gateway.rotate(mark=time.time_ns())
        return False

    def count_segments(self) -> bool:
        """It counts what is in the spool, in batches; other work comes in between."""
        listed = {found.name: found for found in _spool()}
        self._known &= listed.keys()
        unknown = [found for name, found in listed.items() if name not in self._known]
        new = {found.name for found in counting.forget_logged(unknown)}
        self._known |= {found.name for found in unknown if found.name not in new}
        waiting = [found for found in unknown if found.name in new]
        batch = waiting[:BATCH_SEGMENTS]
        if batch:
            self._announce.add(counting.count(batch, now=self._now()))
            self._known |= {found.name for found in batch}
        return len(waiting) > len(batch)

    def count_gateway(self) -> bool:
        progress = gateway.count()
        self._announce.add(progress.endpoints)
        self._nowhere += progress.nowhere
        return progress.more

    def write_log_files(self) -> bool:
        for endpoint in log_files.due(now=self._now()):
            rows = log_files.write(endpoint=endpoint, now=self._now())
            log.info("Wrote %d rows of %s into the prediction log", rows, endpoint)
        return False

    def _sum_up(self) -> None:
        if self._clock() - self._summed_at < SUMMARY_SECONDS:
            return
        self._summed_at = self._clock()
        for what, times in sorted(self._nowhere.items()):
            log.warning("The gateway's log had %d lines that are in no sum: %s", times, what)
        self._nowhere.clear()


class _Announcements:
    """It tells pages that an endpoint changed, at most once a second each, and never too few."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: set[int] = set()
        self._told_at: dict[int, float] = {}

    def add(self, endpoints: set[int]) -> None:
        self._waiting |= endpoints

    def flush(self) -> None:
        now = self._clock()
        for pk in sorted(self._waiting):
            if now - self._told_at.get(pk, -1e9) < BETWEEN_ANNOUNCEMENTS_SECONDS:
                continue
            self._told_at[pk] = now
            self._waiting.discard(pk)
            try:
                live.publish(f"endpoint:{pk}")
            except RedisError as down:
                # What was counted is committed; a page asks again when it reconnects.
                log.warning("No announcement of endpoint %d: %s", pk, down)


def _spool() -> Iterator[Found]:
    try:
        folders = sorted(places.spool().iterdir())
    except FileNotFoundError:
        return
    for folder in folders:
        if folder.name.isdecimal() and folder.is_dir() and not folder.is_symlink():
            for entry in segments.waiting(folder):
                yield Found(int(folder.name), places.spool() / folder.name / entry.name)
