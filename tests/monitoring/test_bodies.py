"""Captured bodies are written as they came, or as the beginning of their text."""

import json

import orjson
import pytest

from apps.monitoring import bodies


def nested(levels: int) -> bytes:
    return b'{"a":[' * (levels // 2) + b'"\xc3\xa9",null' + b"]}" * (levels // 2)


@pytest.mark.parametrize(
    "body", [b"null", b"[]", b'{"inputs":[1.5,null,"\xc3\xa9\\u0000"]}', nested(254)]
)
def test_what_can_be_written_is_written(body: bytes) -> None:
    assert bodies.text(orjson.loads(body)) == body


@pytest.mark.parametrize("levels", [256, 1000, 1024])
def test_what_is_nested_deeper_than_can_be_written_is_kept_as_text(levels: int) -> None:
    body = nested(levels)
    assert json.loads(bodies.text(orjson.loads(body))) == {"raw": body.decode()}


def test_of_a_large_deep_body_the_beginning_is_kept() -> None:
    body = b"[" + nested(300) + b',"%b"' % (b"x" * (1 << 20)) + b"]"
    kept = json.loads(bodies.text(orjson.loads(body)))["raw"]
    assert kept == body[: 64 << 10].decode()
