"""It speaks the KServe V1 protocol: instances in, predictions out."""

from __future__ import annotations

from typing import Any

from model_server.answers import dumps, plain
from model_server.errors import BadRequest
from model_server.formats import Answer, Asked, Body, Sent, Served
from model_server.formats.reading import loads
from model_server.mlmodel import Signature
from model_server.payload import from_inputs, from_rows


class V1:
    """It is the V1 protocol."""

    name = "v1"

    def read(self, sent: Sent, signature: Signature | None) -> Body:
        """It reads JSON."""
        return Body(loads(sent.content), sent.content)

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads {"instances": [...]} or the column-wise {"inputs": {...}}."""
        if "instances" in body:
            return Asked(from_rows(body["instances"], what="instances"))
        if "inputs" in body:
            return Asked(from_inputs(body["inputs"]))
        raise BadRequest("the body must hold 'instances'")

    def render(self, result: Any, asked: Asked, served: Served) -> Answer:
        """It writes {"predictions": [...]}."""
        return Answer(dumps({"predictions": plain(result)}))

    def error(self, status: int, message: str) -> bytes:
        """It writes {"error": "..."}."""
        return dumps({"error": message})
