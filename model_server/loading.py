"""It loads a model: scikit-learn's objects directly, every other flavor through pyfunc."""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs, mlmodel
from model_server.errors import NotLoadable
from model_server.formats.scoring import Scoring
from model_server.mlmodel import ModelCard, Signature
from model_server.payload import Payload

DIRECT = "sklearn-direct"
PYFUNC = "pyfunc"


class LoadedModel:
    """It is a model in memory, ready to answer payloads."""

    def __init__(self, card: ModelCard, loader: str, call: Callable[..., Any], target: Any) -> None:
        self.card = card
        self.loader = loader
        self.unknown_columns = 0
        self._call = call
        self._params = card.signature.params if card.signature else ()
        self._build = self._builder(card.signature, target)

    def prepare(self, payload: Payload) -> Any:
        """It checks a payload and builds the model's input; what it raises is the caller's."""
        return self._build(payload)

    def call(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """It asks the model itself; whatever it raises is the model's fault."""
        if params and self._params and self.loader == PYFUNC:
            return self._call(data, params=params)
        return self._call(data)

    def _builder(self, signature: Signature | None, target: Any) -> Callable[[Payload], Any]:
        if signature is None or not (signature.columns or signature.tensors):
            return inputs.loose
        if signature.tensors:
            return inputs.Tensors(signature.tensors).build
        columns = signature.columns
        builder: inputs.Matrix | inputs.Frame
        if self.loader == DIRECT and _takes_array(target, self._call, signature):
            builder = inputs.Matrix(columns)
        else:
            builder = inputs.Frame(columns)
        build = builder.build

        def checked(payload: Payload) -> Any:
            found = enforce.enforce(columns, payload)
            self.unknown_columns += found.unknown
            return build(found)

        return checked


def load(directory: Path) -> LoadedModel:
    """It reads MLmodel and loads the model by the shortest way its flavor allows."""
    card = mlmodel.read(directory)
    # scikit-learn would warn at every request, although names and order were checked.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    warnings.filterwarnings("ignore", message="X has feature names, but")
    flavor = card.flavors.get("sklearn")
    if flavor and card.pyfunc.get("loader_module", "mlflow.sklearn") == "mlflow.sklearn":
        target = _sklearn(directory, flavor)
        call = getattr(target, card.predict_fn, None)
        if not callable(call):
            raise NotLoadable(f"the model has no method {card.predict_fn!r}")
        return LoadedModel(card, DIRECT, call, target)
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    target = pyfunc.load_model(str(directory))
    return LoadedModel(card, PYFUNC, target.predict, target)


def example_payload(card: ModelCard) -> tuple[Payload, dict[str, Any] | None] | None:
    """It returns the saved input example as a payload with its parameters, or None."""
    example = card.example()
    if example is None:
        return None
    asked = Scoring().parse(example, card.signature)
    return asked.payload, asked.params


def _sklearn(directory: Path, flavor: dict[str, Any]) -> Any:
    code = flavor.get("code")
    if code:
        # Modules logged with the model must be importable before it is unpickled.
        sys.path.insert(0, str(directory / str(code)))
    path = directory / str(flavor.get("pickled_model"))
    kind = flavor.get("serialization_format", "pickle")
    if not path.is_file():
        raise NotLoadable(f"the model file {path.name!r} is missing")
    if kind == "skops":
        skops: Any = importlib.import_module("skops.io")
        return skops.load(path, trusted=flavor.get("skops_trusted_types"))
    with path.open("rb") as file:
        if kind == "cloudpickle":
            cloudpickle: Any = importlib.import_module("cloudpickle")
            return cloudpickle.load(file)
        if kind == "pickle":
            return pickle.load(file)
    raise NotLoadable(f"the serialization format {kind!r} is not known")


def _takes_array(target: Any, call: Callable[..., Any], signature: Signature) -> bool:
    """It decides whether an array is as good as a DataFrame: same columns, same order, no error."""
    columns = signature.columns
    if not inputs.is_numeric(columns):
        return False
    fitted = getattr(target, "feature_names_in_", None)
    if fitted is not None:
        # Names in another order would be read by position and answered wrongly, silently.
        if list(fitted) != [column.name for column in columns]:
            return False
    elif getattr(target, "n_features_in_", None) != len(columns):
        return False
    trial = inputs.Matrix(columns).build(
        enforce.Checked({column.name: [0] for column in columns}, 1, 0)
    )
    try:
        with np.errstate(all="ignore"):
            call(trial)
    except Exception:  # noqa: BLE001 - whatever the model raises, a DataFrame is the safe form
        return False
    return True
