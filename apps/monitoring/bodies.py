"""Writes captured bodies as JSON again, whatever a caller sent. Pure."""

from collections.abc import Iterator

import orjson

DEEPEST = 254  # levels that orjson writes
RAW_BYTES = 64 << 10  # as much as a model server keeps of a body that is no JSON
_END = object()


def text(body: object) -> bytes:
    """It writes a body; one that orjson reads but does not write becomes {"raw": its beginning}."""
    try:
        return orjson.dumps(body)
    except TypeError:  # orjson reads 1024 levels and writes 254: one request would end the log
        return orjson.dumps({"raw": _beginning(body)})


def as_it_came(written: bytes, body: object) -> bytes:
    """It gives the bytes that a body was parsed from, where whoever reads them can write it too."""
    if written.count(b"[") + written.count(b"{") <= DEEPEST:
        return written
    try:
        orjson.dumps(body)
    except TypeError:
        return text(body)
    return written


def _beginning(body: object) -> str:
    written = bytearray()
    # A list of its own and no recursion: Python's own limit is below the depth of such a body.
    inside = [_pieces(body)]
    while inside and len(written) < RAW_BYTES:
        piece = next(inside[-1], _END)
        if piece is _END:
            inside.pop()
        elif isinstance(piece, bytes):
            written += piece
        else:
            inside.append(_pieces(piece))
    return written[:RAW_BYTES].decode("utf-8", "replace")


def _pieces(value: object) -> Iterator[object]:
    """It gives bytes that are written already and the values that stand between them."""
    if isinstance(value, dict):
        yield b"{"
        for place, (key, inner) in enumerate(value.items()):
            yield b"," * (place > 0) + orjson.dumps(key) + b":"
            yield inner
        yield b"}"
    elif isinstance(value, list):
        yield b"["
        for place, inner in enumerate(value):
            yield b"," * (place > 0)
            yield inner
        yield b"]"
    else:
        yield orjson.dumps(value)
