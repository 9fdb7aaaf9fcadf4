"""It checks the input tensors of a V2 request and makes a payload of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server.errors import BadRequest, brief
from model_server.mlmodel import Signature
from model_server.payload import Named, Payload, Positional

_KINDS: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **{f"INT{bits}": frozenset({int, float, type(None)}) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": frozenset({int, float, type(None)}) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": frozenset({int, float, type(None)}) for bits in (16, 32, 64)},
}
_LENGTHS = {int}
MAX_DIMENSIONS = 32  # what every release of numpy can hold

Values = list[Any] | npt.NDArray[Any]
Tensor = tuple[str, list[int], Values]


def described(number: int, raw: Any) -> tuple[str, list[int], str]:
    """It checks a tensor's name, shape and datatype."""
    if not isinstance(raw, dict):
        raise BadRequest(f"inputs[{number}] must be an object")
    name, shape, kind = raw.get("name"), raw.get("shape"), raw.get("datatype")
    if not isinstance(name, str):
        raise BadRequest(f"inputs[{number}] must have a 'name'")
    if not isinstance(shape, list) or not shape or not all(_is_length(n) for n in shape):
        raise BadRequest(f"tensor {name!r} must have a 'shape' of non-negative integers")
    if len(shape) > MAX_DIMENSIONS:
        raise BadRequest(f"tensor {name!r} has more than {MAX_DIMENSIONS} dimensions")
    if kind == "BF16":
        raise BadRequest(f"tensor {name!r} is BF16, which numpy does not have: send FP32")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadRequest(f"tensor {name!r} has no known 'datatype': {brief(kind)}")
    return name, shape, kind


def tensor(number: int, raw: Any) -> Tensor:
    """It checks a tensor and gives its name, its shape and its values in row order."""
    return _plain(raw) or _checked(number, raw)


def _plain(raw: Any) -> Tensor | None:
    """It takes the tensor that most requests are made of: a list of numbers, in one length or two.

    It returns None where a closer look is needed, which also finds the words for a refusal.
    """
    try:
        name, shape, kind, data = raw["name"], raw["shape"], raw["datatype"], raw["data"]
        if (
            type(name) is str
            and type(shape) is type(data) is list
            and set(map(type, shape)) == _LENGTHS
            and data
            and (shape if len(shape) == 1 else [shape[0] * shape[1], *shape[2:]]) == [len(data)]
            and min(shape) > 0
            and _KINDS[kind].issuperset(map(type, data))
        ):
            return name, shape, data
    except (KeyError, IndexError, TypeError):
        pass
    return None


def _checked(number: int, raw: Any) -> Tensor:
    name, shape, kind = described(number, raw)
    data = raw.get("data")
    if isinstance(data, np.ndarray):
        flat: Values = data
    elif isinstance(data, list):
        flat = _flat(data)
    else:
        raise BadRequest(f"tensor {name!r} must have a list of 'data'")
    if len(flat) != math.prod(shape):
        raise BadRequest(f"tensor {name!r} has shape {brief(shape)} but {len(flat)} values")
    # Next to a length of zero the others may be anything: [1000000000, 0] takes all memory.
    if not len(flat) and len(shape) > 1:
        raise BadRequest(f"tensor {name!r} has shape {brief(shape)} and so no values")
    if isinstance(flat, list) and not _KINDS[kind].issuperset(map(type, flat)):
        row = next(i for i, value in enumerate(flat) if type(value) not in _KINDS[kind])
        raise BadRequest(f"tensor {name!r} is {kind} but holds {brief(flat[row])} at {row}")
    return name, shape, flat


def payload(tensors: list[Tensor], signature: Signature | None) -> Payload:
    """It takes one tensor a column, or one matrix whose columns follow the signature."""
    if len(tensors) == 1:
        name, shape, flat = tensors[0]
        names = [column.name for column in signature.columns] if signature else []
        is_column = _is_column(shape) and name in names
        is_free = not names and not (signature and signature.tensors)
        if not is_column and not (is_free and _is_column(shape)):
            return Positional(_nested(flat, shape))
    columns: dict[str, Any] = {}
    rows = tensors[0][1][0]
    by_column = not (signature and signature.tensors)
    for name, shape, flat in tensors:
        if name in columns:
            raise BadRequest(f"tensor {name!r} is named more than once")
        if by_column and not _is_column(shape):
            raise BadRequest(f"tensor {name!r} must have shape [n] or [n, 1], got {shape}")
        if shape[0] != rows:
            raise BadRequest(f"tensor {name!r} has {shape[0]} rows, the first has {rows}")
        columns[name] = flat if by_column else _nested(flat, shape)
    return Named(columns, rows)


def _is_length(value: Any) -> bool:
    return type(value) is int and value >= 0


def _flat(data: list[Any]) -> list[Any]:
    # A long list beside a deep one would be copied once a level, and nobody answered meanwhile.
    for _ in range(MAX_DIMENSIONS):
        if not any(isinstance(part, list) for part in data):
            break
        flat: list[Any] = []
        for part in data:
            if isinstance(part, list):
                flat.extend(part)
            else:
                flat.append(part)
        data = flat
    return data


def _is_column(shape: list[int]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _nested(flat: Values, shape: list[int]) -> Any:
    if len(shape) == 1:
        return flat
    if isinstance(flat, np.ndarray):
        return flat.reshape(shape)
    if len(shape) == 2:
        width = shape[1]
        return [flat[start : start + width] for start in range(0, len(flat), width)]
    return np.array(flat, dtype=object).reshape(shape).tolist()
