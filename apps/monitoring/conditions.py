"""What makes a slice: conditions on the columns of rows, all of which must hold. Pure.

`[{"column": "in.x", "op": "between", "value": [1, 5]}, {"column": "status", "op": "lt", ...}]`. A
row without a value meets no comparison, not even "ne"; only "is_null" asks for it.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.core.errors import Refused

FIXED = ("caller", "status", "latency_us")
EQUAL, ORDERED, EMPTY = ("eq", "ne"), ("lt", "le", "gt", "ge"), ("is_null", "not_null")
OPS = (*EQUAL, "in", *ORDERED, "between", *EMPTY)
MOST_PARTS = 10
MOST_VALUES = 100
LONGEST_TEXT = 1_000

Condition = Sequence[dict[str, Any]]
Mask = npt.NDArray[np.bool_]


class BadCondition(Refused):
    """The condition says nothing that rows could be asked."""

    code = "bad_condition"


def check(condition: Any, known: Collection[str]) -> None:
    """It refuses a condition that cannot be asked; `known` are the columns of the rows.

    Raises: BadCondition.
    """
    if not isinstance(condition, list) or not 1 <= len(condition) <= MOST_PARTS:
        raise BadCondition(f"A condition is a list of 1 to {MOST_PARTS} parts")
    for part in condition:
        if not isinstance(part, dict) or not {"column", "op"} <= set(part) <= {
            "column", "op", "value",
        }:  # fmt: skip
            raise BadCondition('Each part of a condition has a "column", an "op" and a "value"')
        if part["column"] not in (*FIXED, *known):
            raise BadCondition(f"There is no column {part['column']!r}")
        _check_value(part["column"], part["op"], part.get("value"))


def columns(condition: Condition) -> set[str]:
    """It names the columns that a condition asks for."""
    return {part["column"] for part in condition}


def mask(condition: Condition, table: pa.Table) -> Mask:
    """It tells of each row whether all parts hold."""
    held = np.ones(table.num_rows, dtype=np.bool_)
    for part in condition:
        held &= _mask(part, table)
    return held


def _check_value(column: str, op: Any, value: Any) -> None:
    if op not in OPS:
        raise BadCondition(f"{op!r} is none of {', '.join(OPS)}")
    if op in EMPTY and value is not None:
        raise BadCondition(f"{op} of {column} takes no value")
    if op in EQUAL and not _is_plain(value):
        raise BadCondition(f"{op} of {column} takes a text, a number, true or false")
    if op == "in" and not (
        isinstance(value, list) and 1 <= len(value) <= MOST_VALUES and all(map(_is_plain, value))
    ):
        raise BadCondition(f"in of {column} takes a list of 1 to {MOST_VALUES} values")
    if op in ORDERED and not _is_number(value):
        raise BadCondition(f"{op} of {column} takes a number")
    if op == "between" and not (
        isinstance(value, list)
        and len(value) == 2
        and all(map(_is_number, value))
        and value[0] <= value[1]
    ):
        raise BadCondition(f"between of {column} takes two numbers, the lower first")


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT
    return isinstance(value, bool) or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _mask(part: dict[str, Any], table: pa.Table) -> Mask:
    name, op = part["column"], part["op"]
    value: Any = part.get("value")
    if name not in table.column_names:
        return np.full(table.num_rows, op == "is_null")
    column = table[name]
    if op in EMPTY:
        nulls = column.is_null()
        return _array(nulls if op == "is_null" else pc.invert(nulls))
    if op in EQUAL or op == "in":
        return _equal(column, op, value if op == "in" else [value])
    if not _is_numeric(column.type):
        return np.zeros(table.num_rows, dtype=np.bool_)
    numbers = column.cast(pa.float64())
    if op == "between":
        low, high = map(float, value)
        return _array(pc.and_(pc.greater_equal(numbers, low), pc.less_equal(numbers, high)))
    return _array(_ORDER[op](numbers, float(value)))


def _equal(column: pa.ChunkedArray, op: str, values: list[Any]) -> Mask:
    """It compares in the column's type: of one file a column may be text, of another numbers."""
    if _is_numeric(column.type):
        column = column.cast(pa.float64())
    read: Callable[[Any], Any] = _number
    if not pa.types.is_floating(column.type):
        read = _text if pa.types.is_string(column.type) else _bool
    wanted = [one for one in map(read, values) if one is not None]
    same = pc.is_in(column, pa.array(wanted, column.type), skip_nulls=True)
    if op != "ne":
        return _array(same)
    return _array(pc.and_not(pc.is_valid(column), same))


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _bool(value: Any) -> bool | None:
    return {"true": True, "false": False}.get(str(value).lower())


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _array(held: pa.ChunkedArray) -> Mask:
    found: Mask = pc.fill_null(held, False).to_numpy().astype(np.bool_)
    return found


_ORDER: dict[str, Callable[..., Any]] = {
    "lt": pc.less,
    "le": pc.less_equal,
    "gt": pc.greater,
    "ge": pc.greater_equal,
}
