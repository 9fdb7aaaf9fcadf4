"""It loads scikit-learn's objects and decides whether an array is as good as a DataFrame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs
from model_server.loading import direct
from model_server.mlmodel import Signature


def load(directory: Path, flavor: dict[str, Any]) -> Any:
    """It loads the object from its file."""
    code = flavor.get("code")
    if code:
        # Modules logged with the model must be importable before it is unpickled.
        sys.path.insert(0, str(directory / str(code)))
    path = directory / str(flavor.get("pickled_model"))
    kind = flavor.get("serialization_format", "pickle")
    return direct.unpickled(path, kind, flavor.get("skops_trusted_types"))


def form(target: Any, call: Callable[..., Any], signature: Signature) -> inputs.Matrix | None:
    """It returns an array's form if it is as good as a DataFrame: same columns, same order."""
    columns = signature.columns
    if not inputs.is_numeric(columns):
        return None
    fitted = getattr(target, "feature_names_in_", None)
    if fitted is not None:
        # Names in another order would be read by position and answered wrongly, silently.
        if list(fitted) != [column.name for column in columns]:
            return None
    elif getattr(target, "n_features_in_", None) != len(columns):
        return None
    matrix = inputs.Matrix(columns)
    trial = matrix.build(enforce.Checked({column.name: [0] for column in columns}, 1, 0))
    try:
        with np.errstate(all="ignore"):
            call(trial)
    except Exception:  # noqa: BLE001 - whatever the model raises, a DataFrame is the safe form
        return None
    return matrix
