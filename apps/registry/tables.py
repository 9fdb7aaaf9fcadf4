"""What a Parquet file says of itself, read in memory that does not grow with the file.

A few kilobytes of Parquet can stand for gigabytes of rows, and the web process is everybody's: so
what the footer declares is judged first, and what is read then is read in batches.
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apps.core.errors import Refused

MOST_ROWS = 100_000_000
MOST_UNPACKED_BYTES = 16 * 1024**3
READ_AHEAD_BYTES = 1 << 20  # else a whole column of a row group is held, packed
TIMES_AT_ONCE = 65_536
OFFSET_BYTES = 8  # of a value that has no fixed width, beside its content


class DatasetRefused(Refused):
    code = "dataset_invalid"


def open_table(path: Path) -> pq.ParquetFile:
    """It opens a file whose rows may all be gone through; nothing of them is read yet.

    Raises: FileNotFoundError; DatasetRefused with the code dataset_too_many_rows or
    dataset_unpacks_too_large for too much of them, dataset_invalid for what is not Parquet.
    """
    try:
        table = pq.ParquetFile(path, buffer_size=READ_AHEAD_BYTES)
        names = table.schema_arrow.names
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as broken:
        raise DatasetRefused(f"The file is not readable as Parquet: {broken}") from broken
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DatasetRefused(f"The file has more than one column {', '.join(twice)}")
    _refuse_too_much(table)
    return table


def facts(path: Path, label_column: str, time_column: str) -> dict[str, Any]:
    """It gives the number of rows, the columns, and the time that the rows speak of.

    Raises: DatasetRefused as `open_table` does, for columns that are not there, for no rows.
    """
    table = open_table(path)
    names = table.schema_arrow.names
    if table.metadata.num_rows == 0:
        raise DatasetRefused("The file holds no rows")
    for what, column in (("label", label_column), ("time", time_column)):
        if column and column not in names:
            raise DatasetRefused(
                f"There is no {what} column {column!r}; the columns are {', '.join(names)}"
            )
    return {
        "rows": table.metadata.num_rows,
        "columns": [{"name": f.name, "type": str(f.type)} for f in table.schema_arrow],
        **(_time_span(table, time_column) if time_column else {}),
    }


def _refuse_too_much(table: pq.ParquetFile) -> None:
    rows, unpacked = _declared(table)
    if rows > MOST_ROWS:
        raise DatasetRefused(
            f"The file holds {rows:,} rows, more than {MOST_ROWS:,}; register a sample of it",
            "dataset_too_many_rows",
        )
    if unpacked > MOST_UNPACKED_BYTES:
        raise DatasetRefused(
            f"The file unpacks to {unpacked / 1024**3:.1f} GiB, more than "
            f"{MOST_UNPACKED_BYTES / 1024**3:g}; register a sample of it",
            "dataset_unpacks_too_large",
        )


def _declared(table: pq.ParquetFile) -> tuple[int, int]:
    """The rows and the unpacked bytes, by whichever of the footer's words says more.

    `total_byte_size` counts a value once that is repeated a million times, so the width of the
    columns counts too.
    """
    parts = [table.metadata.row_group(at) for at in range(table.metadata.num_row_groups)]
    rows = max(table.metadata.num_rows, sum(part.num_rows for part in parts))
    width = sum(_width(field.type) for field in table.schema_arrow)
    return rows, max(rows * width, sum(part.total_byte_size for part in parts))


def _width(kind: pa.DataType) -> float:
    try:
        return float(kind.bit_width / 8)
    except ValueError:
        return OFFSET_BYTES


def _time_span(table: pq.ParquetFile, column: str) -> dict[str, datetime]:
    """The first and last moment that the rows speak of; nothing where they name none."""
    if not pa.types.is_temporal(table.schema_arrow.field(column).type):
        return {}
    try:
        spans = list(_spans(table, column))
    except pa.ArrowNotImplementedError:
        return {}  # a time of day, or a duration
    except (ValueError, OverflowError, OSError) as broken:  # ArrowInvalid is a ValueError
        raise DatasetRefused(f"The times in {column!r} are not readable: {broken}") from broken
    if not spans:
        return {}
    return {"time_from": min(low for low, _ in spans), "time_to": max(high for _, high in spans)}


def _spans(table: pq.ParquetFile, column: str) -> Iterator[tuple[datetime, datetime]]:
    for batch in table.iter_batches(TIMES_AT_ONCE, columns=[column]):
        values = batch.column(column).drop_null()
        exact = getattr(values.type, "unit", "") != "ns"  # what is finer than we keep is cut
        span = pc.min_max(values.cast(pa.timestamp("us", tz="UTC"), safe=exact)).as_py()
        if span["min"] is not None:
            yield span["min"], span["max"]
