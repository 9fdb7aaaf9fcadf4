"""It speaks the MLflow scoring format of /invocations."""

from __future__ import annotations

from typing import Any

from model_server.answers import dumps, plain
from model_server.errors import BadRequest, Unsupported, brief
from model_server.formats import Answer, Asked, Body, Sent, Served, csv_table
from model_server.formats.reading import loads
from model_server.mlmodel import Signature
from model_server.payload import from_inputs, from_records, from_rows, from_split

KEYS = ("dataframe_split", "dataframe_records", "instances", "inputs")
JSON, CSV = "application/json", "text/csv"


class Scoring:
    """It is the MLflow scoring format."""

    name = "mlflow"

    def read(self, sent: Sent, signature: Signature | None) -> Body:
        """It reads JSON, or a CSV table into the form of dataframe_split."""
        if _kind(sent.content_type) == JSON:
            return Body(loads(sent.content), sent.content)
        table = {"dataframe_split": csv_table.read(sent.content, signature)}
        return Body(table, dumps(table))

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

    def render(self, result: Any, asked: Asked, served: Served) -> Answer:
        """It writes {"predictions": [...]}."""
        return Answer(dumps({"predictions": plain(result)}))

    def error(self, status: int, message: str) -> bytes:
        """It writes MLflow's error object."""
        code = "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"
        return dumps({"error_code": code, "message": message})


def _kind(content_type: str) -> str:
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    # Many who post JSON by hand do not say so.
    kind = kind.lower() or JSON
    if kind not in (JSON, CSV):
        raise Unsupported(f"the content type must be {JSON} or {CSV}, got {brief(content_type)}")
    for parameter in filter(None, parameters):
        name, _, value = parameter.partition("=")
        if name.strip().lower() != "charset":
            raise Unsupported(f"the content type has an unknown parameter {brief(parameter)}")
        if value.strip(' "').lower() not in ("utf-8", "utf8"):
            raise Unsupported(f"the charset must be utf-8, got {brief(value)}")
    return kind
