"""serving.yaml: what it may say, and the words for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from model_server import card
from tests.model_server import runtimes

NOWHERE = Path("nowhere")


def parsed(**content: Any) -> card.ServingCard:
    return card.parse(yaml.safe_dump(content).encode(), NOWHERE)


def test_a_card_with_everything_is_read() -> None:
    found = parsed(
        runtime="command",
        command=["node", "server.js"],
        model="late",
        start_seconds=5,
        answer_seconds=0.5,
        signature=runtimes.SIGNATURE,
        input_example=runtimes.EXAMPLE,
    )

    assert (found.runtime, found.command, found.model) == ("command", ("node", "server.js"), "late")
    assert (found.start_seconds, found.answer_seconds) == (5.0, 0.5)
    assert found.signature is not None
    assert [(c.name, c.type) for c in found.signature.columns] == [
        ("distance", "double"),
        ("hour", "long"),
    ]
    assert found.example() == runtimes.EXAMPLE
    assert found.flavors == {"command": {}}
    assert (found.file, found.url, card.program(found)) == ("", "", None)


def test_what_is_not_said_has_its_default() -> None:
    found = parsed(runtime="url", url="https://Models.example.org/v/")

    assert found.url == "https://Models.example.org/v"
    assert (found.start_seconds, found.answer_seconds) == (60.0, 9.0)
    assert (found.signature, found.example(), found.model) == (None, None, "")


WRONG: dict[str, dict[str, Any]] = {
    "'runtime' must be one of onnx, command, url, got None": {},
    "'runtime' must be one of onnx, command, url, got 'java'": {"runtime": "java"},
    "'url' is no key of a card with runtime onnx; it may have runtime, signature, input_example,"
    " file": {"runtime": "onnx", "file": "m.onnx", "url": "http://h"},
    "'file' must name the ONNX file among the artifacts, got None": {"runtime": "onnx"},
    "'../m.onnx' must lie among the artifacts": {"runtime": "onnx", "file": "../m.onnx"},
    "'/m.onnx' must lie among the artifacts": {"runtime": "onnx", "file": "/m.onnx"},
    "'command' must be a list of texts, as [node, server.js], got 'node server.js'": {
        "runtime": "command",
        "command": "node server.js",
    },
    "'command' must be a list of texts, as [node, server.js], got ['node', 1]": {
        "runtime": "command",
        "command": ["node", 1],
    },
    "'command' must begin with a program": {"runtime": "command", "command": ["", "x"]},
    "'../run' must lie among the artifacts": {"runtime": "command", "command": ["../run"]},
    "'url' must be an address as http://host:port, got 'h:1'": {"runtime": "url", "url": "h:1"},
    "'url' must be an address as http://host:port, got 'http://'": {
        "runtime": "url",
        "url": "http://",
    },
    "'url' must be an address as http://host:port, got 'http://h:x'": {
        "runtime": "url",
        "url": "http://h:x",
    },
    "'url' must be an address as http://host:port, got 'http://h/a b'": {
        "runtime": "url",
        "url": "http://h/a b",
    },
    "'url' must be an address as http://host:port, got 'file:///etc/passwd'": {
        "runtime": "url",
        "url": "file:///etc/passwd",
    },
    "'url' must hold no user and no password": {"runtime": "url", "url": "http://u:p@h"},
    "'url' must end with its path, got 'http://h/?a=b'": {"runtime": "url", "url": "http://h/?a=b"},
    "'model' must be a name of letters": {"runtime": "url", "url": "http://h", "model": "a/../b"},
    "'start_seconds' must be a number of seconds up to 600, got 0": {
        "runtime": "url",
        "url": "http://h",
        "start_seconds": 0,
    },
    "'answer_seconds' must be a number of seconds up to 600, got True": {
        "runtime": "url",
        "url": "http://h",
        "answer_seconds": True,
    },
    "'input_example' must be a request": {"runtime": "url", "url": "http://h", "input_example": []},
    "'signature' must be a mapping with 'inputs'": {
        "runtime": "url",
        "url": "http://h",
        "signature": {"inputs": []},
    },
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_card_is_refused_in_words(words: str) -> None:
    with pytest.raises(card.WrongCard) as refused:
        parsed(**WRONG[words])

    assert str(refused.value).startswith(words)


TENSOR = {"type": "tensor", "name": "x", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}
COLUMN = {"type": "double", "name": "x"}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("x", "the signature's inputs must be a list, got 'x'"),
        (["x"], "inputs[0] of the signature must be a mapping with a 'type'"),
        ([COLUMN, {"type": "double"}], "inputs[1] of the signature must have a 'name'"),
        ([{**COLUMN, "type": "decimal"}], "inputs[0] of the signature must have a 'name' and one"),
        ([TENSOR, {**COLUMN, "name": "y"}], "the signature's inputs must be all columns or all te"),
        ([COLUMN, COLUMN], "the signature's inputs must have names, each its own"),
        ([{**TENSOR, "tensor-spec": {}}], "inputs[0] of the signature must have a 'tensor-spec'"),
        (
            [{**TENSOR, "tensor-spec": {"dtype": "float31", "shape": [1]}}],
            "inputs[0] of the signature must have a 'tensor-spec'",
        ),
    ],
)
def test_a_wrong_signature_is_refused_in_words(inputs: Any, words: str) -> None:
    with pytest.raises(card.WrongCard) as refused:
        parsed(runtime="url", url="http://h", signature={"inputs": inputs})

    assert str(refused.value).startswith(words)


BOMB = b"a0: &a0 [1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 20)) for n in range(1, 20)
)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "serving.yaml must be a mapping"),
        (b"- a", "serving.yaml must be a mapping"),
        (b"a: [", "serving.yaml is not readable as YAML"),
        (b"\xff\xfe\xff", "serving.yaml is not readable as YAML"),
        (b"[" * 9000, "serving.yaml is not readable as YAML"),
        (b"a: &a [*a]", "serving.yaml holds more than 100000 values"),
        (BOMB, "serving.yaml holds more than 100000 values"),
        (b"#" * ((1 << 20) + 1), "serving.yaml is longer than 1048576 bytes"),
        (b"!!python/object/apply:os.system [id]", "serving.yaml is not readable as YAML"),
    ],
)
def test_what_is_no_card_is_refused_in_words(content: bytes, words: str) -> None:
    with pytest.raises(card.WrongCard) as refused:
        card.parse(content, NOWHERE)

    assert str(refused.value).startswith(words)


def test_files_that_a_card_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(card.WrongCard, match=r"there is no readable serving\.yaml"):
        card.read(tmp_path)
    runtimes.write_card(tmp_path, {"runtime": "onnx", "file": "m.onnx"})
    with pytest.raises(card.WrongCard, match=r"the file 'm\.onnx' is not among the artifacts"):
        card.read(tmp_path)
    runtimes.write_card(tmp_path, {"runtime": "command", "command": ["./run"]})
    with pytest.raises(card.WrongCard, match=r"the program '\./run' is not among the artifacts"):
        card.read(tmp_path)


def test_mlflows_own_description_goes_before_a_card(tmp_path: Path) -> None:
    runtimes.write_card(tmp_path, {"runtime": "onnx", "file": "m.onnx"})
    assert card.is_card(tmp_path)
    (tmp_path / "MLmodel").touch()

    assert not card.is_card(tmp_path)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://h", True),
        ("http://H:80/x", True),
        ("https://h", False),
        ("https://s", True),
        ("http://h:81", False),
        ("http://[::1]:9000", True),
        ("http://h.evil:80", False),
    ],
)
def test_only_listed_servers_are_allowed(url: str, allowed: bool) -> None:
    found = parsed(runtime="url", url=url)

    assert card.is_allowed(found.url, ["h:80", " s:443", "[::1]:9000"]) is allowed
    assert not card.is_allowed(found.url, [""])
