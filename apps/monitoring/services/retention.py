"""Removes the oldest files of the log where a policy says how long they stay, or how many.

The order makes it safe: one transaction takes the files' rows away and lets their segments go, so
that no reader looks for a file that is gone; then the files go. Cut off between the two, a file is
one that no row speaks of, which `leftovers` removes.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Sum
from django.db.models.functions import Greatest

from apps.audit import services as audit
from apps.monitoring import places
from apps.monitoring.models import Expired, LogFile, RowFile, Segment
from apps.registry import policy
from apps.registry.selectors import policy_of
from apps.registry.serving_policy import Capture
from apps.serving.models import Endpoint

log = logging.getLogger(__name__)

FILES_AT_ONCE = 500
TOLD_EVERY = timedelta(days=1)
GB = 1_000_000_000
MB = 1_000_000
ENTRY_BYTES = 4096  # what a name takes: empty files without end would be no bytes


def expire(*, now: datetime) -> None:
    """It removes files of the log whose time is over or that are too many, oldest first."""
    left = FILES_AT_ONCE
    for endpoint, kept in _limited():
        chosen = _chosen(endpoint, kept, now)[:left]
        if chosen:
            _remove(endpoint, chosen)
            left -= len(chosen)
    _tell(now)


def _limited() -> Iterator[tuple[Endpoint, Capture]]:
    has_log = Exists(LogFile.objects.filter(endpoint=OuterRef("pk")))
    endpoints = Endpoint.objects.filter(has_log, model__policies__isnull=False).distinct()
    for endpoint in endpoints.select_related("model", "environment").order_by("pk"):
        document = policy_of(endpoint.model).document
        kept = policy.serving_of(document, endpoint.environment.name).capture
        if kept.keep_days is not None or kept.keep_gb is not None:
            yield endpoint, kept


def _chosen(endpoint: Endpoint, kept: Capture, now: datetime) -> list[LogFile]:
    files = endpoint.log_files.order_by("last_at", "pk")
    before = None if kept.keep_days is None else now - timedelta(days=kept.keep_days)
    over = 0
    if kept.keep_gb is not None:
        over = _size_of(endpoint) - round(kept.keep_gb * GB)
    chosen: list[LogFile] = []
    for file in files.prefetch_related("row_files")[:FILES_AT_ONCE]:
        if over <= 0 and (before is None or file.last_at >= before):
            break
        chosen.append(file)
        over -= _size_with_rows(file)
    return chosen


def _size_of(endpoint: Endpoint) -> int:
    log_bytes = endpoint.log_files.aggregate(total=Sum("size_bytes"))["total"] or 0
    rows = RowFile.objects.filter(log_file__endpoint=endpoint)
    return int(log_bytes + (rows.aggregate(total=Sum("size_bytes"))["total"] or 0))


def _size_with_rows(file: LogFile) -> int:
    return file.size_bytes + sum(rows.size_bytes for rows in file.row_files.all())


def _remove(endpoint: Endpoint, chosen: Sequence[LogFile]) -> None:
    paths = [places.log() / file.path for file in chosen] + [
        places.rows() / rows.path for file in chosen for rows in file.row_files.all()
    ]
    for folder in {path.parent for path in paths}:
        # Files without a row are sought where something changed lately; killed behind the
        # commit, nothing had.
        with contextlib.suppress(FileNotFoundError):
            os.utime(folder)
    _commit(endpoint, [file.pk for file in chosen])
    for path in paths:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # other files of that day stay
            path.parent.rmdir()


@transaction.atomic
def _commit(endpoint: Endpoint, pks: Sequence[int]) -> None:
    files = list(LogFile.objects.select_for_update().filter(pk__in=pks).order_by("pk"))
    if not files:
        return
    # Their rows stay until their files are gone from the spool, or they would be counted again.
    Segment.objects.filter(log_file__in=files).update(log_file=None, rows=0)
    size = sum(_size_with_rows(file) for file in files)
    LogFile.objects.filter(pk__in=[file.pk for file in files]).delete()
    newest = max(file.last_at for file in files)
    tally, _ = Expired.objects.get_or_create(endpoint=endpoint, defaults={"last_at": newest})
    Expired.objects.filter(pk=tally.pk).update(
        files=F("files") + len(files),
        rows=F("rows") + sum(file.rows for file in files),
        size_bytes=F("size_bytes") + size,
        last_at=Greatest(F("last_at"), newest),
    )
    log.info("Removed %d files of the log of %s, up to %s", len(files), endpoint, newest)


def _tell(now: datetime) -> None:
    """It records what was removed: a file goes each minute, which would bury all other events."""
    due = Q(told_at=None) | Q(told_at__lte=now - TOLD_EVERY)
    waiting = Expired.objects.filter(due, files__gt=0)
    for pk in list(waiting.values_list("pk", flat=True)):
        _tell_one(pk, now)


@transaction.atomic
def _tell_one(pk: int, now: datetime) -> None:
    tally = (
        Expired.objects.select_for_update(of=("self",))
        .select_related("endpoint__model", "endpoint__environment")
        .get(pk=pk)
    )
    if not tally.files:
        return
    endpoint = tally.endpoint
    audit.record(
        "log.expired",
        endpoint,
        actor=None,
        now=now,
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        reason="Kept as long, or as much, as the policy says",
        evidence={
            "rows": tally.rows,
            "files": tally.files,
            "size_bytes": tally.size_bytes,
            "last_at": tally.last_at.isoformat(),
        },
    )
    Expired.objects.filter(pk=pk).update(files=0, rows=0, size_bytes=0, told_at=now)


@dataclass(frozen=True, order=True)
class _Aside:
    since_ns: int
    path: Path
    size: int


def limit_rejected() -> None:
    """It removes what was set aside first, where it takes more than PORTAL_REJECTED_MB."""
    found = _rejected()
    over = sum(one.size for one in found) - settings.REJECTED_MB * MB
    for one in sorted(found):
        if over <= 0:
            break
        over -= one.size
        try:
            if one.path.is_dir() and not one.path.is_symlink():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        except OSError as why:
            log.error("%a cannot be removed: %s", one.path.name, why)  # noqa: TRY400  no bug
        else:
            log.warning("Removed %a from what was set aside, to make room", one.path.name)


def _rejected() -> list[_Aside]:
    try:
        paths = list(places.rejected().iterdir())
    except FileNotFoundError:
        return []
    found: list[_Aside] = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            # A model dates its files as it likes, but not when they were renamed to here.
            found.append(_Aside(path.lstat().st_ctime_ns, path, _size(path)))
    return found


def _size(path: Path) -> int:
    """It tells how much of the disk something takes: a sparse file is less than its length."""
    size = path.lstat().st_blocks * 512 + ENTRY_BYTES
    for folder, folders, files in os.walk(path):  # nothing, unless it is a directory
        for name in folders + files:
            with contextlib.suppress(FileNotFoundError):
                size += (Path(folder) / name).lstat().st_blocks * 512 + ENTRY_BYTES
    return size
