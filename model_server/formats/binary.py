"""It reads and writes tensors as V2's binary extension has them: bytes behind the JSON.

Numbers are little-endian and in row order; an element of BYTES has its length before it, in four
bytes. Source: https://github.com/triton-inference-server/server, extension_binary_data.md.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server.answers import dumps
from model_server.errors import BadRequest
from model_server.formats import Body, Sent
from model_server.formats.reading import loads
from model_server.formats.tensors import described
from model_server.mlmodel import Signature

RECORD_BYTES = 64 << 10  # of more, the record says only how much it was
SIZE = "binary_data_size"
OMITTED = "omitted_bytes"
_DTYPES = {
    "BOOL": "u1",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_LENGTH = struct.Struct("<I")


def read(sent: Sent, signature: Signature | None) -> Body:
    """It reads a body of JSON and tensors, and puts each tensor in as its "data"."""
    length = sent.header_length or ""
    # isdigit alone takes "²" for a number.
    if not (length.isascii() and length.isdigit()) or int(length) > len(sent.content):
        raise BadRequest(
            "the header Inference-Header-Content-Length must be the length of the JSON,"
            f" from 0 to {len(sent.content)}"
        )
    head, tail = sent.content[: int(length)], sent.content[int(length) :]
    value = loads(head)
    is_small = len(tail) <= RECORD_BYTES
    record = b"" if is_small else _noted(value, len(tail))
    _fill(value, tail, _raw_columns(signature))
    return Body(value, dumps(value) if is_small else record)


def written(values: npt.NDArray[Any], kind: str) -> bytes:
    """It writes the values of one output."""
    if kind == "BYTES":
        elements = [_element(value) for value in values.ravel().tolist()]
        return b"".join(_LENGTH.pack(len(part)) + part for part in elements)
    return values.astype(_DTYPES[kind]).tobytes()


def _noted(value: Any, size: int) -> bytes:
    return dumps({**value, OMITTED: size} if isinstance(value, dict) else value)


def _raw_columns(signature: Signature | None) -> frozenset[str]:
    columns = signature.columns if signature else ()
    return frozenset(column.name for column in columns if column.type == "binary")


def _fill(value: Any, tail: bytes, raw_columns: frozenset[str]) -> None:
    inputs = value.get("inputs") if isinstance(value, dict) else None
    start = 0
    for number, raw in enumerate(inputs if isinstance(inputs, list) else ()):
        parameters = raw.get("parameters") if isinstance(raw, dict) else None
        if not isinstance(parameters, dict) or SIZE not in parameters:
            continue
        name, shape, kind = described(number, raw)
        size = parameters.pop(SIZE)
        if type(size) is not int or not 0 <= size <= len(tail) - start:
            left = len(tail) - start
            raise BadRequest(f"tensor {name!r} must have a {SIZE} from 0 to the {left} bytes left")
        if "data" in raw:
            raise BadRequest(f"tensor {name!r} has both 'data' and {SIZE}")
        content = tail[start : start + size]
        start += size
        if kind == "BYTES":
            raw["data"] = _texts(name, shape, content, is_raw=name in raw_columns)
        else:
            raw["data"] = _numbers(name, shape, kind, content)
    if start < len(tail):
        raise BadRequest(f"{len(tail) - start} bytes follow that no tensor's {SIZE} speaks of")


def _numbers(name: str, shape: list[int], kind: str, content: bytes) -> npt.NDArray[Any]:
    dtype = np.dtype(_DTYPES[kind])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(content):
        raise BadRequest(
            f"tensor {name!r} is {kind} of shape {shape} and so must have {wanted} bytes,"
            f" it has {len(content)}"
        )
    array = np.frombuffer(content, dtype=dtype)
    if kind != "BOOL":
        return array
    if array.size and array.max() > 1:
        place = int(np.argmax(array > 1))
        raise BadRequest(f"tensor {name!r} is BOOL but holds the byte {array[place]} at {place}")
    return array.view(np.bool_)


def _texts(name: str, shape: list[int], content: bytes, *, is_raw: bool) -> list[str]:
    found: list[str] = []
    start = 0
    while start < len(content):
        end = start + _LENGTH.size
        if end <= len(content):
            start, end = end, end + _LENGTH.unpack_from(content, start)[0]
        if end > len(content):
            raise BadRequest(f"tensor {name!r} ends within its element {len(found)}")
        found.append(_text(name, len(found), content[start:end], is_raw=is_raw))
        start = end
    if len(found) != math.prod(shape):
        raise BadRequest(f"tensor {name!r} has shape {shape} but {len(found)} values")
    return found


def _text(name: str, place: int, element: bytes, *, is_raw: bool) -> str:
    # JSON has no bytes: a binary column is base64 there, and is checked and recorded as such.
    if is_raw:
        return base64.b64encode(element).decode()
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise BadRequest(f"tensor {name!r} holds what is not UTF-8 at {place}") from None


def _element(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return b"" if value is None else dumps(value).strip(b'"')
