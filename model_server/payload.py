"""It holds what a request carries, in the two forms that all the protocols come down to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from model_server.errors import BadRequest, brief


@dataclass(frozen=True)
class Named:
    """It is values by column name, each column as long as the request has rows.

    A column is a list, or an array if it came in binary.
    """

    columns: dict[str, Any]
    rows: int


@dataclass(frozen=True)
class Positional:
    """It is rows without names, to be read in the order of the signature: a list or an array."""

    values: Any

    @property
    def rows(self) -> int:
        """It is how many there are."""
        return len(self.values)


Payload = Named | Positional


def from_split(split: Any) -> Named:
    """It reads {"columns": [...], "data": [[...]]}."""
    if not isinstance(split, dict):
        raise BadRequest("dataframe_split must be an object with 'columns' and 'data'")
    names, data = split.get("columns"), split.get("data")
    if not isinstance(names, list) or not isinstance(data, list):
        raise BadRequest("dataframe_split must have a list of 'columns' and a list of 'data'")
    keys = [str(name) for name in names]
    if len(set(keys)) != len(keys):
        # Counting each key in the list would take hours for many, and nobody would be answered.
        twice = Counter(keys).most_common(1)[0][0]
        raise BadRequest(f"column {twice!r} is named more than once")
    width = len(keys)
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != width:
            raise BadRequest(f"row {number} must be a list of {width} values, got {brief(row)}")
    columns = (
        dict(zip(keys, map(list, zip(*data, strict=True)), strict=True))
        if data
        else {key: [] for key in keys}
    )
    return Named(columns, len(data))


def from_records(records: Any, *, what: str) -> Named:
    """It reads [{"column": value, ...}, ...]; a key that some rows lack is null there."""
    if not isinstance(records, list):
        raise BadRequest(f"{what} must be a list of objects")
    names: dict[str, None] = {}
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise BadRequest(f"{what} row {number} must be an object, got {brief(record)}")
        names.update(dict.fromkeys(record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return Named(columns, len(records))


def from_rows(rows: Any, *, what: str) -> Payload:
    """It reads a list of rows, each an object, a list or, for one column, a plain value."""
    if not isinstance(rows, list):
        raise BadRequest(f"{what} must be a list")
    if rows and isinstance(rows[0], dict):
        return from_records(rows, what=what)
    return Positional(rows)


def from_inputs(inputs: Any) -> Payload:
    """It reads the MLflow 'inputs' form: rows, or an object of columns."""
    if not isinstance(inputs, dict):
        return from_rows(inputs, what="inputs")
    columns = {
        str(name): values if isinstance(values, list) else [values]
        for name, values in inputs.items()
    }
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise BadRequest("inputs must hold lists of one length")
    return Named(columns, lengths.pop() if lengths else 0)
