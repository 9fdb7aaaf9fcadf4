"""The columns of the prediction log, and how a file of it comes to be. Knows no database."""

import os
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apps.monitoring.segments import Segment

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),
        pa.field("version", pa.int32(), nullable=False),
        pa.field("status", pa.int16(), nullable=False),
        pa.field("latency_us", pa.int64(), nullable=False),
        pa.field("format", pa.string()),
        pa.field("caller", pa.string()),
        pa.field("shadow", pa.bool_(), nullable=False),
        pa.field("request", pa.string()),  # JSON
        pa.field("response", pa.string()),  # JSON
        pa.field("error", pa.string()),
        # How likely it was that the row would be kept; failures always are, so theirs is 1. Sums
        # over all requests weigh each row by 1 / share.
        pa.field("share", pa.float64(), nullable=False),
    ]
)
SUFFIX = ".parquet"
LOOKED_AT = 1_000
UNFINISHED = ".tmp"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000


def batch(segment: Segment, *, revision: int, version: int) -> pa.RecordBatch:
    """It turns the captured records of one revision, read whole, into columns."""
    texts: Any = zip(*segment.texts, strict=True) if segment.texts else [[]] * 5
    formats, callers, requests, responses, errors = texts
    values: list[Any] = [
        segment.id,
        segment.at_us,
        pa.repeat(revision, segment.rows),
        pa.repeat(version, segment.rows),
        segment.status,
        segment.latency_us,
        formats,
        callers,
        segment.shadow,
        requests,
        responses,
        errors,
        segment.share,
    ]
    arrays = [
        column.cast(field.type) if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(values, SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def by_day(table: pa.Table) -> dict[date, pa.Table]:
    """It splits rows by their day in UTC, in the order of their time; of one time as they were."""
    at = pc.cast(table["at"], pa.int64()).to_numpy()
    if (at[1:] < at[:-1]).any():  # to sort what is in order copies all of it
        table = table.take(pa.array(np.argsort(at, kind="stable")))
        at = np.sort(at)
    days, first = np.unique(at // DAY_US, return_index=True)
    ends = [*first[1:], at.size]
    return {
        (EPOCH + timedelta(days=int(day))).date(): table.slice(start, end - start)
        for day, start, end in zip(days, first, ends, strict=True)
    }


def write(table: pa.Table, folder: Path) -> Path:
    """It writes a file that is whole and on the disk when it has its name."""
    _make(folder)
    path = folder / f"{uuid.uuid4()}{SUFFIX}"
    unfinished = path.with_suffix(UNFINISHED)
    with unfinished.open("wb") as file:
        pq.write_table(table, file, compression="zstd", use_dictionary=_repeated(table))
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    _sync(folder)
    return path


def _repeated(table: pa.Table) -> list[str]:
    """It names the columns that a dictionary makes smaller, as their beginning shows.

    To look for repetitions among numbers that are all different takes longer than all the rest.
    """
    found = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        some = column.slice(0, LOOKED_AT)
        if pa.types.is_nested(column.type):
            found.append(f"{name}.list.element")  # names of columns
        elif 2 * pc.count_distinct(some, mode="all").as_py() <= len(some):
            found.append(name)
    return found


def _make(folder: Path) -> None:
    missing = [folder, *folder.parents]
    missing = missing[: next(i for i, place in enumerate(missing) if place.exists())]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:  # a directory whose name is not on the disk takes its files with it
        _sync(made.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
