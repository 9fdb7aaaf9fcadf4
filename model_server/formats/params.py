"""It checks a request's params as MLflow does: unknown names are ignored, wrong types refused.

Source: mlflow.models.utils._enforce_params_schema, 3.17.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from model_server.errors import BadRequest, brief
from model_server.mlmodel import Param


def check(params: tuple[Param, ...], given: dict[str, Any] | None) -> None:
    """It raises BadRequest with the name of the first parameter of a wrong type."""
    for param in params:
        if given and param.name in given:
            _check(param, given[param.name])


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
