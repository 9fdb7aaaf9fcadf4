"""Moves counted segments into the prediction log, each row once, whatever crashes.

The order makes it safe: the Parquet files, of requests and of rows, are on the disk, then one
transaction makes them exist and says which segments are in them, then the segments' files go. Cut
off before the transaction, the files are orphans that `leftovers` removes; cut off after it, the
next look removes the segments.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.db import transaction
from django.db.models import F, Min, QuerySet, Sum

from apps.monitoring import extract, parquet, places, segments
from apps.monitoring.contents import Contents
from apps.monitoring.models import LogFile, RowFile, Segment
from apps.monitoring.services.reading import Reader
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
    revision: int = 0  # of a file of rows


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


def has_enough(endpoint: Endpoint) -> bool:
    """It tells whether the next file of an endpoint's log need not wait."""
    waiting = _waiting().filter(revision__endpoint=endpoint).aggregate(rows=Sum("rows"))
    return (waiting["rows"] or 0) >= ENOUGH_ROWS


def write(*, endpoint: Endpoint, now: datetime, reader: Reader | None = None) -> int:
    """It writes the rows that have waited longest, a file a day, and gives how many there were.

    Segments that cannot be read or written are set aside, each alone.
    Raises: AlreadyLogged; the database is then as before.
    """
    chosen = _chosen(endpoint)
    reader = reader or Reader()
    try:
        return _write_all(endpoint, chosen, reader, now)
    except AlreadyLogged:
        raise
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("%d segments of %s could not be logged together", len(chosen), endpoint)
    return sum(_write_alone(endpoint, segment, reader, now) for segment in chosen)


def _write_alone(endpoint: Endpoint, segment: Segment, reader: Reader, now: datetime) -> int:
    try:
        return _write_all(endpoint, [segment], reader, now)
    except AlreadyLogged:
        raise
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("%d rows of segment %s could not be logged", segment.rows, segment.name)
        set_aside(_found(segment), f"Logging it raised {type(error).__name__}", now=now)
        return 0


def _write_all(endpoint: Endpoint, chosen: Sequence[Segment], reader: Reader, now: datetime) -> int:
    read: dict[int, Contents] = {}  # by segment
    lost: list[Segment] = []
    for segment in chosen:
        try:
            found = _contents(segment, reader)
        except segments.Unreadable as why:
            set_aside(_found(segment), str(why), now=now)
            continue
        if found is None:
            lost.append(segment)
        else:
            read[segment.pk] = found
    written, rows = _write_files(endpoint, read, chosen)
    try:
        _commit(endpoint, written, rows, lost, _first_days(read), now)
    except AlreadyLogged:
        for file in written + rows:
            file.path.unlink()
        raise
    for segment in chosen:
        if segment.pk in read or segment in lost:
            remove(_found(segment))
    return sum(file.table.num_rows for file in written)


def _first_days(read: dict[int, Contents]) -> dict[int, date]:
    """It gives the day of each segment's first row: the segment is said to be in its file."""
    return {
        pk: datetime.fromtimestamp(found.log["at"][0].value / 1_000_000, UTC).date()
        for pk, found in read.items()
    }


def _write_files(
    endpoint: Endpoint, read: dict[int, Contents], chosen: Sequence[Segment]
) -> tuple[list[Written], list[Written]]:
    """It writes the log and the rows, a file a day; of rows each revision has its own."""
    if not read:
        return [], []
    log_table = pa.concat_tables([found.log for found in read.values()])
    written = [
        Written(parquet.write(table, places.log() / _folder(endpoint, day)), day, table)
        for day, table in parquet.by_day(log_table).items()
    ]
    rows: list[Written] = []
    for revision in sorted({segment.revision_id for segment in chosen if segment.pk in read}):
        table = extract.joined(
            read[segment.pk].predictions
            for segment in chosen
            if segment.pk in read and segment.revision_id == revision
        )
        for day, part in parquet.by_day(table).items():
            path = parquet.write(part, places.rows() / _folder(endpoint, day))
            rows.append(Written(path, day, part, revision))
    return written, rows


def _folder(endpoint: Endpoint, day: date) -> str:
    return f"endpoint={endpoint.environment.name}.{endpoint.name}/day={day.isoformat()}"


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


def _contents(segment: Segment, reader: Reader) -> Contents | None:
    try:
        read = reader.take(_found(segment))
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
    return read


@transaction.atomic
def _commit(
    endpoint: Endpoint,
    written: Sequence[Written],
    rows: Sequence[Written],
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
            created_at=now,
            **_described(file),
        )
        for file in written
    }
    RowFile.objects.bulk_create(
        RowFile(
            log_file=files[file.day],
            revision_id=file.revision,
            path=str(file.path.relative_to(places.rows())),
            **_described(file),
        )
        for file in rows
    )
    for day, file in files.items():
        mine = [pk for pk, first in first_day.items() if first == day]
        moved = Segment.objects.filter(pk__in=mine, log_file=None).update(log_file=file)
        if moved != len(mine):
            late = len(mine) - moved
            raise AlreadyLogged(f"{late} segments of {endpoint} are in the log already")


def _described(file: Written) -> dict[str, Any]:
    return {
        "rows": file.table.num_rows,
        "size_bytes": file.path.stat().st_size,
        "first_at": file.table["at"][0].as_py(),
        "last_at": file.table["at"][-1].as_py(),
    }
