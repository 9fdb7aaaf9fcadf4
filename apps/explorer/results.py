"""Reads the files that searches and replays leave: page by page, and as CSV. Knows no database."""

import csv
import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings

from apps.core import duck
from apps.explorer.scan import quoted
from apps.monitoring.rows import INPUT, OUTPUT

SUFFIX = ".parquet"
CHUNK_BYTES = 1 << 20
BATCH_ROWS = 1_000
MEMORY_MB = 512  # of the database that reads a page
# Spreadsheets run a text that begins like this as a formula. Tabs and line ends are cut off first.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# In every result: what was sent and answered; long, so that a table leaves them out.
BODIES = ("request", "response", "error", "format")
# What Arrow raises where a file is missing, cut off or broken: its footer or, later, its pages.
UNREADABLE = (OSError, pa.ArrowException)
_READ = "read_parquet(?, hive_partitioning = false, file_row_number = true)"


class ResultGone(Exception):
    """The time of the file was over, or the disk lost what is in it."""


@dataclass(frozen=True)
class Page:
    columns: list[str]
    rows: list[dict[str, Any]]
    total: int


def folder() -> Path:
    return settings.STACK.var / "searches"


def keep(written: Path, path: Path) -> str:
    """It gives a file its name when all of it is on the disk: a crash would leave an empty one.

    What it returns is the digest by which the file is known again.
    """
    with written.open("rb") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    written.rename(path)
    return digest


def check(path: Path, digest: str) -> None:
    """It reads a file to its end, about a second a gigabyte. Raises: ResultGone for another one.

    Parquet as DuckDB writes it has no checksums: a broken page may be read as other values.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as gone:
        raise ResultGone from gone
    if found != digest:
        raise ResultGone


def columns(path: Path) -> list[str]:
    """It lists the columns of a result. Raises: ResultGone."""
    try:
        return list(pq.read_schema(path).names)
    except UNREADABLE as gone:
        raise ResultGone from gone


def features(names: Sequence[str]) -> list[str]:
    return [name for name in names if name.startswith((INPUT, OUTPUT))]


def page(
    path: Path,
    *,
    start: int,
    count: int,
    sort: str = "",
    bodies: bool = False,
    first: Sequence[str] = (),
) -> Page:
    """It gives some rows of a result, sorted by a column ("-" before it: downwards).

    Unsorted, or sorted by what is no column, the rows come as the file has them. `first`: the
    values of a column `outcome` in the order in which they come. Raises: ResultGone.
    """
    names = columns(path)
    shown = names if bodies else [name for name in names if name not in BODIES]
    order = _order(names, sort, first)
    listed = ", ".join(_selected(name) for name in shown)
    try:
        with duck.opened([path], threads=1, memory_mb=MEMORY_MB) as db:
            places = db.execute(
                f"select file_row_number from {_READ} order by {order}file_row_number"
                " limit ? offset ?",
                [str(path), count, start],
            ).fetchall()
            # Apart, since sorting whole rows takes the memory of all that stand before them.
            found = db.execute(
                f"select file_row_number, {listed} from {_READ}"
                " where file_row_number in (select unnest(?::bigint[]))",
                [str(path), [place for (place,) in places]],
            ).fetchall()
    except duckdb.Error as gone:  # a page that is broken raises the plain one
        raise ResultGone from gone
    by_place = {place: values for place, *values in found}
    rows = [_row(dict(zip(shown, by_place[place], strict=True))) for (place,) in places]
    return Page(names, rows, pq.read_metadata(path).num_rows)


def _order(names: Sequence[str], sort: str, first: Sequence[str]) -> str:
    if first and "outcome" in names and not sort:
        places = " ".join(f"when '{value}' then {place}" for place, value in enumerate(first))
        return f'case "outcome" {places} end, '
    column = sort.removeprefix("-")
    if column not in names:
        return ""
    way = "desc" if sort.startswith("-") else "asc"
    return f"{quoted(column)} {way} nulls last, "


def _selected(name: str) -> str:
    # As a number, since DuckDB hands out times with a zone only through another package.
    return 'epoch_us("at") as "at"' if name == "at" else quoted(name)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row.get("at"), int):
        row["at"] = _EPOCH + timedelta(microseconds=row["at"])
    return row


def read_json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def as_parquet(path: Path, digest: str) -> Iterator[bytes]:
    """It gives the file piece by piece. Raises: ResultGone, at the first piece."""
    check(path, digest)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as gone:
        raise ResultGone from gone


def as_csv(path: Path, digest: str) -> Iterator[bytes]:
    """It writes the file as CSV, a batch of rows at a time. Raises: ResultGone, as above.

    What breaks after the check ends the answer in its middle, as a broken connection does.
    """
    check(path, digest)
    try:
        file = pq.ParquetFile(path)
    except UNREADABLE as gone:
        raise ResultGone from gone
    with file:
        batches = file.iter_batches(batch_size=BATCH_ROWS)
        try:
            first = list(itertools.islice(batches, 1))
        except UNREADABLE as gone:
            raise ResultGone from gone
        yield _lines([file.schema_arrow.names])
        for batch in itertools.chain(first, batches):
            yield _lines(zip(*(_cells(column) for column in batch.columns), strict=True))


def _lines(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue().encode()


def _cells(column: pa.Array) -> list[Any]:
    return list(column.to_pylist())


def _cell(value: Any) -> Any:
    """It writes one value; only texts can be taken for formulas, a number below zero is one."""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    return _cell("; ".join(map(str, value))) if isinstance(value, list) else value
