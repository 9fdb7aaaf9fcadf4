"""It loads a model: directly where a flavor and its signature allow, else through pyfunc."""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from model_server import enforce, inputs, mlmodel
from model_server.errors import NotLoadable
from model_server.formats.scoring import Scoring
from model_server.formats.v2 import V2
from model_server.loading import direct, lightgbm, onnx, short, sklearn, xgboost
from model_server.loading.direct import Array
from model_server.mlmodel import ModelCard, Signature
from model_server.payload import Payload

DIRECT = "sklearn-direct"
SHORT = "sklearn-short"
PYFUNC = "pyfunc"
SAMPLE_ROWS = 100
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
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self.card = card
        self.loader = loader
        self.unknown_columns = 0
        self._call = call
        self.form = form
        self._check = check
        self._build = self._builder(card.signature, target)

    def prepare(self, payload: Payload) -> Any:
        """It checks a payload and builds the model's input; what it raises is the caller's."""
        data = self._build(payload)
        if self._check is not None:
            self._check(data)
        return data

    def call(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """It asks the model itself; whatever it raises is the model's fault."""
        if params and self.card.params and self.loader == PYFUNC:
            return self._call(data, params=params)
        return self._call(data)

    def answer_example(self) -> tuple[int, Any] | None:
        """It answers the saved input example: how many rows it has, and the result; or None."""
        found = example_payload(self.card)
        if found is None:
            return None
        payload, params = found
        return payload.rows, self.call(self.prepare(payload), params)

    def watch(self, ended: Callable[[str, int], None]) -> None:
        """It calls back when what answers ends by itself; what is in this process does not."""

    def close(self) -> None:
        """It ends what was started for the model."""

    def _builder(self, signature: Signature | None, target: Any) -> Callable[[Payload], Any]:
        if signature is None or not (signature.columns or signature.tensors):
            return inputs.loose
        if signature.tensors:
            return inputs.Tensors(signature.tensors).build
        columns = signature.columns
        if self.form is None and self.loader == DIRECT:
            self.form = sklearn.form(target, self._call, signature)
        form = self.form or inputs.Frame(columns)
        build = form.build
        at_once = form.at_once if isinstance(form, inputs.Matrix) else None

        def checked(payload: Payload) -> Any:
            if at_once is not None and (plain := at_once(payload)) is not None:
                return plain
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
        return _through_sklearn(card, sklearn.load(directory, flavor))
    for way in WAYS:
        found = way(card)
        if found is not None:
            return LoadedModel(card, found.loader, found.call, form=found.form, check=found.check)
    return _through_pyfunc(card)


def _through_sklearn(card: ModelCard, target: Any) -> LoadedModel:
    call = getattr(target, card.predict_fn, None)
    if not callable(call):
        raise NotLoadable(f"the model has no method {card.predict_fn!r}")
    is_xgboost = type(target).__module__ == "xgboost.sklearn"
    check = xgboost.check(target, card.signature) if is_xgboost and card.signature else None
    model = LoadedModel(card, DIRECT, call, target, check=check)
    rows = _sample(model)
    shorter = None if rows is None else short.shortened(target, card.predict_fn, call, rows)
    if shorter is None:
        return model
    return LoadedModel(card, SHORT, shorter, form=model.form, check=check)


def _sample(model: LoadedModel) -> Array | None:
    """It returns rows of the input example as they are served, or None where rows are no array."""
    signature = model.card.signature
    width = direct.width(signature) if signature else None
    if signature is None or width is None:
        return None
    dtype = getattr(model.form, "dtype", None) if signature.columns else signature.tensors[0].dtype
    if dtype is None or np.dtype(dtype).kind not in "iuf":
        return None
    # A bad example is no reason to be slow: it is reported when the server warms up.
    with contextlib.suppress(Exception):
        found = example_payload(model.card)
        rows = model.prepare(found[0]) if found else None
        if isinstance(rows, np.ndarray) and rows.shape[1:] == (width,):
            finite: Array = rows[np.isfinite(rows).all(axis=1)]
            return finite[:SAMPLE_ROWS]
    return np.empty((0, width), dtype)


def _through_pyfunc(card: ModelCard) -> LoadedModel:
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    target = pyfunc.load_model(str(card.directory))
    module = card.pyfunc.get("loader_module")
    check = None
    if card.signature is not None and module in ("mlflow.lightgbm", "mlflow.xgboost"):
        model = target.get_raw_model()
        if module == "mlflow.lightgbm":
            lightgbm.hold_to_order(model, card.signature.columns)
        else:
            check = xgboost.check(model, card.signature)
    return LoadedModel(card, PYFUNC, target.predict, check=check)


def example_payload(card: ModelCard) -> tuple[Payload, dict[str, Any] | None] | None:
    """It returns the saved input example as a payload with its parameters, or None."""
    example = card.example()
    if example is None:
        return None
    asked = (V2() if is_v2(example) else Scoring()).parse(example, card.signature)
    return asked.payload, asked.params


def is_v2(example: dict[str, Any]) -> bool:
    """It tells a V2 body from the scoring format's rows, which are called inputs too."""
    tensors = example.get("inputs")
    if not isinstance(tensors, list) or not tensors:
        return False
    return all(isinstance(one, dict) and {"shape", "datatype"} <= one.keys() for one in tensors)
