"""The engine: looks at the spool and at the gateway's log, and counts what is new.

It keeps nothing that cannot be found again in the files and rows: killed at any moment, the next
one goes on where the last transaction ended.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from django.db import IntegrityError, InterfaceError, OperationalError, connection
from django.utils import timezone
from redis.exceptions import RedisError

from apps.core import live
from apps.monitoring import places, segments
from apps.monitoring.services import gateway, leftovers, log_files, retention, tallies, usage
from apps.monitoring.services import segments as counting
from apps.monitoring.services.reading import Reader
from apps.monitoring.services.segments import Found
from apps.serving.models import Endpoint

log = logging.getLogger(__name__)

TICK_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
BATCH_SEGMENTS = 64
BATCH_BYTES = 64 << 20
AHEAD_SEGMENTS = 8  # of the next batch, read while this one is written
FILES_A_TICK = 4  # of one endpoint
RECHECK_SECONDS = 10.0
MEASURE_SECONDS = 10.0
RECOUNT_SECONDS = 10.0  # a new baseline or slice is noticed as late
SUMMARY_SECONDS = 60.0
EXPIRY_SECONDS = 60.0
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
        self._reader = Reader(clock)
        self._checked_at = clock()
        self._expired_at = clock()
        self._has_rows = True  # that may not be counted yet
        self._recounted_at = 0.0
        self._measured_at = float("-inf")
        self._announce = _Announcements(clock)
        self._nowhere: Counter[str] = Counter()
        self._shut: dict[int, str] = {}  # revision -> why its spool cannot be listed
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
            except Exception:
                # The next start would meet the same, and canaries would be judged by old counts.
                pause = min(max(pause * 2, TICK_SECONDS), LONGEST_PAUSE_SECONDS)
                log.exception("A tick failed; again in %.1f s", pause)
            stop.wait(pause)
        self.close()

    def close(self, *, wait: bool = False) -> None:
        """It ends what it started."""
        self._reader.close(wait=wait)

    def tick(self) -> bool:
        """It does what is to be done once, and tells whether more waits already.

        Raises what a step raised, when all others had their turn: canaries are judged by the
        gateway's counts, whatever is wrong with a model's segments.
        """
        busy = False
        failed: list[Exception] = []
        for step in (
            self.tidy,
            self.count_segments,
            self.count_gateway,
            self.write_log_files,
            self.count_rows,
            self.measure,
            self.expire,
        ):
            try:
                busy = step() or busy
            except (IntegrityError, gateway.PositionMoved, log_files.AlreadyLogged) as late:
                # Undone, and seen anew at the next tick: a revision was deleted meanwhile, or
                # another collector works on the same files.
                log.warning("A batch was undone: %s", late)
            except Exception as error:  # noqa: BLE001  raised below
                failed.append(error)
                if isinstance(error, (OperationalError, InterfaceError)):
                    connection.close()  # the next step may find the database again
        self._sum_up()
        self._announce.flush()
        for also in failed[1:]:
            log.error("What failed too: %r", also)
        if failed:
            raise failed[0]
        return busy

    def tidy(self) -> bool:
        """It does what need not be done at every tick."""
        if self._clock() - self._checked_at >= RECHECK_SECONDS:
            self._checked_at = self._clock()
            self._known.clear()
            leftovers.seal_abandoned(now=self._now())
            leftovers.remove_empty_folders()
            self._reader.rest()
            gateway.rotate(mark=time.time_ns())
        return False

    def count_segments(self) -> bool:
        """It counts what is in the spool, in batches; other work comes in between."""
        listed, odd = self._spool()
        self._known &= {found.name for found in listed + odd}
        for found in self._not_known(odd)[:BATCH_SEGMENTS]:
            counting.set_aside(found, "No model server names a file so", now=self._now())
            self._known.add(found.name)
        unknown = self._not_known(listed)
        new = {found.name for found in counting.forget_logged(unknown)}
        self._known |= {found.name for found in unknown if found.name not in new}
        waiting = [found for found in unknown if found.name in new]
        batch = _batch(waiting)
        if batch:
            self._reader.look_ahead(waiting[: len(batch) + AHEAD_SEGMENTS])
            self._announce.add(counting.count(batch, now=self._now(), read=self._reader.read))
            self._known |= {found.name for found in batch}
        return len(waiting) > len(batch)

    def _spool(self) -> tuple[list[Found], list[Found]]:
        """It gives the sealed segments, and what is no segment at all."""
        sealed: list[Found] = []
        odd: list[Found] = []
        for revision, folder in segments.folders(places.spool()):
            try:
                names = segments.listing(folder)
            except OSError as shut:  # its model closed it; the others' are counted
                self._shut[revision] = str(shut)
                continue
            sealed += [Found(revision, folder / name) for name in names.sealed]
            odd += [Found(revision, folder / name) for name in names.odd]
        return sealed, odd

    def _not_known(self, listed: list[Found]) -> list[Found]:
        return [found for found in listed if found.name not in self._known]

    def count_gateway(self) -> bool:
        progress = gateway.count()
        self._announce.add(progress.endpoints)
        self._nowhere += progress.nowhere
        return progress.more

    def write_log_files(self) -> bool:
        for endpoint in log_files.due(now=self._now()):
            self._write(endpoint)
        return False

    def _write(self, endpoint: Endpoint) -> None:
        for _ in range(FILES_A_TICK):
            rows = log_files.write(endpoint=endpoint, now=self._now(), reader=self._reader)
            log.info("Wrote %d rows of %s into the prediction log", rows, endpoint)
            self._has_rows = True
            if rows < log_files.ENOUGH_ROWS or not log_files.has_enough(endpoint):
                break

    def count_rows(self) -> bool:
        """It counts some of the rows that a baseline or a slice has not counted yet."""
        if self._has_rows or self._clock() - self._recounted_at >= RECOUNT_SECONDS:
            self._recounted_at = self._clock()
            self._has_rows = tallies.count(now=self._now())
        return self._has_rows

    def measure(self) -> bool:
        """It counts what replicas used since it last looked."""
        if self._clock() - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = self._clock()
            self._announce.add(usage.count())
        return False

    def expire(self) -> bool:
        """It removes what has been kept long enough."""
        if self._clock() - self._expired_at >= EXPIRY_SECONDS:
            self._expired_at = self._clock()
            retention.limit_rejected()
            retention.expire(now=self._now())
            usage.forget_gone(now=self._now())
        return False

    def _sum_up(self) -> None:
        if self._clock() - self._summed_at < SUMMARY_SECONDS:
            return
        self._summed_at = self._clock()
        for what, times in sorted(self._nowhere.items()):
            log.warning("The gateway's log had %d lines that are in no sum: %s", times, what)
        self._nowhere.clear()
        for revision, why in sorted(self._shut.items()):
            log.error("The spool of revision %d cannot be listed: %s", revision, why)
        self._shut.clear()


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


def _batch(waiting: list[Found]) -> list[Found]:
    """It takes as many as may be in memory at once: a model makes its segments of any size."""
    size = 0
    for place, found in enumerate(waiting[:BATCH_SEGMENTS], start=1):
        try:
            size += found.path.lstat().st_size
        except OSError:
            continue  # it is gone, or the counting says what is wrong with it
        if size >= BATCH_BYTES:
            return waiting[:place]
    return waiting[:BATCH_SEGMENTS]
