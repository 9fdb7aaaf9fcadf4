"""It reads a CSV body: a line of column names, then a line a row; an empty cell is null."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

from model_server.errors import BadRequest, brief
from model_server.mlmodel import Column, Signature

Row = tuple[int, list[str]]  # and the line it begins in, counted from 1

# A cell may be as long as a body; csv's own limit of 128 KiB would refuse a picture in base64.
csv.field_size_limit(16 << 20)


def read(content: bytes, signature: Signature | None) -> dict[str, Any]:
    """It returns {"columns": [...], "data": [[...]]} with the types of the signature."""
    rows = _rows(content)
    if not rows:
        raise BadRequest("the body must begin with a line of column names")
    names = rows[0][1]
    for line, cells in rows[1:]:
        if len(cells) != len(names):
            raise BadRequest(f"line {line} has {len(cells)} cells, line 1 names {len(names)}")
    known = {column.name: column for column in signature.columns} if signature else {}
    lines = [line for line, _ in rows[1:]]
    columns = []
    for place, name in enumerate(names):
        cells = [row[place] for _, row in rows[1:]]
        columns.append(_column(name, known.get(name), cells, lines))
    return {"columns": names, "data": [list(row) for row in zip(*columns, strict=True)]}


def _rows(content: bytes) -> list[Row]:
    try:
        # Excel writes a mark before the first name, which no column would be found by.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 at byte {error.start}") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadRequest(f"the body is not valid CSV in line {reader.line_num}: {error}") from None
    return rows


def _column(name: str, column: Column | None, cells: list[str], lines: list[int]) -> list[Any]:
    kind = column.type if column else _guessed(cells)
    read = _READERS.get(kind)
    values: list[Any] = [cell or None for cell in cells]
    for row, cell in enumerate(cells):
        if not cell:
            if column and column.required and kind not in ("double", "float"):
                raise _wrong(name, kind, "an empty cell", lines[row])
        elif read is not None:
            try:
                values[row] = read(cell)
            except ValueError:
                raise _wrong(name, kind, brief(cell), lines[row]) from None
    return values


def _wrong(name: str, kind: str, got: str, line: int) -> BadRequest:
    return BadRequest(f"column {name!r} must be {kind}, got {got} in line {line}")


def _guessed(cells: list[str]) -> str:
    """It finds a type for a column that no signature speaks of, as pandas would."""
    given = [cell for cell in cells if cell]
    for kind, read in _READERS.items():
        if given and all(_reads(read, cell) for cell in given):
            return kind
    return "string"


def _reads(read: Callable[[str], Any], cell: str) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True


def _integer(cell: str) -> int | float:
    try:
        return int(_number(cell))
    except ValueError:
        # Clients without integers write 3.0, and whether it is whole is checked later for all.
        return _finite(cell)


def _double(cell: str) -> float | None:
    return None if cell.lower() == "nan" else _finite(cell)


def _finite(cell: str) -> float:
    value = float(_number(cell))
    if not math.isfinite(value):
        raise ValueError(cell)
    return value


def _number(cell: str) -> str:
    # Python alone reads 1_000 as a number.
    if "_" in cell or not cell.isascii():
        raise ValueError(cell)
    return cell


def _boolean(cell: str) -> bool:
    word = cell.lower()
    if word not in ("true", "false"):
        raise ValueError(cell)
    return word == "true"


_READERS: dict[str, Callable[[str], Any]] = {
    "long": _integer,
    "integer": _integer,
    "double": _double,
    "float": _double,
    "boolean": _boolean,
}
