"""It says what a protocol is: how a body becomes a payload and a result becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from model_server.mlmodel import Signature
from model_server.payload import Payload


@dataclass(frozen=True)
class Asked:
    """It is one parsed request: its payload, its parameters, and the id it gave itself."""

    payload: Payload
    params: dict[str, Any] | None = None
    id: str | None = None


@dataclass(frozen=True)
class Served:
    """It is what an answer says about who gave it."""

    endpoint: str
    version: str
    output_name: str


class Format(Protocol):
    """It is one inference protocol."""

    name: str

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads the body and raises BadRequest with words for the caller."""

    def render(self, result: Any, asked: Asked, served: Served) -> bytes:
        """It writes the model's result as a body."""

    def error(self, status: int, message: str) -> bytes:
        """It writes a refusal or a failure as a body."""
