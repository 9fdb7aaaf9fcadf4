"""It speaks the MLflow scoring format of /invocations."""

from __future__ import annotations

from typing import Any

from model_server.answers import dumps, plain
from model_server.errors import BadRequest
from model_server.formats import Asked, Served
from model_server.mlmodel import Signature
from model_server.payload import from_inputs, from_records, from_rows, from_split

KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")


class Scoring:
    """It is the MLflow scoring format."""

    name = "mlflow"

    def parse(self, body: dict[str, Any], signature: Signature | None) -> Asked:
        """It reads exactly one of the four input forms, and params."""
        given = [key for key in KEYS if key in body]
        if len(given) != 1:
            raise BadRequest(f"the body must hold exactly one of {', '.join(KEYS)}")
        params = body.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadRequest("params must be an object")
        key = given[0]
        value = body[key]
        if key == "dataframe_split":
            return Asked(from_split(value), params)
        if key == "dataframe_records":
            return Asked(from_records(value, what=key), params)
        if key == "instances":
            return Asked(from_rows(value, what=key), params)
        return Asked(from_inputs(value), params)

    def render(self, result: Any, asked: Asked, served: Served) -> bytes:
        """It writes {"predictions": [...]}."""
        return dumps({"predictions": plain(result)})

    def error(self, status: int, message: str) -> bytes:
        """It writes MLflow's error object."""
        code = "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
        return dumps({"error_code": code, "message": message})
