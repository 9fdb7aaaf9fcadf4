"""Reads the rows of a data set that a baseline is frozen from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from apps.builds import predictions
from apps.builds.models import Build
from apps.builds.predictions import Asked
from apps.core.errors import Refused
from apps.jobs.services import Failed
from apps.registry import sampling
from apps.registry.models import Dataset
from apps.registry.services import datasets

MOST_ROWS = 200_000
MOST_CELLS = 10_000_000  # each becomes a value of Python's when the model is asked
MOST_BYTES = 1024**3


@dataclass(frozen=True)
class Reference:
    """Evenly spread rows of a data set, in the order of the time that they speak of, if told."""

    dataset: Dataset
    table: pa.Table
    features: list[str]  # what the model is given, in its order
    missing: list[str]  # what it takes and the data set has not
    is_timed: bool  # whether the rows are known to be in the order of time

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def inputs(self) -> pa.Table:
        return self.table.select(self.features)

    @property
    def labels(self) -> pa.ChunkedArray | None:
        label = self.dataset.label_column
        return self.table.column(label) if label in self.table.column_names else None

    @property
    def asked(self) -> Asked:
        """What the model is asked; the key names exactly these rows."""
        data = self.dataset
        words = f"baseline {data.fingerprint} {data.time_column} {self.rows} {self.features}"
        key = hashlib.sha256(words.encode()).hexdigest()
        return Asked(self.inputs, key, data.name, data.label_column)

    @property
    def span(self) -> tuple[datetime | None, datetime | None]:
        return self.dataset.time_from, self.dataset.time_to


def read(dataset: Dataset, build: Build, *, tick: Callable[[], None]) -> Reference:
    """It reads the model's columns, the label and the time of at most 200,000 rows.

    Raises: jobs.services.Failed when the file is gone or unreadable, holds too much, or none of
    the columns that the model takes.
    """
    what = f"The data set {dataset.name}"
    try:
        file = datasets.open_dataset(dataset)
        names = list(file.schema_arrow.names)
        special = [name for name in (dataset.label_column, dataset.time_column) if name in names]
        features = _features(build, names, dataset)
        wanted = list(dict.fromkeys([*features, *special]))
        most = max(min(MOST_ROWS, MOST_CELLS // max(len(wanted), 1)), 1)
        table = sampling.draw(
            sampling.batches(file, tick, wanted),
            sampling.places(file.metadata.num_rows, most),
            schema=pa.schema([file.schema_arrow.field(name) for name in wanted]),
            most_bytes=MOST_BYTES,
        )
    except FileNotFoundError as gone:
        raise Failed(f"{what} has lost its file; register it again") from gone
    except sampling.TooMuch as too_much:
        raise Failed(
            f"The rows of {what[0].lower()}{what[1:]} hold more than {MOST_BYTES / 1024**3:g} GiB "
            "in the model's columns; register one with fewer rows or shorter texts"
        ) from too_much
    except Refused as refused:
        raise Failed(f"{what} cannot be read. {refused.message}") from refused
    except (pa.ArrowException, OSError) as broken:
        raise Failed(f"{what} is not readable: {broken}") from broken
    ordered = _by_time(table, dataset.time_column)
    return Reference(
        dataset,
        table if ordered is None else ordered,
        features,
        _missing(build, names),
        ordered is not None,
    )


def _features(build: Build, names: Sequence[str], dataset: Dataset) -> list[str]:
    declared = [str(name) for name in _declared(build)]
    found = predictions.features(build, list(names), label_column=dataset.label_column)
    if not declared:
        found = [name for name in found if name != dataset.time_column]
    found = [name for name in found if name != dataset.label_column]
    if not found:
        has = ", ".join(names)
        raise Failed(
            f"The data set {dataset.name} has none of the columns that {build.version} takes "
            f"({', '.join(declared) or 'any but the label'}); it has {has}. Register one whose "
            "columns are named like the model's inputs"
        )
    return found


def _missing(build: Build, names: Sequence[str]) -> list[str]:
    return [str(name) for name in _declared(build) if name not in names]


def _declared(build: Build) -> list[Any]:
    return [spec["name"] for spec in build.signature.get("inputs") or [] if spec.get("name")]


def _by_time(table: pa.Table, column: str) -> pa.Table | None:
    """Rows without a time come last. None: there is no such column, or it has no order."""
    if column not in table.column_names:
        return None
    try:
        if len(pc.unique(table.column(column).drop_null())) < 2:
            return None
        # Its own order breaks ties, so that the same file gives the same blocks.
        keyed = pa.table({"time": table.column(column), "place": pa.array(range(table.num_rows))})
        places = pc.sort_indices(keyed, sort_keys=[("time", "ascending"), ("place", "ascending")])
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, TypeError):
        return None
    return table.take(places)
