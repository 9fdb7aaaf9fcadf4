"""Reads the rows that candidates are judged on."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apps.jobs.services import Failed
from apps.registry.models import Dataset

MOST_ROWS = 200_000


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


def read(dataset: Dataset) -> Holdout:
    """It reads the data set and leaves out the rows whose label is not known.

    Raises: jobs.services.Failed when the file or its label column is not there.
    """
    what = f"The data set {dataset.name}"
    try:
        table = pq.read_table(Path(dataset.path))
    except FileNotFoundError as gone:
        raise Failed(f"{what} has lost its file") from gone
    except (pa.ArrowInvalid, OSError) as broken:
        raise Failed(f"{what} is not readable: {broken}") from broken
    names = ", ".join(table.column_names)
    label = dataset.label_column
    if not label:
        raise Failed(f"{what} was registered without a label column; its columns are {names}")
    if label not in table.column_names:
        raise Failed(f"{what} has no column {label!r}, its label; its columns are {names}")
    known = table.filter(_has_label(table.column(label)))
    missing = table.num_rows - known.num_rows
    if known.num_rows > MOST_ROWS:
        step = known.num_rows / MOST_ROWS
        known = known.take(pa.array([int(i * step) for i in range(MOST_ROWS)]))
    return Holdout(dataset, known, table.num_rows, missing)


def _has_label(column: Any) -> Any:
    known = pc.is_valid(column)
    if pa.types.is_floating(column.type):  # pandas writes a missing number as NaN
        known = pc.and_(known, pc.invert(pc.is_nan(column)))
    return pc.fill_null(known, False)
