"""Brings reference rows and a model's answers into the columns of monitoring's files of rows. Pure.

The same types as there: numbers are float64, the rest text or bool, what is missing is null.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apps.baselines.meaning import INPUT, OUTPUT

MOST_OUTPUTS = 1_000  # columns of one answer; what is beyond them is not compared
NUMBERS = frozenset({"integer", "long", "float", "double"})
TEXTS = frozenset({"string", "binary", "datetime"})


def inputs(
    table: pa.Table, signature: Mapping[str, Any]
) -> tuple[dict[str, pa.ChunkedArray], list[str]]:
    """It gives the input columns under their names, and what is left out, in words.

    `table` holds the columns that the model is given, in its order. Inputs without names are known
    by their place.
    """
    declared = list(signature.get("inputs") or [])
    kinds = {str(spec["name"]): _kind(spec) for spec in declared if spec.get("name") is not None}
    by_place = bool(declared) and not kinds
    found: dict[str, pa.ChunkedArray] = {}
    odd: list[str] = []
    for place, name in enumerate(table.column_names):
        column = _unpacked(table.column(name))
        kind = _kind(declared[0]) if by_place else kinds.get(name, "")
        read = _READ.get(kind, _as_it_is)(column)
        if read is None:
            odd.append(f"{name} ({column.type})")
        else:
            found[f"{INPUT}{place if by_place else name}"] = read
    return found, odd


def outputs(predictions: Sequence[Any], signature: Mapping[str, Any]) -> dict[str, pa.Array]:
    """It gives one column for each place of the answers: `out.0`, `out.1`, …"""
    wanted = [str(spec.get("name")) for spec in signature.get("outputs") or []]
    rows = [_parts(prediction, wanted) for prediction in predictions]
    width = min(max(map(len, rows), default=0), MOST_OUTPUTS)
    columns = [[row[place] if place < len(row) else None for row in rows] for place in range(width)]
    return {f"{OUTPUT}{place}": _typed(column) for place, column in enumerate(columns)}


def _kind(spec: Mapping[str, Any]) -> str:
    """ "number", "truth", "text"; "" where the values themselves tell."""
    name = str(spec.get("type", ""))
    if name in NUMBERS:
        return "number"
    if name in TEXTS:
        return "text"
    if name == "boolean":
        return "truth"
    if name != "tensor":
        return ""
    try:
        letter = np.dtype((spec.get("tensor-spec") or {}).get("dtype", "object")).kind
    except TypeError:
        return ""
    return {"b": "truth", "i": "number", "u": "number", "f": "number"}.get(letter, "")


def _unpacked(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def number(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """As float64, not-a-number as missing; None where it is something else."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
    elif not (_is_number(kind) or pa.types.is_null(kind) or _is_text(kind)):
        return None
    try:
        found = column.cast(pa.float64(), safe=_is_text(kind))
    except pa.ArrowInvalid:
        return None
    return pc.if_else(pc.is_nan(found), pa.scalar(None, pa.float64()), found)


def _truth(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    try:
        return column.cast(pa.bool_())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    if pa.types.is_temporal(column.type):
        return _moments(column)
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "true", "false")
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _moments(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """As JSON holds moments; one of midnight is a day there too."""
    try:
        texts = column.cast(pa.timestamp("us"), safe=False).cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return pc.replace_substring(texts, " ", "T")


def _as_it_is(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    if pa.types.is_boolean(column.type):
        return column
    if _is_number(column.type) or pa.types.is_null(column.type):
        return number(column)
    return _text(column)


_READ: dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray | None]] = {
    "number": number,
    "truth": _truth,
    "text": _text,
}


def _parts(prediction: Any, wanted: list[str]) -> list[Any]:
    if isinstance(prediction, dict):
        order = wanted if set(wanted) == set(prediction) else list(prediction)
        return [prediction[name] for name in order]
    return prediction if isinstance(prediction, list) else [prediction]


def _typed(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {bool, int, float}:
        return pa.array(
            [None if value is None else _float(value) for value in values], pa.float64()
        )
    return pa.array([None if value is None else _words(value) for value in values], pa.string())


def _float(value: bool | int | float) -> float | None:
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
