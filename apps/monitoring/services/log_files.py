"""Moves counted segments into the prediction log, each row once, whatever crashes.

The order makes it safe: the Parquet file is on the disk, then one transaction makes it exist and
says that its segments are in it, then the segments' files go. Cut off before the transaction, the
file is an orphan that `retention` removes; cut off after it, the next look removes the segments.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from django.db import transaction
from django.db.models import F, Min, QuerySet, Sum

from apps.monitoring import parquet, places, segments
from apps.monitoring.models import LogFile, Segment
from apps.monitoring.services.segments import Found, is_its_own, path_of, remove, set_aside
from apps.serving.models import Endpoint

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(seconds=60)
ENOUGH_ROWS = 50_000
ENOUGH_BYTES = 64 << 20  # what is read into memory for one file


class AlreadyLogged(Exception):
    """Another process put a segment of this batch into the log first."""


@dataclass(frozen=True)
class Written:
    path: Path
    day: date
    table: pa.Table


def due(*, now: datetime) -> list[Endpoint]:
    """Endpoints whose counted rows have waited long enough, or are many."""
    waiting = (
        _waiting()
        .values("revision__endpoint_id")
        .annotate(rows_waiting=Sum("rows"), since=Min("counted_at"))
        .order_by()
    )
    ripe = [
        row["revision__endpoint_id"]
        for row in waiting
        if row["rows_waiting"] >= ENOUGH_ROWS or row["since"] <= now - LONGEST_WAIT
    ]
    return list(Endpoint.objects.filter(pk__in=ripe).select_related("environment"))


def write(*, endpoint: Endpoint, now: datetime) -> int:
    """It writes the rows that have waited longest, a file a day, and gives how many there were.

    Segments that cannot be read or written are set aside, each alone.
    Raises: AlreadyLogged; the database is then as before.
    """
    chosen = _chosen(endpoint)
    try:
        return _write_all(endpoint, chosen, now)
    except AlreadyLogged:
        raise
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("%d segments of %s could not be logged together", len(chosen), endpoint)
    return sum(_write_alone(endpoint, segment, now) for segment in chosen)


def _write_alone(endpoint: Endpoint, segment: Segment, now: datetime) -> int:
    try:
        return _write_all(endpoint, [segment], now)
    except AlreadyLogged:
        raise
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("%d rows of segment %s could not be logged", segment.rows, segment.name)
        set_aside(_found(segment), f"Logging it raised {type(error).__name__}", now=now)
        return 0


def _write_all(endpoint: Endpoint, chosen: Sequence[Segment], now: datetime) -> int:
    batches: list[pa.RecordBatch] = []
    done: list[Segment] = []
    lost: list[Segment] = []
    first_day: dict[int, date] = {}  # segment -> the day of its first row
    for segment in chosen:
        try:
            rows = _batch(segment)
        except segments.Unreadable as why:
            set_aside(_found(segment), str(why), now=now)
            continue
        done.append(segment)
        if rows is None:
            lost.append(segment)
        else:
            batches.append(rows)
            first_day[segment.pk] = datetime.fromtimestamp(
                rows["at"][0].value / 1_000_000, UTC
            ).date()
    written = [_write(endpoint, day, table) for day, table in parquet.by_day(batches).items()]
    try:
        _commit(endpoint, written, lost, first_day, now)
    except AlreadyLogged:
        for file in written:
            file.path.unlink()
        raise
    for segment in done:
        remove(_found(segment))
    return sum(file.table.num_rows for file in written)


def _found(segment: Segment) -> Found:
    return Found(segment.revision_id, path_of(segment.name))


def _waiting() -> QuerySet[Segment]:
    return Segment.objects.filter(log_file=None, rows__gt=0)


def _chosen(endpoint: Endpoint) -> list[Segment]:
    chosen: list[Segment] = []
    rows = size = 0
    waiting = _waiting().filter(revision__endpoint=endpoint).order_by("pk")
    for segment in waiting.select_related("revision__version").iterator():
        chosen.append(segment)
        rows += segment.rows
        try:
            size += path_of(segment.name).lstat().st_size
        except OSError:
            continue  # _batch says that it is lost
        if rows >= ENOUGH_ROWS or size >= ENOUGH_BYTES:
            break
    return chosen


def _batch(segment: Segment) -> pa.RecordBatch | None:
    try:
        read = segments.read(path_of(segment.name), whole=True)
    except FileNotFoundError as why:
        log.error("Rows of segment %s are lost: %s", segment.name, why)  # noqa: TRY400  no bug
        return None
    if not read.rows:
        raise segments.Unreadable(
            f"It had {segment.rows} rows when it was counted and has none now"
        )
    if read.rows != segment.rows:
        log.error(
            "Segment %s had %d rows when it was counted and has %d now",
            segment.name, segment.rows, read.rows,
        )  # fmt: skip
    return parquet.batch(
        read, revision=segment.revision_id, version=segment.revision.version.number
    )


def _write(endpoint: Endpoint, day: date, table: pa.Table) -> Written:
    folder = f"endpoint={endpoint.environment.name}.{endpoint.name}/day={day.isoformat()}"
    return Written(parquet.write(table, places.log() / folder), day, table)


@transaction.atomic
def _commit(
    endpoint: Endpoint,
    written: Sequence[Written],
    lost: Sequence[Segment],
    first_day: dict[int, date],
    now: datetime,
) -> None:
    gone = [segment.pk for segment in lost]
    if gone:
        # What cannot be read now never will be; asking for ever would stop all that is behind it.
        Segment.objects.filter(pk__in=gone).update(torn=F("torn") + F("rows"), rows=0)
    files = {
        file.day: LogFile.objects.create(
            endpoint=endpoint,
            day=file.day,
            path=str(file.path.relative_to(places.log())),
            rows=file.table.num_rows,
            size_bytes=file.path.stat().st_size,
            first_at=file.table["at"][0].as_py(),
            last_at=file.table["at"][-1].as_py(),
            created_at=now,
        )
        for file in written
    }
    for day, file in files.items():
        mine = [pk for pk, first in first_day.items() if first == day]
        moved = Segment.objects.filter(pk__in=mine, log_file=None).update(log_file=file)
        if moved != len(mine):
            late = len(mine) - moved
            raise AlreadyLogged(f"{late} segments of {endpoint} are in the log already")
