"""It takes the values of named columns out of what is recorded; the caller's answer keeps them.

What cannot be told apart from such a value goes with it: rows without names that the signature
does not map, keys that no protocol knows, bodies that cannot be read, the words of errors.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from model_server.mlmodel import Param, Signature

REDACTED = "[redacted]"
UNREADABLE = b'{"raw":"[redacted: unreadable]"}'
REFUSAL = b'{"error":"[redacted]"}'
_RAISED = re.compile(r"[A-Za-z_]\w*: ", re.ASCII)
_CONTAINERS = frozenset({dict, list})
_LABELS = frozenset({str, int, float, bool, type(None)})
_HEADER = frozenset({"name", "shape", "datatype"})
_ROWS = frozenset({"dataframe_records", "instances", "inputs"})
_PARAMS = frozenset({"params", "parameters"})
_PLAIN = frozenset({"id", "signature_name", "omitted_bytes"})


class Redaction:
    """It knows which columns nobody may read later, and where a body holds them.

    A redacted value is "[redacted]"; in a V2 tensor of numbers it is null, so that the tensor's
    data stays a list of numbers.
    """

    def __init__(
        self,
        names: Collection[str],
        signature: Signature | None,
        params: tuple[Param, ...] = (),
    ) -> None:
        known = frozenset(names)
        columns = [column.name for column in signature.columns] if signature else []
        tensors = {str(tensor.name) for tensor in signature.tensors} if signature else set()
        # What stands within a tensor has no names: a column of it cannot be found by its own.
        self._is_hidden = bool(tensors) and not known <= tensors | {one.name for one in params}
        self._asked = _Side(known, columns, tensors, is_strict=True)
        outputs = _labels(signature.outputs) if signature else []
        self._given = _Side(known, outputs, set(), is_strict=not known.isdisjoint(outputs))

    def request(self, content: bytes, *, is_json: bool, is_v2: bool) -> bytes:
        """It gives the JSON to record of what was asked."""
        if not is_json:
            return UNREADABLE
        try:
            value = orjson.loads(content)
            if self._is_hidden or not isinstance(value, dict):
                return orjson.dumps(REDACTED)
            return orjson.dumps({k: self._part(k, inner, is_v2) for k, inner in value.items()})
        # Whatever is wrong with it, the writing must go on and the value must not be in it.
        except Exception:  # noqa: BLE001 - as above
            return UNREADABLE

    def response(self, content: bytes, status: int) -> bytes:
        """It gives the JSON to record of what was answered; a refusal may quote any value."""
        if status >= 400:
            return REFUSAL
        try:
            value = orjson.loads(content)
            if not isinstance(value, dict):
                return orjson.dumps(self._given.rows(value))
            return orjson.dumps({key: self._answered(key, part) for key, part in value.items()})
        except Exception:  # noqa: BLE001 - as above
            return UNREADABLE

    def error(self, text: str) -> str:
        """It leaves of an error what was raised: what was said may quote any value."""
        if not text:
            return ""
        raised = _RAISED.match(text)
        return (raised[0] if raised else "") + REDACTED

    def _part(self, key: str, value: Any, is_v2: bool) -> Any:
        side = self._asked
        if key == "inputs" and isinstance(value, list) and (is_v2 or any(map(_is_tensor, value))):
            return side.tensors(value)
        if key in _ROWS:
            return side.rows(value)
        if key == "dataframe_split":
            return side.split(value)
        if key == "outputs" and isinstance(value, list):  # which ones the caller wants
            return side.tensors(value)
        if key in _PARAMS and isinstance(value, dict):
            return side.walk(value)
        if key in _PLAIN and key not in side.names and type(value) not in _CONTAINERS:
            return value
        return REDACTED

    def _answered(self, key: str, value: Any) -> Any:
        side = self._given
        if key == "outputs" and isinstance(value, list):
            return side.tensors(value)
        if key == "predictions":
            return side.rows(value)
        return _hidden(value) if key in side.names else side.walk(value)


class _Side:
    """It is what was asked, or what was answered: which names it has, in which order."""

    def __init__(
        self,
        names: frozenset[str],
        columns: Sequence[str],
        tensors: set[str],
        *,
        is_strict: bool,
    ) -> None:
        self.names = names
        self._columns = frozenset(columns)
        self._tensors = tensors
        self._width = len(columns)
        self._places = [place for place, name in enumerate(columns) if name in names]
        self._is_strict = is_strict  # what has no name and cannot be mapped is redacted

    def walk(self, value: Any) -> Any:
        """It redacts what stands under one of the names, at any depth."""
        if isinstance(value, dict):
            if _is_str(value.get("name")) and value["name"] in self.names:
                return {k: v if k in _HEADER else _hidden(v) for k, v in value.items()}
            return {
                key: _hidden(inner) if key in self.names else self.walk(inner)
                for key, inner in value.items()
            }
        if isinstance(value, list) and not _CONTAINERS.isdisjoint(map(type, value)):
            return [self.walk(inner) for inner in value]
        return value

    def rows(self, value: Any) -> Any:
        """It redacts a list of rows, with names or without, or an object of columns."""
        if isinstance(value, list):
            return [self._row(row) for row in value]
        return self.walk(value) if isinstance(value, dict) else self._row(value)

    def split(self, value: Any) -> Any:
        """It redacts a table whose column names stand apart; its index has none."""
        if not isinstance(value, dict):
            return REDACTED
        names, data = value.get("columns"), value.get("data")
        if not isinstance(names, list) or not _LABELS.issuperset(map(type, names)):
            return REDACTED
        if not isinstance(data, list):
            return {"columns": names, "data": REDACTED}
        places = [place for place, name in enumerate(names) if str(name) in self.names]
        rows = [self._by_place(row, places, len(names)) for row in data]
        more = {key: REDACTED for key in value if key not in ("columns", "data")}
        return {"columns": names, "data": rows, **more}

    def tensors(self, found: list[Any]) -> list[Any]:
        """It redacts V2's tensors."""
        return [self._tensor(one, is_alone=len(found) == 1) for one in found]

    def _row(self, row: Any) -> Any:
        if isinstance(row, dict) or not self._is_strict:
            return self.walk(row)
        if self._width == 1 and not isinstance(row, list):
            return REDACTED if self._places else row
        return self._by_place(row, self._places, self._width)

    def _by_place(self, row: Any, places: list[int], width: int, mark: Any = REDACTED) -> Any:
        if not isinstance(row, list) or len(row) != width or not width:
            return REDACTED
        cells: list[Any] = self.walk(row)
        for place in places:
            cells[place] = mark
        return cells

    def _tensor(self, tensor: Any, *, is_alone: bool) -> Any:
        if not isinstance(tensor, dict) or not _is_str(tensor.get("name")):
            return REDACTED
        parts: dict[str, Any] = {}
        for key, value in tensor.items():
            if key == "data":
                parts[key] = self._data(tensor, value, is_alone=is_alone)
            elif key == "parameters":
                parts[key] = self.walk(value) if isinstance(value, dict) else REDACTED
            else:
                parts[key] = value if key in _HEADER else REDACTED
        return parts

    def _data(self, tensor: dict[str, Any], data: Any, *, is_alone: bool) -> Any:
        if not isinstance(data, list):
            return REDACTED
        mark = REDACTED if tensor.get("datatype") == "BYTES" else None
        if tensor["name"] in self.names:
            return [mark] * len(data)
        if not self._is_strict or self._is_named(tensor, is_alone=is_alone):
            return data
        width = _width(tensor.get("shape"))
        if not is_alone or not width or width != self._width:
            return [mark] * len(data)
        return self._matrix(data, mark)

    def _is_named(self, tensor: dict[str, Any], *, is_alone: bool) -> bool:
        """It tells whether the server reads the tensor by its own name, not by the signature's."""
        name = tensor["name"]
        if self._tensors:
            return name in self._tensors
        is_column = _width(tensor.get("shape")) == 1
        return is_column and (not is_alone or not self._width or name in self._columns)

    def _matrix(self, data: list[Any], mark: Any) -> list[Any]:
        width = self._width
        if not _CONTAINERS.isdisjoint(map(type, data)):
            return [self._by_place(row, self._places, width, mark) for row in data]
        if len(data) % width:
            return [mark] * len(data)
        for place in self._places:
            data[place::width] = [mark] * (len(data) // width)
        return data


def _hidden(value: Any) -> Any:
    """It hides a value; of a list its length stays, so that columns fit each other."""
    return [REDACTED] * len(value) if isinstance(value, list) else REDACTED


def _is_str(value: Any) -> bool:
    return isinstance(value, str)


def _is_tensor(value: Any) -> bool:
    """It tells a V2 tensor that came to the wrong address from a row."""
    return isinstance(value, dict) and "name" in value and isinstance(value.get("data"), list)


def _width(shape: Any) -> int | None:
    """It gives how many values a row of this shape has; None where there are no plain rows."""
    if not isinstance(shape, list) or not all(type(length) is int for length in shape):
        return None
    if len(shape) == 1:
        return 1
    return int(shape[1]) if len(shape) == 2 else None


def _labels(outputs: list[dict[str, Any]]) -> list[str]:
    named = [spec.get("name") for spec in outputs]
    return [str(place) if name is None else str(name) for place, name in enumerate(named)]
