"""It speaks the Open Inference Protocol V2 with JSON tensors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model_server.answers import dumps, plain
from model_server.errors import BadRequest, brief
from model_server.formats import Asked, Served
from model_server.mlmodel import ModelCard, Signature
from model_server.payload import Named, Payload, Positional

COLUMN_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
_KINDS: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, type(None)}),
    "BYTES": frozenset({str, type(None)}),
    **{f"INT{bits}": frozenset({int, float, type(None)}) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": frozenset({int, float, type(None)}) for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": frozenset({int, float, type(None)}) for bits in (16, 32, 64)},
}
MAX_DIMENSIONS = 32  # what every release of numpy can hold


class V2:
    """It is the V2 protocol."""

    name = "v2"

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads one tensor a column, or one matrix whose columns follow the signature."""
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise BadRequest("the body must hold a list of 'inputs'")
        tensors = [_tensor(number, raw) for number, raw in enumerate(inputs)]
        given = body.get("id")
        return Asked(_payload(tensors, signature), id=given if isinstance(given, str) else None)

    def render(self, result: Any, asked: Asked, served: Served) -> bytes:
        """It writes one output tensor, or one a column when the model returns a table."""
        answer: dict[str, Any] = {"model_name": served.endpoint, "model_version": served.version}
        if asked.id is not None:
            answer["id"] = asked.id
        if _is_table(result):
            answer["outputs"] = [_output(str(name), result[name]) for name in result]
        else:
            answer["outputs"] = [_output(served.output_name, result)]
        return dumps(answer)

    def error(self, status: int, message: str) -> bytes:
        """It writes {"error": "..."}."""
        return dumps({"error": message})


def metadata(card: ModelCard, served: Served) -> dict[str, Any]:
    """It describes the model's inputs and outputs as GET /v2/models/{name} answers."""
    signature = card.signature
    return {
        "name": served.endpoint,
        "versions": [served.version],
        "platform": "mlflow-" + ("sklearn" if "sklearn" in card.flavors else "pyfunc"),
        "inputs": [_described(i, spec, "input") for i, spec in enumerate(signature.inputs)]
        if signature
        else [],
        "outputs": [
            _described(i, spec, served.output_name) for i, spec in enumerate(signature.outputs)
        ]
        if signature
        else [],
    }


def _described(position: int, spec: dict[str, Any], fallback: str) -> dict[str, Any]:
    name = str(spec.get("name") or (f"{fallback}-{position}" if position else fallback))
    if spec.get("type") == "tensor":
        inner = spec.get("tensor-spec") or {}
        kind = _datatype(np.dtype(str(inner.get("dtype", "float64"))))
        return {"name": name, "datatype": kind, "shape": list(inner.get("shape") or [-1])}
    kind = COLUMN_DATATYPES.get(str(spec.get("type")), "BYTES")
    return {"name": name, "datatype": kind, "shape": [-1]}


def _tensor(number: int, raw: Any) -> tuple[str, list[int], list[Any]]:
    if not isinstance(raw, dict):
        raise BadRequest(f"inputs[{number}] must be an object")
    name, shape, kind = raw.get("name"), raw.get("shape"), raw.get("datatype")
    data = raw.get("data")
    if not isinstance(name, str):
        raise BadRequest(f"inputs[{number}] must have a 'name'")
    if not isinstance(shape, list) or not shape or not all(_is_length(n) for n in shape):
        raise BadRequest(f"tensor {name!r} must have a 'shape' of non-negative integers")
    if len(shape) > MAX_DIMENSIONS:
        raise BadRequest(f"tensor {name!r} has more than {MAX_DIMENSIONS} dimensions")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise BadRequest(f"tensor {name!r} has no known 'datatype': {brief(kind)}")
    if not isinstance(data, list):
        raise BadRequest(f"tensor {name!r} must have a list of 'data'")
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise BadRequest(f"tensor {name!r} has shape {brief(shape)} but {len(flat)} values")
    # Next to a length of zero the others may be anything: [1000000000, 0] takes all memory.
    if not flat and len(shape) > 1:
        raise BadRequest(f"tensor {name!r} has shape {brief(shape)} and so no values")
    if not _KINDS[kind].issuperset(map(type, flat)):
        row = next(i for i, value in enumerate(flat) if type(value) not in _KINDS[kind])
        raise BadRequest(f"tensor {name!r} is {kind} but holds {brief(flat[row])} at {row}")
    return name, shape, flat


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


def _payload(
    tensors: list[tuple[str, list[int], list[Any]]], signature: Signature | None
) -> Payload:
    names = {column.name for column in signature.columns} if signature else set()
    if len(tensors) == 1:
        name, shape, flat = tensors[0]
        is_column = name in names and _is_column(shape)
        is_free = not names and not (signature and signature.tensors)
        if not is_column and not (is_free and _is_column(shape)):
            return Positional(_nested(flat, shape))
    columns: dict[str, list[Any]] = {}
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


def _is_column(shape: list[int]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _nested(flat: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return flat
    found: list[Any] = np.array(flat, dtype=object).reshape(shape).tolist()
    return found


def _is_table(result: Any) -> bool:
    return isinstance(result, dict) or (hasattr(result, "columns") and hasattr(result, "to_dict"))


def _output(name: str, values: Any) -> dict[str, Any]:
    array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    array = array.reshape(1) if array.ndim == 0 else array
    return {
        "name": name,
        "datatype": _datatype(array.dtype),
        "shape": list(array.shape),
        "data": plain(array.ravel()),
    }


def _datatype(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "BOOL"
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return {"i": "INT", "u": "UINT", "f": "FP"}[dtype.kind] + str(dtype.itemsize * 8)
    return "BYTES"
