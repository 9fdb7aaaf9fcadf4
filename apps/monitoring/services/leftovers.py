"""Takes up what processes that ended left behind, and removes what has been kept long enough."""

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from apps.monitoring import parquet, places, segments, usage, windows
from apps.monitoring.models import LogFile, ReplicaUse, Rollup, RowFile, Segment, Tally
from apps.monitoring.services.segments import path_of
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Revision

log = logging.getLogger(__name__)

ABANDONED_AFTER = timedelta(seconds=60)
SEGMENT_ROWS_KEPT = timedelta(days=1)
ORPHANS_KEPT = timedelta(hours=1)
ORPHANS_SOUGHT = timedelta(days=2)  # in days' directories that changed since then
BATCH = 5_000


def sweep(*, now: datetime) -> None:
    """It removes sums, segment rows and files whose time is over, a limited number a call."""
    _remove_old(Rollup, windows.ROLLUPS, now)
    _remove_old(Tally, windows.TALLIES, now)
    _remove_old(ReplicaUse, usage.KEPT, now)
    _forget_segments(now)
    _remove_orphans(places.log(), LogFile, now)
    _remove_orphans(places.rows(), RowFile, now)


def _remove_old(
    kind: type[Rollup] | type[Tally] | type[ReplicaUse],
    kept: Mapping[int, timedelta],
    now: datetime,
) -> None:
    """It removes spans of a width that is kept for a shorter time; the coarser ones hold them."""
    for width, age in kept.items():
        if age >= windows.FOREVER:
            continue
        old = kind._default_manager.filter(width_seconds=width, at__lt=now - age)
        chosen = list(old.values_list("pk", flat=True)[:BATCH])
        if chosen:
            # No row points at one: Django need not look at them first.
            gone = kind._default_manager.filter(pk__in=chosen)._raw_delete("default")
            log.info("Removed %d spans of %d s older than %d days", gone, width, age.days)


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


def _remove_orphans(root: Path, kind: type[LogFile] | type[RowFile], now: datetime) -> None:
    """Files that no row speaks of: their writer was cut off before it committed."""
    for folder in root.glob("endpoint=*/day=*"):
        if folder.stat().st_mtime < (now - ORPHANS_SOUGHT).timestamp():
            continue
        late = [
            path
            for path in folder.iterdir()
            if path.suffix in (parquet.SUFFIX, parquet.UNFINISHED)
            and path.stat().st_mtime < (now - ORPHANS_KEPT).timestamp()
        ]
        names = {str(path.relative_to(root)): path for path in late}
        known = kind._default_manager.filter(path__in=list(names)).values_list("path", flat=True)
        for name in names.keys() - set(known):
            names[name].unlink(missing_ok=True)
            log.warning("Removed %s, which was never committed", name)
