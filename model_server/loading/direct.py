"""It says when a model may be asked without MLflow, and what every such way has in common."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server import inputs
from model_server.errors import NotLoadable
from model_server.mlmodel import Column, ModelCard, Signature

Call = Callable[[Any], Any]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Direct:
    """It is a way to ask a model without MLflow; columns, if it has any, are built into a form."""

    loader: str
    call: Call
    form: inputs.Form | None
    check: Callable[[Any], None] | None = None


def flavor(card: ModelCard, name: str) -> dict[str, Any] | None:
    """It returns the flavor's configuration if MLflow would add nothing of the author's to it."""
    found = card.flavors.get(name)
    signature = card.signature
    if not found or signature is None or card.pyfunc.get("loader_module") != f"mlflow.{name}":
        return None
    # Modules of the author may do anything, and parameters have meanings that MLflow knows.
    if found.get("code") or card.pyfunc.get("code") or card.params:
        return None
    return found


def width(signature: Signature) -> int | None:
    """It returns how many numbers a row has, or None where rows are something else."""
    if inputs.is_numeric(signature.columns):
        return len(signature.columns)
    if signature.columns or len(signature.tensors) != 1:
        return None
    tensor = signature.tensors[0]
    is_table = len(tensor.shape) == 2 and tensor.shape[0] == -1 and tensor.shape[1] > 0
    if tensor.name is None and is_table and tensor.dtype in ("float32", "float64"):
        return tensor.shape[1]
    return None


def form(fitted: Sequence[str] | None, signature: Signature) -> inputs.Form | None:
    """It reads columns by name, in whatever order they were fitted; None where names differ."""
    columns = as_fitted(fitted, signature.columns) if fitted else signature.columns
    if not columns:
        return None
    # Trees split on doubles, and integers would lose digits.
    return by_name(inputs.Matrix(columns, np.float64), columns, signature)


def as_fitted(fitted: Sequence[str], columns: tuple[Column, ...]) -> tuple[Column, ...] | None:
    """It returns the columns in the order of fitting, or None where other names were fitted."""
    known = {column.name: column for column in columns}
    if set(fitted) != set(known) or len(fitted) != len(columns):
        # LightGBM keeps no spaces in names.
        known = {column.name.replace(" ", "_"): column for column in columns}
    if set(fitted) != set(known) or len(fitted) != len(columns):
        return None
    return tuple(known[name] for name in fitted)


def by_name(form: inputs.Form, columns: tuple[Column, ...], signature: Signature) -> inputs.Form:
    """It hands columns to a form in the order of fitting; callers give them in the signature's."""
    if columns == signature.columns:
        return form
    return inputs.Reordered([column.name for column in columns], form)


def hold_to_order(fitted: Sequence[str], columns: tuple[Column, ...]) -> None:
    """It refuses a model that reads by position what was fitted in another order."""
    places = {name: place for place, name in enumerate(fitted)}
    for place, column in enumerate(columns):
        fitted_place = places.get(column.name, places.get(column.name.replace(" ", "_"), place))
        if fitted_place != place:
            raise NotLoadable(
                f"column {column.name!r} is number {place + 1} in the signature, but the model was"
                f" fitted with it as number {fitted_place + 1} and reads columns by position:"
                " log it with a signature in the order of fitting"
            )


def trial_rows(columns: int) -> Array:
    """It makes rows that take both sides of most splits: small, large, zero and not known."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(24, columns)) * np.logspace(-1, 3, 24)[:, None]
    rows[20:22] = 0
    rows[22:] = np.where(rng.random((2, columns)) < 0.5, np.nan, rows[22:])
    return rows


def is_same(candidate: Call, reference: Call, rows: Array) -> bool:
    """It tells whether both answer alike, bit by bit, for the table and for each row alone."""
    try:
        for part in (rows, *(rows[i : i + 1] for i in range(len(rows)))):
            if not _is_equal(candidate(part), reference(part)):
                return False
    except Exception:  # noqa: BLE001 - whatever it raises, it is not as good as the reference
        return False
    return True


def _is_equal(got: Array, wanted: Array) -> bool:
    if (got.dtype, got.shape) != (wanted.dtype, wanted.shape):
        return False
    # The bytes tell zeros of either sign apart, and a NaN equals itself; objects are pointers.
    is_object = wanted.dtype.kind == "O"
    return np.array_equal(got, wanted) if is_object else got.tobytes() == wanted.tobytes()


def unpickled(path: Path, kind: str, trusted: list[str] | None) -> Any:
    """It loads an object in the form that MLflow calls its serialization format."""
    if not path.is_file():
        raise NotLoadable(f"the model file {path.name!r} is missing")
    if kind == "skops":
        skops: Any = importlib.import_module("skops.io")
        return skops.load(path, trusted=trusted)
    with path.open("rb") as file:
        if kind == "cloudpickle":
            cloudpickle: Any = importlib.import_module("cloudpickle")
            return cloudpickle.load(file)
        if kind == "pickle":
            return pickle.load(file)
    raise NotLoadable(f"the serialization format {kind!r} is not known")
