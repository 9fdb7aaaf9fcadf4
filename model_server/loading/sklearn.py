"""It loads scikit-learn's objects and decides whether an array is as good as a DataFrame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs
from model_server.loading import direct
from model_server.mlmodel import Column, Signature


def load(directory: Path, flavor: dict[str, Any]) -> Any:
    """It loads the object from its file."""
    code = flavor.get("code")
    if code:
        # Modules logged with the model must be importable before it is unpickled.
        sys.path.insert(0, str(directory / str(code)))
    path = directory / str(flavor.get("pickled_model"))
    kind = flavor.get("serialization_format", "pickle")
    return direct.unpickled(path, kind, flavor.get("skops_trusted_types"))


def form(target: Any, call: Callable[..., Any], signature: Signature) -> inputs.Form:
    """It returns an array's form if it is as good as a DataFrame, in the order of fitting."""
    columns = signature.columns
    fitted = _fitted(target)
    if fitted is not None:
        # In another order they would be read by position and answered wrongly, silently.
        named = direct.as_fitted(fitted, columns)
        if named is None:
            _hold_to_order(target, fitted, columns)
            return inputs.Frame(columns)
        columns = named
    elif getattr(target, "n_features_in_", None) != len(columns):
        return inputs.Frame(columns)
    return direct.by_name(
        _matrix(target, call, columns) or inputs.Frame(columns), columns, signature
    )


def _fitted(target: Any) -> list[str] | None:
    names = getattr(target, "feature_names_in_", None)
    if names is None:
        return None
    fitted = [str(name) for name in names]
    is_nameless = fitted == [f"Column_{number}" for number in range(len(fitted))]
    return None if is_nameless and _is_of(target, "lightgbm") else fitted


def _hold_to_order(target: Any, fitted: list[str], columns: tuple[Column, ...]) -> None:
    """It finds LightGBM where it is asked as it is: alone, or first, or as the best of a search."""
    first = getattr(target, "best_estimator_", target)
    steps = getattr(first, "steps", None)
    if _is_of(steps[0][1] if steps else first, "lightgbm"):
        direct.hold_to_order(fitted, columns)


def _is_of(model: Any, library: str) -> bool:
    return type(model).__module__.partition(".")[0] == library


def _matrix(
    target: Any, call: Callable[..., Any], columns: tuple[Column, ...]
) -> inputs.Matrix | None:
    if not inputs.is_numeric(columns):
        return None
    is_boosted = _is_of(target, "lightgbm") or _is_of(target, "xgboost")
    # A DataFrame's categories would be checked, and an array's be taken for their codes.
    if is_boosted and _has_categories(target):
        return None
    # LightGBM makes single precision of an array of integers.
    matrix = inputs.Matrix(columns, np.float64 if is_boosted else None)
    trial = matrix.build(enforce.Checked({column.name: [0] for column in columns}, 1, 0))
    try:
        with np.errstate(all="ignore"):
            call(trial)
    except Exception:  # noqa: BLE001 - whatever the model raises, a DataFrame is the safe form
        return None
    return matrix


def _has_categories(target: Any) -> bool:
    if _is_of(target, "lightgbm"):
        return bool(target.booster_.pandas_categorical)
    return "c" in (target.get_booster().feature_types or ())
