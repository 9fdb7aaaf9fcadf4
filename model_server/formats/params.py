"""It checks a request's params as MLflow does: unknown names are ignored, wrong types refused.

Source: mlflow.models.utils._enforce_params_schema, 3.17.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from model_server.errors import BadRequest, brief


@dataclass(frozen=True)
class Param:
    """It is one declared parameter; a type that MLflow does not call a scalar is not checked."""

    name: str
    type: str
    is_list: bool = False


def declared(directory: Path) -> tuple[Param, ...]:
    """It reads which parameters the model in a directory declares."""
    try:
        content = yaml.safe_load((directory / "MLmodel").read_bytes())
    except (OSError, yaml.YAMLError):
        return ()
    raw = (content.get("signature") or {}).get("params")
    specs = json.loads(raw) if isinstance(raw, str) else raw
    return tuple(_param(spec) for spec in specs or () if isinstance(spec, dict))


def check(params: tuple[Param, ...], given: dict[str, Any] | None) -> None:
    """It raises BadRequest with the name of the first parameter of a wrong type."""
    for param in params:
        if given and param.name in given:
            _check(param, given[param.name])


def _param(spec: dict[str, Any]) -> Param:
    kind = spec.get("type") or spec.get("dtype")
    return Param(str(spec.get("name")), str(kind), is_list=spec.get("shape") is not None)


def _check(param: Param, value: Any) -> None:
    if param.is_list and not isinstance(value, list):
        raise BadRequest(f"param {param.name!r} must be a list of {param.type}, got {brief(value)}")
    fits = _FITS.get(param.type)
    for element in value if param.is_list else [value]:
        if fits and element is not None and not fits(element):
            raise BadRequest(f"param {param.name!r} must be {param.type}, got {brief(element)}")


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and not isinstance(np.datetime64(value).item(), int)
    except ValueError:
        return False


_FITS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "long": _is_integer,
    "float": _is_number,
    "double": _is_number,
    "string": lambda value: isinstance(value, str),
    "datetime": _is_time,
}
