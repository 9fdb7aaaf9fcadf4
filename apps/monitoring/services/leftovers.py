"""Takes up what processes that ended left behind, and removes what has been kept long enough."""

import fcntl
import logging
import os
from datetime import datetime, timedelta

from apps.monitoring import parquet, places, segments
from apps.monitoring.models import LogFile, Rollup, Segment
from apps.monitoring.services.segments import path_of
from apps.monitoring.sums import WIDTH_SECONDS

log = logging.getLogger(__name__)

OPEN = ".open"
ABANDONED_AFTER = timedelta(seconds=60)
ROLLUPS_KEPT = timedelta(days=14)
SEGMENT_ROWS_KEPT = timedelta(days=1)
ORPHANS_KEPT = timedelta(hours=1)
ORPHANS_SOUGHT = timedelta(days=2)  # in days' directories that changed since then
BATCH = 5_000


def sweep(*, now: datetime) -> None:
    """It removes rollups, segment rows and files whose time is over, a limited number a call."""
    old = Rollup.objects.filter(width_seconds=WIDTH_SECONDS, at__lt=now - ROLLUPS_KEPT)
    gone, _ = Rollup.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:BATCH])).delete()
    if gone:
        log.info("Removed %d rollups older than %d days", gone, ROLLUPS_KEPT.days)
    _forget_segments(now)
    _remove_orphans(now)


def seal_abandoned(*, now: datetime) -> None:
    """It seals segments whose server was killed and never came back to do it."""
    for path in places.spool().glob(f"[0-9]*/*{OPEN}"):
        try:
            if path.stat().st_mtime > (now - ABANDONED_AFTER).timestamp():
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue  # its server sealed it just now
        try:
            # A server holds this lock as long as it lives.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.rename(path.with_suffix(segments.SEALED))
        except (BlockingIOError, FileNotFoundError):
            continue
        finally:
            os.close(descriptor)


def _forget_segments(now: datetime) -> None:
    """A server writes a segment a second: their rows would soon be the largest table."""
    done = Segment.objects.filter(counted_at__lt=now - SEGMENT_ROWS_KEPT).exclude(
        log_file=None, rows__gt=0
    )
    pks = [
        pk
        for pk, name in done.order_by("pk").values_list("pk", "name")[:BATCH]
        # A file that outlived its row would be counted again.
        if not path_of(name).exists()
    ]
    Segment.objects.filter(pk__in=pks).delete()


def _remove_orphans(now: datetime) -> None:
    """Files of the log that no row speaks of: their writer was cut off before it committed."""
    for folder in places.log().glob("endpoint=*/day=*"):
        if folder.stat().st_mtime < (now - ORPHANS_SOUGHT).timestamp():
            continue
        late = [
            path
            for path in folder.iterdir()
            if path.suffix in (parquet.SUFFIX, parquet.UNFINISHED)
            and path.stat().st_mtime < (now - ORPHANS_KEPT).timestamp()
        ]
        names = {str(path.relative_to(places.log())): path for path in late}
        known = LogFile.objects.filter(path__in=list(names)).values_list("path", flat=True)
        for name in names.keys() - set(known):
            names[name].unlink(missing_ok=True)
            log.warning("Removed %s, which was never committed", name)
