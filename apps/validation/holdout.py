"""Reads the rows that candidates are judged on."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apps.core.errors import Refused
from apps.jobs.services import Failed
from apps.registry import services as registry
from apps.registry.models import Dataset

MOST_ROWS = 200_000
MOST_BYTES = 1024**3
BATCH_ROWS = 1024  # few, since one long text that all rows share is unpacked once a row
MOST_PIECES = 1000  # of a few rows each; then they become one, or their frames outweigh them


@dataclass(frozen=True)
class Holdout:
    """The labelled rows of a data set: all of them, or evenly drawn ones of a very large one."""

    dataset: Dataset
    table: pa.Table
    rows_read: int
    rows_without_label: int

    @property
    def label_column(self) -> str:
        return self.dataset.label_column

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def labels(self) -> list[Any]:
        found: list[Any] = self.table.column(self.label_column).to_pylist()
        return found

    @property
    def key(self) -> str:
        """It names exactly these rows: the file, which column's gaps were dropped, how many."""
        words = f"{self.dataset.fingerprint} {self.label_column} {self.rows}"
        return hashlib.sha256(words.encode()).hexdigest()

    @property
    def features(self) -> list[str]:
        special = (self.label_column,)
        return [name for name in self.table.column_names if name not in special]

    def split(self, columns: list[str]) -> dict[str, Any]:
        """It gives the rows in the dataframe_split form, these columns only."""
        values = [self.table.column(name).to_pylist() for name in columns]
        return {"columns": columns, "data": list(zip(*values, strict=True))}


def read(dataset: Dataset, *, tick: Callable[[], None]) -> Holdout:
    """It reads the data set and leaves out the rows whose label is not known.

    In two goes, batch by batch: how many rows are labelled says which of them are drawn, and only
    those are held. It calls `tick` between batches.

    Raises: jobs.services.Failed when the file or its label column is not there, and when there is
    more of it than may be read.
    """
    what = f"The data set {dataset.name}"
    try:
        file = registry.open_dataset(dataset)
        label = _label_of(dataset, file.schema_arrow.names)
        labelled = sum(
            pc.sum(_has_label(batch.column(label))).as_py() or 0
            for batch in _batches(file, tick, label)
        )
        table = _draw(dataset, file, _places(labelled), tick)
    except FileNotFoundError as gone:
        raise Failed(f"{what} has lost its file") from gone
    except Refused as refused:
        raise Failed(f"{what} cannot be judged on. {refused.message}") from refused
    except (pa.ArrowException, OSError) as broken:
        raise Failed(f"{what} is not readable: {broken}") from broken
    rows = file.metadata.num_rows
    return Holdout(dataset, table, rows, rows - labelled)


def _label_of(dataset: Dataset, columns: list[str]) -> str:
    what, names = f"The data set {dataset.name}", ", ".join(columns)
    if not dataset.label_column:
        raise Failed(f"{what} was registered without a label column; its columns are {names}")
    if dataset.label_column not in columns:
        raise Failed(
            f"{what} has no column {dataset.label_column!r}, its label; its columns are {names}"
        )
    return dataset.label_column


def _places(labelled: int) -> NDArray[np.int64]:
    """Which of the labelled rows are drawn: all, or evenly spread ones."""
    step = max(labelled / MOST_ROWS, 1.0)
    return (np.arange(min(labelled, MOST_ROWS)) * step).astype(np.int64)


def _draw(
    dataset: Dataset, file: pq.ParquetFile, places: NDArray[np.int64], tick: Callable[[], None]
) -> pa.Table:
    drawn: list[pa.RecordBatch] = []
    fresh: list[pa.RecordBatch] = []
    passed = held_bytes = 0
    for batch in _batches(file, tick):
        known = batch.filter(_has_label(batch.column(dataset.label_column)))
        first, last = np.searchsorted(places, [passed, passed + known.num_rows])
        fresh.append(known.take(pa.array(places[first:last] - passed)))
        passed += known.num_rows
        held_bytes += _unpacked_bytes(fresh[-1])
        if held_bytes > MOST_BYTES:
            raise Failed(
                f"The rows of the data set {dataset.name} that models are judged on hold more than "
                f"{MOST_BYTES / 1024**3:g} GiB; register one with fewer or narrower columns"
            )
        if len(fresh) == MOST_PIECES:
            drawn, fresh = [*drawn, pa.concat_batches(fresh)], []
    return pa.Table.from_batches([*drawn, *fresh], schema=file.schema_arrow)


def _unpacked_bytes(batch: pa.RecordBatch) -> int:
    """As its values will be written out for the model, not as a dictionary shares them."""
    return sum(
        (column.dictionary_decode() if pa.types.is_dictionary(column.type) else column).nbytes
        for column in batch.columns
    )


def _batches(
    file: pq.ParquetFile, tick: Callable[[], None], *columns: str
) -> Iterator[pa.RecordBatch]:
    for batch in file.iter_batches(BATCH_ROWS, columns=list(columns) or None):
        tick()
        yield batch


def _has_label(column: Any) -> Any:
    known = pc.is_valid(column)
    if pa.types.is_floating(column.type):  # pandas writes a missing number as NaN
        known = pc.and_(known, pc.invert(pc.is_nan(column)))
    return pc.fill_null(known, False)
