"""It writes V2 requests and reads V2 answers, for servers that are asked in V2."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

from model_server.answers import by_row, dumps
from model_server.card import DTYPES
from model_server.enforce import Checked
from model_server.errors import BadRequest
from model_server.formats import Answer, Sent, binary
from model_server.formats.reading import loads
from model_server.formats.v2 import COLUMN_DATATYPES
from model_server.mlmodel import Column
from model_server.upstream.client import Reply, UpstreamError

LENGTH = b"inference-header-content-length"
DATATYPES = {
    **{dtype: dtype.upper().replace("FLOAT", "FP") for dtype in DTYPES},
    "object": "BYTES",
    "str": "BYTES",
}


class ByColumn:
    """It builds checked columns into one V2 tensor each."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = columns

    def build(self, checked: Checked) -> list[dict[str, Any]]:
        """It takes the values as they are; bytes become base64, which JSON can hold."""
        return [
            {
                "name": column.name,
                "datatype": COLUMN_DATATYPES[column.type],
                "shape": [checked.rows],
                "data": [_plain(value) for value in checked.columns[column.name]],
            }
            for column in self._columns
        ]


def request(data: Any, params: dict[str, Any] | None) -> bytes:
    """It writes a request of tensors, of arrays by name, or of one array."""
    named = data if isinstance(data, dict) else {"input": data}
    tensors = data if isinstance(data, list) else [_tensor(*item) for item in named.items()]
    body: dict[str, Any] = {"inputs": tensors}
    if params:
        body["parameters"] = params
    return dumps(body)


def result(reply: Reply) -> Any:
    """It gives the outputs as lists: one alone, several row by row. Raises: UpstreamError."""
    if reply.status != 200:
        raise UpstreamError(f"the server behind answered {reply.status}: {words(reply)}")
    _, value = answer(reply)
    found = dict(_output(number, raw) for number, raw in enumerate(value["outputs"]))
    return by_row(found)


def answer(reply: Reply) -> tuple[Answer, dict[str, Any]]:
    """It reads an answer of status 200: what to send on and to record, and its value.

    Raises: UpstreamError where it is no answer of V2.
    """
    length = reply.headers.get(LENGTH)
    try:
        if length is None:
            value = loads(reply.body)
            found = Answer(reply.body, shown=dumps(value) if _breaks(reply.body) else None)
        else:
            found, value = _with_tensors(reply.body, length.decode("latin-1"))
    except BadRequest as error:
        raise UpstreamError(f"the server behind does not answer in V2: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("outputs"), list):
        raise UpstreamError("the server behind does not answer in V2: it gives no 'outputs'")
    return found, value


def refusal(reply: Reply) -> Answer | None:
    """It takes over a refusal that is a JSON object; None for anything else."""
    try:
        value = loads(reply.body)
    except BadRequest:
        return None
    if not isinstance(value, dict):
        return None
    return Answer(reply.body, shown=dumps(value) if _breaks(reply.body) else None)


def words(reply: Reply) -> str:
    """It gives what an answer says about an error, briefly."""
    try:
        value = loads(reply.body)
        found = value.get("error") or value.get("message") if isinstance(value, dict) else None
    except BadRequest:
        found = None
    text = found if isinstance(found, str) else reply.body[:600].decode("utf-8", "replace")
    return " ".join(text.split())[:300] or "nothing"


def _breaks(content: bytes) -> bool:
    # JSON allows line breaks between its tokens; a record is one line.
    return b"\n" in content or b"\r" in content


def _with_tensors(content: bytes, length: str) -> tuple[Answer, Any]:
    """The reader of requests reads the outputs too, once they stand where inputs do."""
    if not (length.isascii() and length.isdigit()) or int(length) > len(content):
        raise BadRequest("its Inference-Header-Content-Length is no length of its JSON")
    head, tail = loads(content[: int(length)]), content[int(length) :]
    if not isinstance(head, dict):
        raise BadRequest("it is no JSON object")
    turned = dumps({"inputs": head.get("outputs")})
    body = binary.read(Sent(turned + tail, header_length=str(len(turned))), None)
    recorded = loads(body.record)
    shown = {**head, **recorded, "outputs": recorded.pop("inputs")}
    shown.pop("inputs", None)
    return Answer(content, int(length), dumps(shown)), {**head, "outputs": body.value["inputs"]}


def _output(number: int, raw: Any) -> tuple[str, Any]:
    raw = raw if isinstance(raw, dict) else {}
    name, shape, data = raw.get("name"), raw.get("shape"), raw.get("data")
    if not isinstance(name, str) or not _is_shape(shape) or data is None:
        raise UpstreamError(f"outputs[{number}] of the server behind has no name, shape and data")
    array = np.array(data, dtype=object) if isinstance(data, list) else np.asarray(data)
    if array.size != math.prod(shape):
        raise UpstreamError(
            f"output {name!r} of the server behind has shape {shape} but {array.size} values"
        )
    return name, array.reshape(shape).tolist()


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)


def _tensor(name: Any, values: Any) -> dict[str, Any]:
    array = np.asarray(values)
    kind = DATATYPES.get(array.dtype.name, "BYTES")
    return {"name": str(name), "datatype": kind, "shape": list(array.shape), "data": array.ravel()}


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
