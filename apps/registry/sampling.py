"""Draws evenly spread rows of a large table, batch by batch: only those drawn are held."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

BATCH_ROWS = 1024  # few, since one long text that all rows share is unpacked once a row
MOST_PIECES = 1000  # of a few rows each; then they become one, or their frames outweigh them


class TooMuch(Exception):
    """The drawn rows hold more bytes than may be held."""


def batches(
    file: pq.ParquetFile, tick: Callable[[], None], columns: Sequence[str] = ()
) -> Iterator[pa.RecordBatch]:
    """It reads these columns, or all, and calls `tick` before each batch."""
    for batch in file.iter_batches(BATCH_ROWS, columns=list(columns) or None):
        tick()
        # "a" also names what stands below it, such as the column "a.b".
        yield batch.select(list(columns)) if columns else batch


def places(count: int, most: int) -> NDArray[np.int64]:
    """Which of `count` rows are drawn: all, or `most` evenly spread ones."""
    step = max(count / most, 1.0)
    return (np.arange(min(count, most)) * step).astype(np.int64)


def draw(
    read: Iterable[pa.RecordBatch],
    wanted: NDArray[np.int64],
    *,
    schema: pa.Schema,
    most_bytes: int,
) -> pa.Table:
    """It keeps the rows at these places of all that is read. Raises: TooMuch."""
    drawn: list[pa.RecordBatch] = []
    fresh: list[pa.RecordBatch] = []
    passed = held_bytes = 0
    for batch in read:
        first, last = np.searchsorted(wanted, [passed, passed + batch.num_rows])
        fresh.append(batch.take(pa.array(wanted[first:last] - passed)))
        passed += batch.num_rows
        held_bytes += _unpacked_bytes(fresh[-1])
        if held_bytes > most_bytes:
            raise TooMuch
        if len(fresh) == MOST_PIECES:
            drawn, fresh = [*drawn, pa.concat_batches(fresh)], []
    return pa.Table.from_batches([*drawn, *fresh], schema=schema)


def _unpacked_bytes(batch: pa.RecordBatch) -> int:
    """As its values will be written out for the model, not as a dictionary shares them."""
    return sum(
        (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).nbytes
        for column in batch.columns
    )
