"""It reads serving.yaml, the card of a model that is not MLflow's: a file, a command, an address.

The panel's build reads cards by this very file, so that both sides refuse the same ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import yaml

from model_server.errors import NotLoadable, brief
from model_server.mlmodel import SCALARS, ModelCard, Signature, read_signature

NAME = "serving.yaml"
ONNX, COMMAND, URL = "onnx", "command", "url"
OWN = {
    ONNX: ("file",),
    COMMAND: ("command", "model", "start_seconds", "answer_seconds"),
    URL: ("url", "model", "start_seconds", "answer_seconds"),
}
SHARED = ("runtime", "signature", "input_example")
# The gateway gives a try up after 10 s; a server that hangs should be found out before.
ANSWER_SECONDS = 9.0
MAX_SECONDS = 600.0
MAX_BYTES = 1 << 20
MAX_VALUES = 100_000
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "object", "str",
)  # fmt: skip
_PORTS = {"http": 80, "https": 443}


class WrongCard(NotLoadable):
    """It says in words what is wrong with a serving.yaml."""


@dataclass(frozen=True)
class ServingCard(ModelCard):
    """It is the content of a serving.yaml, in the form that all models are described by."""

    runtime: str = ""
    file: str = ""
    command: tuple[str, ...] = ()
    url: str = ""
    model: str = ""  # its name at the server behind; blank: the endpoint's
    start_seconds: float = 60.0
    answer_seconds: float = ANSWER_SECONDS
    input_example: dict[str, Any] | None = None

    @property
    def platform(self) -> str:
        """It is what V2 metadata calls the kind of model."""
        return "onnxruntime_onnx" if self.runtime == ONNX else f"v2-{self.runtime}"

    def example(self) -> dict[str, Any] | None:
        """It returns the card's input example, a V2 body or a scoring request, or None."""
        return self.input_example


def is_card(directory: Path) -> bool:
    """It tells whether a model is described by a card; MLflow's own description goes before it."""
    return not (directory / "MLmodel").exists() and (directory / NAME).is_file()


def read(directory: Path) -> ServingCard:
    """It reads the directory's card. Raises: WrongCard."""
    try:
        content = (directory / NAME).read_bytes()
    except OSError as error:
        raise WrongCard(f"there is no readable {NAME}: {error.strerror}") from error
    card = parse(content, directory)
    if card.runtime == ONNX and not (directory / card.file).is_file():
        raise WrongCard(f"the file {card.file!r} is not among the artifacts")
    own = program(card)
    if own is not None and not own.is_file():
        raise WrongCard(f"the program {card.command[0]!r} is not among the artifacts")
    return card


def parse(content: bytes, directory: Path) -> ServingCard:
    """It parses a card. Raises: WrongCard with words for whoever wrote it."""
    raw = _loaded(content)
    if not isinstance(raw, dict):
        raise WrongCard(f"{NAME} must be a mapping with a 'runtime'")
    runtime = raw.get("runtime")
    if not isinstance(runtime, str) or runtime not in OWN:
        raise WrongCard(f"'runtime' must be one of {', '.join(OWN)}, got {brief(runtime)}")
    known = (*SHARED, *OWN[runtime])
    for key in raw:
        if key not in known:
            raise WrongCard(
                f"{brief(key)} is no key of a card with runtime {runtime}; "
                f"it may have {', '.join(known)}"
            )
    return ServingCard(
        directory=directory,
        flavors={runtime: {}},
        signature=_signature(raw.get("signature")),
        runtime=runtime,
        file=_file(raw) if runtime == ONNX else "",
        command=_command(raw) if runtime == COMMAND else (),
        url=_url(raw) if runtime == URL else "",
        model=_model(raw),
        start_seconds=_seconds(raw, "start_seconds", 60.0),
        answer_seconds=_seconds(raw, "answer_seconds", ANSWER_SECONDS),
        input_example=_example(raw),
    )


def _loaded(content: bytes) -> Any:
    if len(content) > MAX_BYTES:
        raise WrongCard(f"{NAME} is longer than {MAX_BYTES} bytes")
    try:
        found = yaml.safe_load(content)
    # Bytes that are no text, and brackets without end, raise the others.
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongCard(f"{NAME} is not readable as YAML: {error}") from error
    _check_size(found)
    return found


def _check_size(found: Any) -> None:
    """A few lines of aliases can name more values than fit into memory once they are written."""
    left, count = [found], 0
    while left:
        one = left.pop()
        count += 1
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)
        if count + len(left) > MAX_VALUES:
            raise WrongCard(f"{NAME} holds more than {MAX_VALUES} values")


def program(card: ServingCard) -> Path | None:
    """It gives the file among the artifacts that the command starts, None for the system's own."""
    name = card.command[0] if card.command else ""
    return card.directory / name if "/" in name and not name.startswith("/") else None


def address(url: str) -> tuple[str, int]:
    """It gives host and port of an address, as a list of allowed servers names them."""
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def is_allowed(url: str, allowed: list[str]) -> bool:
    """It tells whether "host:port" of the address is in the list."""
    host, port = address(url)
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" in {one.strip().lower() for one in allowed}


def _file(raw: dict[str, Any]) -> str:
    name = raw.get("file")
    if not isinstance(name, str) or not name:
        raise WrongCard(f"'file' must name the ONNX file among the artifacts, got {brief(name)}")
    _inside(name)
    return name


def _inside(name: str) -> None:
    if name.startswith("/") or ".." in name.split("/"):
        raise WrongCard(f"{name!r} must lie among the artifacts, without '/' in front or '..'")


def _command(raw: dict[str, Any]) -> tuple[str, ...]:
    words = raw.get("command")
    if not isinstance(words, list) or not words or not all(isinstance(w, str) for w in words):
        raise WrongCard(
            f"'command' must be a list of texts, as [node, server.js], got {brief(words)}"
        )
    if not words[0] or any("\0" in word for word in words):
        raise WrongCard("'command' must begin with a program and hold no zero bytes")
    if not words[0].startswith("/"):
        _inside(words[0])
    return tuple(words)


def _url(raw: dict[str, Any]) -> str:
    url = raw.get("url")
    parts = _split(url)
    if parts is None or parts.scheme not in _PORTS or not parts.hostname:
        raise WrongCard(f"'url' must be an address as http://host:port, got {brief(url)}")
    if parts.username is not None or parts.password is not None:
        raise WrongCard("'url' must hold no user and no password: everybody reads a card")
    if parts.query or parts.fragment:
        raise WrongCard(f"'url' must end with its path, got {brief(url)}")
    return str(url).rstrip("/")


def _split(url: Any) -> SplitResult | None:
    # A space or a line break would end the first line of each request early.
    if not isinstance(url, str) or not re.fullmatch(r"[!-~]+", url):
        return None
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:  # a port that is no number, or a half-open bracket
        return None


def _model(raw: dict[str, Any]) -> str:
    name = raw.get("model", "")
    if not isinstance(name, str) or (name and not re.fullmatch(r"[A-Za-z0-9._~-]+", name)):
        raise WrongCard(
            f"'model' must be a name of letters, digits and . _ ~ - only, got {brief(name)}"
        )
    return name


def _seconds(raw: dict[str, Any], key: str, default: float) -> float:
    value = raw.get(key, default)
    if type(value) not in (int, float) or not 0 < value <= MAX_SECONDS:
        raise WrongCard(
            f"{key!r} must be a number of seconds up to {MAX_SECONDS:g}, got {brief(value)}"
        )
    return float(value)


def _example(raw: dict[str, Any]) -> dict[str, Any] | None:
    example = raw.get("input_example")
    if example is not None and not isinstance(example, dict):
        raise WrongCard(
            "'input_example' must be a request: a V2 body, or one of dataframe_split, "
            f"dataframe_records, instances, inputs; got {brief(example)}"
        )
    return example


def _signature(raw: Any) -> Signature | None:
    if raw is None:
        return None
    if not isinstance(raw, dict) or not raw.get("inputs"):
        raise WrongCard("'signature' must be a mapping with 'inputs', a list of columns or tensors")
    for side in ("inputs", "outputs"):
        _check_specs(side, raw.get(side))
    inputs = raw["inputs"]
    if len({spec["type"] == "tensor" for spec in inputs}) > 1:
        raise WrongCard("the signature's inputs must be all columns or all tensors")
    names = [spec.get("name") for spec in inputs]
    if len(set(names)) < len(names):
        raise WrongCard("the signature's inputs must have names, each its own")
    return read_signature(raw)


def _check_specs(side: str, specs: Any) -> None:
    if specs is not None and not isinstance(specs, list):
        raise WrongCard(f"the signature's {side} must be a list, got {brief(specs)}")
    for number, spec in enumerate(specs or ()):
        what = f"{side}[{number}] of the signature"
        if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
            raise WrongCard(f"{what} must be a mapping with a 'type'")
        if spec["type"] == "tensor":
            _check_tensor(what, spec.get("tensor-spec"))
        elif side == "inputs" and (spec["type"] not in SCALARS or not spec.get("name")):
            raise WrongCard(
                f"{what} must have a 'name' and one of the types {', '.join(SCALARS)}, tensor; "
                f"got {brief(spec['type'])}"
            )


def _check_tensor(what: str, inner: Any) -> None:
    inner = inner if isinstance(inner, dict) else {}
    shape = inner.get("shape")
    is_shape = isinstance(shape, list) and shape and all(type(n) is int and n >= -1 for n in shape)
    if not is_shape or inner.get("dtype") not in DTYPES:
        raise WrongCard(
            f"{what} must have a 'tensor-spec' with a 'shape' of integers (-1 for any) and a "
            f"'dtype' of {', '.join(DTYPES)}"
        )
