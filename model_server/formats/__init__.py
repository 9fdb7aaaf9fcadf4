"""It says what a protocol is: how a body becomes a payload and a result becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from model_server.mlmodel import Signature
from model_server.payload import Payload


@dataclass(frozen=True)
class Sent:
    """It is a body as it came, and what its headers say about it."""

    content: bytes
    content_type: str = ""
    header_length: str | None = None  # how much of a V2 body is JSON, where tensors follow it


@dataclass(frozen=True)
class Body:
    """It is a body that was read: the value that JSON has for it, and the JSON to record.

    A binary tensor's "data" is an array, which no JSON gives.
    """

    value: Any
    record: bytes


@dataclass(frozen=True)
class Wishes:
    """It is which outputs a caller wants, and which of them in binary; None means all of them."""

    binary: bool = False
    outputs: dict[str, bool] | None = None


@dataclass(frozen=True)
class Asked:
    """It is one parsed request: its payload, its parameters, and the id it gave itself."""

    payload: Payload
    params: dict[str, Any] | None = None
    id: str | None = None
    wishes: Wishes = field(default_factory=Wishes)


@dataclass(frozen=True)
class Answer:
    """It is a body to send; one that holds binary tensors says what is recorded in its place."""

    content: bytes
    header_length: int | None = None
    shown: bytes | None = None

    @property
    def record(self) -> bytes:
        """It is the answer as JSON."""
        return self.content if self.shown is None else self.shown


@dataclass(frozen=True)
class Served:
    """It is what an answer says about who gave it."""

    endpoint: str
    version: str
    output_name: str


class Format(Protocol):
    """It is one inference protocol."""

    name: str

    def read(self, sent: Sent, signature: Signature | None) -> Body:
        """It reads the bytes and raises BadRequest with words for the caller."""

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads the body and raises BadRequest with words for the caller."""

    def render(self, result: Any, asked: Asked, served: Served) -> Answer:
        """It writes the model's result; BadRequest when the caller wants what is not in it."""

    def error(self, status: int, message: str) -> bytes:
        """It writes a refusal or a failure as a body."""
