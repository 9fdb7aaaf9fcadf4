"""It loads a model: directly where a flavor and its signature allow, else through pyfunc."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_server import enforce, inputs, mlmodel
from model_server.errors import NotLoadable
from model_server.formats.scoring import Scoring
from model_server.loading import lightgbm, onnx, sklearn, xgboost
from model_server.mlmodel import ModelCard, Signature
from model_server.payload import Payload

DIRECT = "sklearn-direct"
PYFUNC = "pyfunc"
WAYS = (lightgbm.load, xgboost.load, onnx.load)


class LoadedModel:
    """It is a model in memory, ready to answer payloads."""

    def __init__(
        self,
        card: ModelCard,
        loader: str,
        call: Callable[..., Any],
        target: Any = None,
        form: inputs.Form | None = None,
    ) -> None:
        self.card = card
        self.loader = loader
        self.unknown_columns = 0
        self._call = call
        self._params = card.signature.params if card.signature else ()
        self._build = self._builder(card.signature, target, form)

    def prepare(self, payload: Payload) -> Any:
        """It checks a payload and builds the model's input; what it raises is the caller's."""
        return self._build(payload)

    def call(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """It asks the model itself; whatever it raises is the model's fault."""
        if params and self._params and self.loader == PYFUNC:
            return self._call(data, params=params)
        return self._call(data)

    def _builder(
        self, signature: Signature | None, target: Any, form: inputs.Form | None
    ) -> Callable[[Payload], Any]:
        if signature is None or not (signature.columns or signature.tensors):
            return inputs.loose
        if signature.tensors:
            return inputs.Tensors(signature.tensors).build
        columns = signature.columns
        if form is None and self.loader == DIRECT:
            form = sklearn.form(target, self._call, signature)
        build = (form or inputs.Frame(columns)).build

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
        target = sklearn.load(directory, flavor)
        call = getattr(target, card.predict_fn, None)
        if not callable(call):
            raise NotLoadable(f"the model has no method {card.predict_fn!r}")
        return LoadedModel(card, DIRECT, call, target)
    for way in WAYS:
        found = way(card)
        if found is not None:
            return LoadedModel(card, found.loader, found.call, form=found.form)
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    target = pyfunc.load_model(str(directory))
    return LoadedModel(card, PYFUNC, target.predict)


def example_payload(card: ModelCard) -> tuple[Payload, dict[str, Any] | None] | None:
    """It returns the saved input example as a payload with its parameters, or None."""
    example = card.example()
    if example is None:
        return None
    asked = Scoring().parse(example, card.signature)
    return asked.payload, asked.params
