"""It builds the object a model is given: an array, a DataFrame, or tensors."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model_server.enforce import Checked
from model_server.errors import BadRequest
from model_server.mlmodel import Column, Tensor
from model_server.payload import Named, Payload

NUMERIC: dict[str, type[np.generic]] = {
    "double": np.float64,
    "float": np.float32,
    "long": np.int64,
    "integer": np.int32,
    "boolean": np.bool_,
}
_FLOATS = {"double", "float"}
# None is a number that is not known.
_NUMBERS = frozenset({float, int, type(None)})


def is_numeric(columns: tuple[Column, ...]) -> bool:
    """It tells whether an array can hold these columns without losing what they mean."""
    return bool(columns) and all(column.type in NUMERIC for column in columns)


def _cell_dtype(column: Column) -> np.dtype[Any]:
    dtype = np.dtype(NUMERIC[column.type])
    # An optional integer may be null, which only a float can say.
    return dtype if column.required or dtype.kind == "f" else np.dtype(np.float64)


class Form(Protocol):
    """It is what a model wants its columns to be built into."""

    def build(self, checked: Checked) -> Any:
        """It builds the columns into one object."""


class Matrix:
    """It builds one array of the type that a DataFrame of the same columns would have."""

    def __init__(self, columns: tuple[Column, ...], dtype: type[np.generic] | None = None) -> None:
        cells = [_cell_dtype(column) for column in columns]
        self.dtype = np.dtype(dtype) if dtype else np.result_type(*cells)
        self._names = [column.name for column in columns]
        self._takes_floats = all(column.type in _FLOATS for column in columns)
        self._narrow = [
            position
            for position, cell in enumerate(cells)
            if cell == np.float32 and cell != self.dtype
        ]

    def at_once(self, payload: Payload) -> npt.NDArray[Any] | None:
        """It builds rows that are plain numbers for columns that are; None means: look closely."""
        if not self._takes_floats:
            return None
        if isinstance(payload, Named):
            rows = self._rows_of(payload)
        else:
            rows = payload.values if self._is_plain(payload.values) else None
        return None if rows is None else self._narrowed(np.array(rows, dtype=self.dtype))

    def _rows_of(self, payload: Named) -> list[list[Any]] | None:
        if payload.rows != 1 or len(payload.columns) != len(self._names):
            return None
        columns = payload.columns
        try:
            row = [columns[name][0] for name in self._names]
        except KeyError:
            return None
        return [row] if _NUMBERS.issuperset(map(type, row)) else None

    def _is_plain(self, rows: Any) -> bool:
        width = len(self._names)
        if isinstance(rows, np.ndarray):
            is_table = rows.ndim == 2 and rows.shape[1] == width and len(rows) > 0
            return is_table and rows.dtype.kind in "iuf"
        return bool(rows) and all(
            type(row) is list and len(row) == width and _NUMBERS.issuperset(map(type, row))
            for row in rows
        )

    def build(self, checked: Checked) -> npt.NDArray[Any]:
        """It fills the array at once and rounds the columns declared with less precision."""
        matrix = np.array([*checked.columns.values()], dtype=self.dtype).T
        return np.ascontiguousarray(self._narrowed(matrix))

    def _narrowed(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._narrow:
            matrix[:, self._narrow] = matrix[:, self._narrow].astype(np.float32)
        return matrix


class Reordered:
    """It builds the columns in the order that the model was fitted with, not the signature's."""

    def __init__(self, names: list[str], form: Form) -> None:
        self.dtype: np.dtype[Any] | None = getattr(form, "dtype", None)
        self._names = names
        self._form = form

    def build(self, checked: Checked) -> Any:
        """It picks the columns by name."""
        columns = {name: checked.columns[name] for name in self._names}
        return self._form.build(Checked(columns, checked.rows, checked.unknown))


class Vectors:
    """It builds one array a column, for a model that names each of its inputs."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._cells = {column.name: _cell_dtype(column) for column in columns}

    def build(self, checked: Checked) -> dict[str, npt.NDArray[Any]]:
        """It gives each column its declared type."""
        return {
            name: np.array(checked.columns[name], dtype=cell) for name, cell in self._cells.items()
        }


class Frame:
    """It builds a DataFrame with the signature's types; pandas is imported only for it."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        # Optional in a model's environment: a purely numeric model may come without pandas.
        self._pandas: Any = importlib.import_module("pandas")
        self._columns = {column.name: column for column in columns}
        self._text = "str" if int(self._pandas.__version__.split(".")[0]) >= 3 else object

    def build(self, checked: Checked) -> Any:
        """It turns the checked columns into a DataFrame in the signature's order."""
        return self._pandas.DataFrame(
            {name: self._series(name, values) for name, values in checked.columns.items()}
        )

    def loose(self, payload: Named) -> Any:
        """It turns named columns into a DataFrame as they are, for a model without signature."""
        return self._pandas.DataFrame(payload.columns)

    def _series(self, name: str, values: Any) -> Any:
        column = self._columns[name]
        if isinstance(values, np.ndarray):
            return values.astype(NUMERIC[column.type])
        if column.type in NUMERIC:
            if column.type == "boolean" and None in values:
                return np.array(values, dtype=object)
            return np.array(
                values, dtype=_cell_dtype(column) if None in values else NUMERIC[column.type]
            )
        if column.type == "datetime":
            return np.array(values, dtype="datetime64[ns]")
        if column.type == "string":
            # Missing text must look as it did in training: NaN in pandas 3, None before.
            return self._pandas.Series(values, dtype=self._text)
        return self._pandas.Series(values, dtype=object)


class Tensors:
    """It builds the array, or the arrays by name, of a tensor signature."""

    def __init__(self, tensors: tuple[Tensor, ...]) -> None:
        self._tensors = tensors

    def build(self, payload: Payload) -> Any:
        """It checks each tensor's type and shape."""
        if len(self._tensors) == 1:
            tensor = self._tensors[0]
            values = self._single(tensor, payload)
            array = _array(tensor, values)
            return array if tensor.name is None else {tensor.name: array}
        if not isinstance(payload, Named):
            names = ", ".join(str(tensor.name) for tensor in self._tensors)
            raise BadRequest(f"the request must name its tensors: {names}")
        found: dict[str, npt.NDArray[Any]] = {}
        for tensor in self._tensors:
            if str(tensor.name) not in payload.columns:
                raise BadRequest(f"tensor {tensor.name!r} is missing")
            found[str(tensor.name)] = _array(tensor, payload.columns[str(tensor.name)])
        return found

    def _single(self, tensor: Tensor, payload: Payload) -> Any:
        if not isinstance(payload, Named):
            return payload.values
        if tensor.name is not None and tensor.name in payload.columns:
            return payload.columns[tensor.name]
        return [list(row) for row in zip(*payload.columns.values(), strict=True)]


def loose(payload: Payload) -> Any:
    """It builds what a model without a signature gets: a DataFrame for names, else an array."""
    if isinstance(payload, Named):
        return Frame(()).loose(payload)
    return np.array(payload.values)


def _array(tensor: Tensor, values: Any) -> npt.NDArray[Any]:
    label = "the input" if tensor.name is None else f"tensor {tensor.name!r}"
    try:
        raw = np.array(values)
    except ValueError:
        raise BadRequest(f"{label} must be a full array, its rows differ in length") from None
    wanted = np.dtype(tensor.dtype)
    if not raw.size:
        raise BadRequest("the request has no rows")
    shape = tensor.shape
    fits = len(shape) == raw.ndim and all(
        length in (-1, found) for length, found in zip(shape, raw.shape, strict=True)
    )
    if not fits:
        raise BadRequest(f"{label} must have shape {list(shape)}, got {list(raw.shape)}")
    if not _holds(wanted, raw):
        raise BadRequest(f"{label} must be {tensor.dtype}, got other values")
    return raw.astype(wanted, copy=False)


def _holds(wanted: np.dtype[Any], raw: npt.NDArray[Any]) -> bool:
    kind = raw.dtype.kind
    if wanted.kind in "OUS":
        return True
    if wanted.kind == "f" and kind == "O":
        # Nulls make the array one of objects; every other value must still be a number.
        return {type(value) for value in raw.flat} <= {int, float, type(None)}
    if wanted.kind in "iu":
        if kind == "f":
            return bool(np.all(raw == np.floor(raw)) and np.all(np.abs(raw) < 2.0**63))
        return kind in "iu"
    return kind in {"f": "iuf", "b": "b"}.get(wanted.kind, wanted.kind)
