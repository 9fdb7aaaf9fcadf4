"""Reads the rows that candidates are judged on."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apps.builds.predictions import Asked
from apps.core.errors import Refused
from apps.jobs.services import Failed
from apps.registry import sampling
from apps.registry.models import Dataset
from apps.registry.services import datasets

MOST_ROWS = 200_000
MOST_BYTES = 1024**3


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
    def asked(self) -> Asked:
        return Asked(self.table, self.key, self.dataset.name, self.label_column)


def read(dataset: Dataset, *, tick: Callable[[], None]) -> Holdout:
    """It reads the data set and leaves out the rows whose label is not known.

    In two goes, batch by batch: how many rows are labelled says which of them are drawn, and only
    those are held. It calls `tick` between batches.

    Raises: jobs.services.Failed when the file or its label column is not there, and when there is
    more of it than may be read.
    """
    what = f"The data set {dataset.name}"
    try:
        file = datasets.open_dataset(dataset)
        label = _label_of(dataset, file.schema_arrow.names)
        labelled = sum(
            pc.sum(_has_label(batch.column(label))).as_py() or 0
            for batch in sampling.batches(file, tick, [label])
        )
        table = _draw(dataset, file, sampling.places(labelled, MOST_ROWS), tick)
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


def _draw(
    dataset: Dataset, file: pq.ParquetFile, places: NDArray[np.int64], tick: Callable[[], None]
) -> pa.Table:
    label = dataset.label_column
    known = (
        batch.filter(_has_label(batch.column(label))) for batch in sampling.batches(file, tick)
    )
    try:
        return sampling.draw(known, places, schema=file.schema_arrow, most_bytes=MOST_BYTES)
    except sampling.TooMuch as too_much:
        raise Failed(
            f"The rows of the data set {dataset.name} that models are judged on hold more than "
            f"{MOST_BYTES / 1024**3:g} GiB; register one with fewer or narrower columns"
        ) from too_much


def _has_label(column: Any) -> Any:
    known = pc.is_valid(column)
    if pa.types.is_floating(column.type):  # pandas writes a missing number as NaN
        known = pc.and_(known, pc.invert(pc.is_nan(column)))
    return pc.fill_null(known, False)
