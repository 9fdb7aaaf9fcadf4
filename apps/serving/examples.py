"""How to call an endpoint: commands that work as they stand, with a real row of the model's own."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.builds.models import Build
from apps.serving.models import Endpoint

MOST_BYTES = 1 << 20
DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
}
SAMPLES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 0.5,
    "double": 0.5,
    "datetime": "2026-01-31T12:00:00",
}


@dataclass(frozen=True)
class Call:
    title: str
    command: str


def calls(endpoint: Endpoint, build: Build) -> list[Call]:
    """It gives one command for each protocol; none when the model tells nothing of its input."""
    row = _row(build)
    if row is None:
        return []
    root = f"{settings.GATEWAY_URL}/{endpoint.environment.name}"
    name = endpoint.name
    split = {"dataframe_split": {"columns": list(row), "data": [list(row.values())]}}
    return [
        Call(
            "Open Inference Protocol V2", _curl(f"{root}/v2/models/{name}/infer", _v2(build, row))
        ),
        Call("KServe V1", _curl(f"{root}/v1/models/{name}:predict", {"instances": [row]})),
        Call("MLflow scoring", _curl(f"{root}/endpoints/{name}/invocations", split)),
    ]


def is_real(build: Build) -> bool:
    """It answers whether the row is the one that the model was logged with."""
    return _example_row(build) is not None


def _curl(url: str, body: Mapping[str, Any]) -> str:
    return (
        f"curl -H 'Content-Type: application/json' {url} \\\n  -d {shlex.quote(json.dumps(body))}"
    )


def _row(build: Build) -> dict[str, Any] | None:
    return _example_row(build) or _sample_row(build.signature.get("inputs") or [])


def _sample_row(columns: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A row of the right types. Not for tensors: their shape says nothing about a row's names."""
    if not columns or any(column.get("type") == "tensor" for column in columns):
        return None
    return {
        str(column.get("name") or place): SAMPLES.get(str(column.get("type")), "text")
        for place, column in enumerate(columns)
    }


def _example_row(build: Build) -> dict[str, Any] | None:
    """The first row of the input example that lies in the bundle."""
    if not build.bundle_path:
        return None
    path = Path(build.bundle_path) / "model" / "serving_input_example.json"
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        split = json.loads(path.read_bytes())["dataframe_split"]
        return dict(zip(map(str, split["columns"]), split["data"][0], strict=True))
    except (OSError, ValueError, LookupError, TypeError):
        return None  # no example, or one of another form: the signature has to do


def _v2(build: Build, row: Mapping[str, Any]) -> dict[str, Any]:
    types = {str(c.get("name")): c.get("type") for c in build.signature.get("inputs") or []}
    return {
        "inputs": [
            {
                "name": name,
                "shape": [1],
                "datatype": DATATYPES.get(str(types.get(name)), _datatype(value)),
                "data": [value],
            }
            for name, value in row.items()
        ]
    }


def _datatype(value: object) -> str:
    if isinstance(value, bool):
        return "BOOL"
    if isinstance(value, int):
        return "INT64"
    return "FP64" if isinstance(value, float) else "BYTES"
