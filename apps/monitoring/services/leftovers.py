"""Takes up what processes that ended left behind, and removes what has been kept long enough."""

import contextlib
import fcntl
import logging
import os
from datetime import datetime, timedelta
from pathlib import Path

from apps.monitoring import parquet, places, segments
from apps.monitoring.models import LogFile, Rollup, Segment
from apps.monitoring.services import rollups
from apps.monitoring.services.segments import path_of
from apps.monitoring.sums import WIDTH_SECONDS
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Revision

log = logging.getLogger(__name__)

ABANDONED_AFTER = timedelta(seconds=60)
SEGMENT_ROWS_KEPT = timedelta(days=1)
ORPHANS_KEPT = timedelta(hours=1)
ORPHANS_SOUGHT = timedelta(days=2)  # in days' directories that changed since then
BATCH = 5_000


def sweep(*, now: datetime) -> None:
    """It removes rollups, segment rows and files whose time is over, a limited number a call."""
    old = Rollup.objects.filter(width_seconds=WIDTH_SECONDS, at__lt=now - rollups.KEPT)
    gone, _ = Rollup.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:BATCH])).delete()
    if gone:
        log.info("Removed %d rollups older than %d days", gone, rollups.KEPT.days)
    _forget_segments(now)
    _remove_orphans(now)


def seal_abandoned(*, now: datetime) -> None:
    """It seals segments whose server was killed and never came back to do it."""
    before = (now - ABANDONED_AFTER).timestamp()
    for _, folder in segments.folders(places.spool()):
        # The directory is the model's: what is wrong in it is only this revision's loss.
        with contextlib.suppress(OSError):
            for name in segments.listing(folder).open:
                _seal(folder / name, before)


def _seal(path: Path, before: float) -> None:
    try:
        if path.lstat().st_mtime > before:
            return
        descriptor = segments.open_regular(path)
    except FileNotFoundError:
        return  # its server sealed it just now
    except segments.Unreadable:
        path.rename(path.with_suffix(segments.SEALED))  # and the next look sets it aside
        return
    try:
        # A server holds this lock as long as it lives.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.rename(path.with_suffix(segments.SEALED))
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(descriptor)


def remove_empty_folders() -> None:
    """It removes spools of revisions that stopped or are gone: each look lists those there are."""
    folders = dict(segments.folders(places.spool()))
    stays = set(
        Revision.objects.filter(pk__in=list(folders))
        .exclude(wanted=RevisionWish.STOP, state=RevisionState.STOPPED)
        .values_list("pk", flat=True)
    )
    for revision in folders.keys() - stays:
        with contextlib.suppress(OSError):  # it is not empty: first that is counted
            folders[revision].rmdir()


def _forget_segments(now: datetime) -> None:
    """A server writes a segment a second: their rows would soon be the largest table."""
    done = Segment.objects.filter(counted_at__lt=now - SEGMENT_ROWS_KEPT).exclude(
        log_file=None, rows__gt=0
    )
    pks = [
        pk
        for pk, name in done.order_by("pk").values_list("pk", "name")[:BATCH]
        # A file that outlived its row would be counted again.
        if not _is_there(path_of(name))
    ]
    Segment.objects.filter(pk__in=pks).delete()


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # its model shut the directory, and may open it again
    return True


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
