"""It says when a model may be asked without MLflow, and what every such way has in common."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server import inputs
from model_server.errors import NotLoadable
from model_server.mlmodel import ModelCard, Signature

Call = Callable[[Any], Any]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Direct:
    """It is a way to ask a model without MLflow; columns, if it has any, are built into a form."""

    loader: str
    call: Call
    form: inputs.Form | None


def flavor(card: ModelCard, name: str) -> dict[str, Any] | None:
    """It returns the flavor's configuration if MLflow would add nothing of the author's to it."""
    found = card.flavors.get(name)
    signature = card.signature
    if not found or signature is None or card.pyfunc.get("loader_module") != f"mlflow.{name}":
        return None
    # Modules of the author may do anything, and parameters have meanings that MLflow knows.
    if found.get("code") or card.pyfunc.get("code") or signature.params:
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


def matrix(signature: Signature) -> inputs.Matrix | None:
    """It builds columns into doubles: trees split on them, and integers would lose digits."""
    return inputs.Matrix(signature.columns, np.float64) if signature.columns else None


def trial_rows(columns: int) -> Array:
    """It makes rows that take both sides of most splits: small, large, zero and not known."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(24, columns)) * np.logspace(-1, 3, 24)[:, None]
    rows[20:22] = 0
    rows[22:] = np.where(rng.random((2, columns)) < 0.5, np.nan, rows[22:])
    return rows


def is_same(candidate: Call, reference: Call, rows: Array) -> bool:
    """It tells whether both answer alike, for the table and for each row alone."""
    try:
        for part in (rows, *(rows[i : i + 1] for i in range(len(rows)))):
            got, wanted = candidate(part), reference(part)
            if got.dtype != wanted.dtype or not np.array_equal(got, wanted):
                return False
    except Exception:  # noqa: BLE001 - whatever it raises, it is not as good as the reference
        return False
    return True


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
