"""It speaks the Open Inference Protocol V2, with tensors in JSON or in binary."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_server.answers import dumps, plain
from model_server.errors import BadRequest, brief
from model_server.formats import Answer, Asked, Body, Sent, Served, Wishes, binary, tensors
from model_server.formats.reading import loads
from model_server.mlmodel import ModelCard, Signature

EXTENSIONS = ["binary_tensor_data"]
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
# To ignore these would give an answer that looks like the one that was wanted, and is not.
UNSERVED = ("classification", "shared_memory_region")

Outputs = dict[str, tuple[npt.NDArray[Any], bool]]  # and whether they are sent in binary


class V2:
    """It is the V2 protocol."""

    name = "v2"

    def read(self, sent: Sent, signature: Signature | None) -> Body:
        """It reads JSON, and the tensors behind it where a header says that there are some."""
        if sent.header_length is None:
            return Body(loads(sent.content), sent.content)
        return binary.read(sent, signature)

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads one tensor a column, or one matrix whose columns follow the signature."""
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            raise BadRequest("the body must hold a list of 'inputs'")
        found = [tensors.tensor(number, raw) for number, raw in enumerate(inputs)]
        given = body.get("id")
        return Asked(
            tensors.payload(found, signature),
            id=given if isinstance(given, str) else None,
            wishes=_wishes(body),
        )

    def render(self, result: Any, asked: Asked, served: Served) -> Answer:
        """It writes one output tensor, or one a column when the model returns a table."""
        head: dict[str, Any] = {"model_name": served.endpoint, "model_version": served.version}
        if asked.id is not None:
            head["id"] = asked.id
        outputs = _wanted(_named(result, served), asked.wishes)
        if any(is_binary for _, is_binary in outputs.values()):
            return _with_binary(head, outputs)
        return Answer(_in_json(head, outputs))

    def error(self, status: int, message: str) -> bytes:
        """It writes {"error": "..."}."""
        return dumps({"error": message})


def metadata(card: ModelCard, served: Served) -> dict[str, Any]:
    """It describes the model's inputs and outputs as GET /v2/models/{name} answers."""
    signature = card.signature
    return {
        "name": served.endpoint,
        "versions": [served.version],
        "platform": card.platform,
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


def _wishes(body: dict[str, Any]) -> Wishes:
    is_binary = _flag(body, "binary_data_output", default=False, what="the request")
    outputs = body.get("outputs")
    if outputs is None or outputs == []:
        return Wishes(is_binary)
    if not isinstance(outputs, list):
        raise BadRequest("'outputs' must be a list")
    found: dict[str, bool] = {}
    for number, output in enumerate(outputs):
        name = output.get("name") if isinstance(output, dict) else None
        if not isinstance(name, str):
            raise BadRequest(f"outputs[{number}] must be an object with a 'name'")
        if name in found:
            raise BadRequest(f"output {name!r} is named more than once")
        found[name] = _flag(output, "binary_data", default=is_binary, what=f"output {name!r}")
    return Wishes(is_binary, found)


def _flag(owner: dict[str, Any], key: str, *, default: bool, what: str) -> bool:
    parameters = owner.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise BadRequest(f"{what} must have an object of 'parameters'")
    for unserved in UNSERVED:
        if parameters.get(unserved):
            raise BadRequest(f"{what} asks for {unserved!r}, which is not served here")
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadRequest(f"{what} must have true or false as {key}, got {brief(value)}")
    return value


def _named(result: Any, served: Served) -> dict[str, Any]:
    if isinstance(result, dict) or (hasattr(result, "columns") and hasattr(result, "to_dict")):
        return {str(name): result[name] for name in result}
    return {served.output_name: result}


def _wanted(found: dict[str, Any], wishes: Wishes) -> Outputs:
    if wishes.outputs is None:
        return {name: (_array(values), wishes.binary) for name, values in found.items()}
    for name in wishes.outputs:
        if name not in found:
            raise BadRequest(f"there is no output {name!r}, there is {', '.join(found)}")
    return {name: (_array(found[name]), is_binary) for name, is_binary in wishes.outputs.items()}


def _array(values: Any) -> npt.NDArray[Any]:
    array = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    found: npt.NDArray[Any] = array.reshape(1) if array.ndim == 0 else array
    return found


def _shown(name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    return {**_header(name, array), "data": plain(array.ravel())}


def _header(name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": _datatype(array.dtype), "shape": list(array.shape)}


def _in_json(head: dict[str, Any], outputs: Outputs) -> bytes:
    shown = [_shown(name, array) for name, (array, _) in outputs.items()]
    return dumps({**head, "outputs": shown})


def _with_binary(head: dict[str, Any], outputs: Outputs) -> Answer:
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, (array, is_binary) in outputs.items():
        if not is_binary:
            described.append(_shown(name, array))
            continue
        about = _header(name, array)
        parts.append(binary.written(array, about["datatype"]))
        described.append({**about, "parameters": {binary.SIZE: len(parts[-1])}})
    header = {**head, "outputs": described}
    start, tail = dumps(header), b"".join(parts)
    if len(tail) <= binary.RECORD_BYTES:
        return Answer(start + tail, len(start), _in_json(head, outputs))
    return Answer(start + tail, len(start), dumps({**header, binary.OMITTED: len(tail)}))


def _datatype(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "b":
        return "BOOL"
    if dtype.kind in "iuf" and dtype.itemsize <= 8:
        return {"i": "INT", "u": "UINT", "f": "FP"}[dtype.kind] + str(dtype.itemsize * 8)
    return "BYTES"
