"""It reads JSON, and says what is wrong with it in words."""

from __future__ import annotations

import re
from typing import Any

import orjson

from model_server.errors import BadRequest

SUSPECT_BRACKETS = 250  # orjson reads 1024 levels of them but writes only 254
_NO_NUMBER = re.compile(r"NaN|Infinity")


def loads(content: bytes) -> Any:
    """It reads JSON that the collector will be able to write again."""
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {_explained(error)}") from None
    # The collector writes a record's bodies again; one that it cannot would block its segment.
    if _is_too_deep(content, parsed):
        raise BadRequest("the body is nested too deeply")
    return parsed


def _explained(error: orjson.JSONDecodeError) -> str:
    found = _NO_NUMBER.match(error.doc, error.pos)
    if found is None:
        return str(error)
    sign = "-" if error.pos and error.doc[error.pos - 1] == "-" else ""
    where = f"line {error.lineno} column {error.colno}"
    return f"{sign}{found[0]} is no JSON, send null for an unknown number: {where}"


def _is_too_deep(content: bytes, parsed: Any) -> bool:
    # Counting costs next to nothing and spares most bodies the writing.
    if content.count(b"[") + content.count(b"{") < SUSPECT_BRACKETS:
        return False
    try:
        orjson.dumps(parsed)
    except TypeError:
        return True
    return False
