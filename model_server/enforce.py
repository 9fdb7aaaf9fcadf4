"""It holds a payload to the model's signature and names the column that breaks it."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server.errors import BadRequest, brief
from model_server.mlmodel import Column
from model_server.payload import Named, Payload

_NONE = type(None)
# Python 3.10 has no datetime.UTC.
UTC = dt.timezone(dt.timedelta(0))
_INTEGER_BITS = {"integer": 31, "long": 63}
# datetime64[ns], which models are trained on, silently wraps outside these years.
_YEARS = range(1678, 2262)


@dataclass(frozen=True)
class Checked:
    """It is a payload that fits: every signature column, converted, and what was ignored.

    A column is a list, or an array of numbers if it came as one.
    """

    columns: dict[str, Any]
    rows: int
    unknown: int


def enforce(columns: tuple[Column, ...], payload: Payload) -> Checked:
    """It returns the signature's columns in order, or says what the caller must change."""
    named = payload if isinstance(payload, Named) else _by_position(columns, payload.values)
    if not named.rows:
        raise BadRequest("the request has no rows")
    checked: dict[str, Any] = {}
    for column in columns:
        values = named.columns.get(column.name)
        if values is None:
            if column.required:
                raise BadRequest(f"column {column.name!r} is missing")
            values = [None] * named.rows
        checked[column.name] = _checked(column, values)
    known = sum(name in checked for name in named.columns)
    return Checked(checked, named.rows, len(named.columns) - known)


def _by_position(columns: tuple[Column, ...], rows: Any) -> Named:
    width = len(columns)
    if isinstance(rows, np.ndarray):
        if rows.ndim == 2 and rows.shape[1] == width:
            named = {column.name: rows[:, place] for place, column in enumerate(columns)}
            return Named(named, len(rows))
        rows = rows.tolist()
    if width == 1:
        rows = [row if isinstance(row, list) else [row] for row in rows]
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            raise BadRequest(
                f"row {number} must be a list of {width} values in the signature's order"
                f" or an object, got {brief(row)}"
            )
    by_column = zip(*rows, strict=True) if rows else ([] for _ in columns)
    names = (column.name for column in columns)
    return Named(dict(zip(names, map(list, by_column), strict=True)), len(rows))


def _checked(column: Column, values: Any) -> Any:
    if isinstance(values, np.ndarray):
        # What an array's type does not settle is looked at value by value, as JSON is.
        return values if _fits(column.type, values) else _checked(column, values.tolist())
    kinds = set(map(type, values))
    check = _CHECKS.get(column.type)
    if check is None:
        return values
    if _NONE in kinds:
        # A float has NaN for "not known"; the other types do not, unless declared optional.
        if column.required and column.type not in ("double", "float"):
            raise _wrong(column, values, values.index(None))
        kinds.discard(_NONE)
    return check(column, values, kinds)


def _fits(kind: str, values: npt.NDArray[Any]) -> bool:
    found = values.dtype.kind
    if kind in ("double", "float"):
        return found in "iuf"
    if kind == "boolean":
        return found == "b"
    if kind in _INTEGER_BITS and found in "iu":
        limit = 1 << _INTEGER_BITS[kind]
        return -limit <= int(values.min()) and int(values.max()) < limit
    return False


def _floats(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    if not kinds <= {float, int}:
        raise _wrong(column, values, _first(values, {float, int, _NONE}))
    return values


def _integers(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    limit = 1 << _INTEGER_BITS[column.type]
    whole = list(values)
    for row, value in enumerate(values):
        kind = type(value)
        # Clients without integers write 3.0; it is the same number, 3.5 is not.
        if kind is float and value.is_integer():
            value = whole[row] = int(value)
        elif kind is not int and value is not None:
            raise _wrong(column, values, row)
        if value is not None and not -limit <= value < limit:
            raise BadRequest(
                f"column {column.name!r} must be {column.type},"
                f" {brief(value)} in row {row} does not fit"
            )
    return whole


def _booleans(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    if not kinds <= {bool}:
        raise _wrong(column, values, _first(values, {bool, _NONE}))
    return values


def _strings(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    if not kinds <= {str}:
        raise _wrong(column, values, _first(values, {str, _NONE}))
    return values


def _binaries(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    _strings(column, values, kinds)
    try:
        return [value and base64.b64decode(value, validate=True) for value in values]
    except (binascii.Error, ValueError):
        raise BadRequest(f"column {column.name!r} must be binary in base64") from None


def _datetimes(column: Column, values: list[Any], kinds: set[type]) -> list[Any]:
    if not kinds <= {str}:
        raise _wrong(column, values, _first(values, {str, _NONE}))
    return [
        None if value is None else _datetime(column, values, row)
        for row, value in enumerate(values)
    ]


def _datetime(column: Column, values: list[Any], row: int) -> dt.datetime:
    text = values[row]
    try:
        # Python 3.10 reads no "Z".
        found = dt.datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        # Signatures know only times without a zone, so every time is brought to UTC.
        if found.tzinfo is not None:
            found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise _wrong(column, values, row) from None
    if found.year not in _YEARS:
        raise _wrong(column, values, row)
    return found


_CHECKS: dict[str, Callable[[Column, list[Any], set[type]], list[Any]]] = {
    "double": _floats,
    "float": _floats,
    "long": _integers,
    "integer": _integers,
    "boolean": _booleans,
    "string": _strings,
    "binary": _binaries,
    "datetime": _datetimes,
}


def _first(values: list[Any], allowed: set[type]) -> int:
    return next(row for row, value in enumerate(values) if type(value) not in allowed)


def _wrong(column: Column, values: list[Any], row: int) -> BadRequest:
    value = values[row]
    got = "null" if value is None else f"{_word(value)} {brief(value)}"
    return BadRequest(f"column {column.name!r} must be {column.type}, got {got} in row {row}")


def _word(value: Any) -> str:
    words: dict[type, str] = {
        str: "string",
        bool: "boolean",
        int: "long",
        float: "double",
        list: "array",
        dict: "object",
    }
    return words.get(type(value), type(value).__name__)
