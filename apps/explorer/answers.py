"""Reads recorded requests and answers as tables, and compares two answers. Pure.

The forms are those that model servers take: V2 tensors, V1 instances, MLflow's tables. Whatever
else a body is gives no table, never an error.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

RELATIVE = 1e-9  # how far two numbers may be apart and are the same
REDACTED = "[redacted]"
MOST_ROWS = 200  # of one request that are shown
_BRIEF = reprlib.Repr()
# An answer is read as deep as a thousand lists: that far no plain repr() goes.
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 4, 60, 60, 60
_PLACES = {
    "v2": "/v2/models/{name}/infer",
    "v1": "/v1/models/{name}:predict",
    "mlflow": "/invocations",
}


@dataclass(frozen=True)
class Table:
    columns: list[str] = field(default_factory=list)
    rows: list[list[Any]] = field(default_factory=list)
    left_out: int = 0  # rows that are not among them


@dataclass(frozen=True)
class Difference:
    """How two answers differ; `largest` of two numbers in the same place."""

    equal: bool
    largest: float | None = None
    words: str = ""


def inputs(request: Any) -> Table:
    """It reads what was asked, a line a row."""
    if not isinstance(request, dict):
        return Table()
    split = request.get("dataframe_split")
    if isinstance(split, dict):
        return _table(split.get("columns"), split.get("data"))
    for key in ("dataframe_records", "instances", "inputs"):
        given = request.get(key)
        if key == "inputs" and isinstance(given, list) and _are_tensors(given):
            return _of_tensors(given)
        if given is not None:
            return _of_rows(given, "input")
    return Table()


def outputs(response: Any) -> Table:
    """It reads what was answered, a line a row."""
    if not isinstance(response, dict):
        return Table()
    if _are_tensors(response.get("outputs")):
        return _of_tensors(response["outputs"])
    for key in ("predictions", "outputs"):
        if response.get(key) is not None:
            return _of_rows(response[key], "output")
    return Table()


def place(format: str, name: str) -> str:
    """It gives the address at which a model server takes this format; "" for none it knows."""
    return _PLACES.get(format, "").format(name=name)


def why_not(request: Any, format: str, redacted: Sequence[str]) -> str:
    """It says why a recorded request cannot be sent again; "" when it can.

    `redacted`: the columns that are kept out of the log now.
    """
    if format not in _PLACES:
        return f"The format {format or 'of it'} is not known"
    if not isinstance(request, dict) or set(request) == {"raw"}:
        return "Its body was no JSON object, and only its beginning was recorded"
    if "omitted_bytes" in request:
        return "Its tensors were too large to be recorded"
    if any(value == REDACTED for value in _leaves(request)):
        return "It holds redacted values"
    if redacted and format == "v2" and _has_empty_numbers(request):
        # What is redacted in a tensor of numbers is recorded as null.
        return "It may hold redacted values"
    return ""


def compare(before: Any, after: Any) -> Difference:
    """It compares two answers to the same request: what they predict, not who says so."""
    one, two = _predicted(before), _predicted(after)
    largest: list[float] = []
    words: list[str] = []
    _walk(one, two, "", largest, words)
    return Difference(not words, max(largest, default=None), words[0] if words else "")


def marked(tables: Sequence[Table]) -> list[list[list[tuple[Any, bool]]]]:
    """It marks each value of several answers that differs from the first answer's."""
    first = tables[0] if tables else Table()
    return [
        [
            [(value, not _same(first, table, number, place)) for place, value in enumerate(row)]
            for number, row in enumerate(table.rows)
        ]
        for table in tables
    ]


def _same(first: Table, table: Table, row: int, place: int) -> bool:
    if row >= len(first.rows) or place >= len(first.rows[row]):
        return False
    return _is_equal(first.rows[row][place], table.rows[row][place])


def _predicted(answer: Any) -> Any:
    if not isinstance(answer, dict):
        return answer
    if _are_tensors(answer.get("outputs")):
        return {
            str(tensor["name"]): [tensor.get("shape"), tensor["data"]]
            for tensor in answer["outputs"]
        }
    return answer.get("predictions", answer.get("outputs", answer))


def _walk(one: Any, two: Any, where: str, largest: list[float], words: list[str]) -> None:
    """It compares value by value; a body is nested no deeper than JSON writers allow."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in {**one, **two}:
            if key not in one or key not in two:
                words.append(f"{where}.{key} is in one answer only".lstrip("."))
            else:
                _walk(one[key], two[key], f"{where}.{key}", largest, words)
    elif isinstance(one, list) and isinstance(two, list):
        if len(one) != len(two):
            words.append(f"{where.lstrip('.') or 'It'} has {len(one)} and {len(two)} values")
        for number, (left, right) in enumerate(zip(one, two, strict=False)):
            _walk(left, right, f"{where}[{number}]", largest, words)
    elif not _is_equal(one, two):
        words.append(f"{where.lstrip('.') or 'It'}: {_brief(one)} and {_brief(two)}")
        if _is_number(one) and _is_number(two):
            apart = abs(float(one) - float(two))
            if math.isfinite(apart):  # two ends of the range are further apart than a number goes
                largest.append(apart)


def _is_equal(one: Any, two: Any) -> bool:
    if _is_number(one) and _is_number(two):
        if math.isnan(one) or math.isnan(two):
            return math.isnan(one) and math.isnan(two)
        return math.isclose(one, two, rel_tol=RELATIVE, abs_tol=0.0)
    return type(one) is type(two) and bool(one == two)


def _is_number(value: Any) -> bool:
    # An integer beyond 1e308 is none that can be compared as a float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 1 << 1000)


def _brief(value: Any) -> str:
    text = _BRIEF.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _leaves(value: Any) -> Iterator[Any]:
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list):
            left += one
        else:
            yield one


def _has_empty_numbers(request: Mapping[str, Any]) -> bool:
    tensors = request.get("inputs")
    return isinstance(tensors, list) and any(
        isinstance(tensor, dict)
        and tensor.get("datatype") != "BYTES"
        and any(value is None for value in _leaves(tensor.get("data")))
        for tensor in tensors
    )


def _are_tensors(given: Any) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(one, dict) and "name" in one and "data" in one for one in given)
    )


def _of_tensors(tensors: Sequence[Mapping[str, Any]]) -> Table:
    names: list[str] = []
    columns: list[list[Any]] = []
    for tensor in tensors:
        name, data = str(tensor["name"]), tensor["data"]
        width = _width(tensor.get("shape"))
        flat = list(_leaves_in_order(data)) if isinstance(data, list) else [data]
        if width == 1:
            names.append(name)
            columns.append(flat)
        else:
            names += [f"{name}[{number}]" for number in range(width)]
            columns += [flat[number::width] for number in range(width)]
    # A tensor that is shorter than the others is shown as far as it goes.
    return _cut(names, [list(row) for row in zip_longest(*columns)])


def _width(shape: Any) -> int:
    if not isinstance(shape, list) or len(shape) < 2:
        return 1
    sides = [side if type(side) is int and side > 0 else 1 for side in shape[1:]]
    return min(math.prod(sides), 2_000)


def _leaves_in_order(data: Any) -> Iterator[Any]:
    inside = [iter([data])]
    while inside:
        for value in inside[-1]:
            if isinstance(value, list):
                inside.append(iter(value))
                break
            yield value
        else:
            inside.pop()


def _of_rows(given: Any, name: str) -> Table:
    if isinstance(given, dict):  # of columns
        columns = [values if isinstance(values, list) else [values] for values in given.values()]
        return _cut([str(key) for key in given], [list(row) for row in zip_longest(*columns)])
    if not isinstance(given, list):
        return Table([name], [[given]])
    if given and all(isinstance(row, dict) for row in given):
        names = list(dict.fromkeys(str(key) for row in given for key in row))
        return _cut(names, [[row.get(key) for key in names] for row in given])
    rows = [row if isinstance(row, list) else [row] for row in given]
    width = max((len(row) for row in rows), default=0)
    names = [name] if width == 1 else [f"{name} {number}" for number in range(width)]
    return _cut(names, rows)


def _table(columns: Any, data: Any) -> Table:
    if not isinstance(columns, list) or not isinstance(data, list):
        return Table()
    return _cut(
        [str(column) for column in columns],
        [row if isinstance(row, list) else [row] for row in data],
    )


def _cut(columns: list[str], rows: list[list[Any]]) -> Table:
    return Table(columns, rows[:MOST_ROWS], max(0, len(rows) - MOST_ROWS))
