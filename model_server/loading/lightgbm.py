"""It asks LightGBM models with an array, on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import Column, ModelCard

LOADER = "lightgbm-direct"
_BOOSTER = "lightgbm.basic.Booster"
ESTIMATORS = {"LGBMClassifier", "LGBMModel", "LGBMRanker", "LGBMRegressor"}


def load(card: ModelCard) -> Direct | None:
    """It loads the model, or returns None where an array may not be as good as a DataFrame."""
    flavor = direct.flavor(card, "lightgbm")
    if flavor is None or card.signature is None:
        return None
    kind = str(flavor.get("model_class", _BOOSTER))
    columns = direct.width(card.signature)
    if columns is None or kind not in {
        _BOOSTER,
        *(f"lightgbm.sklearn.{name}" for name in ESTIMATORS),
    }:
        return None
    library: Any = importlib.import_module("lightgbm")
    path = card.directory / str(flavor.get("data"))
    if kind == _BOOSTER:
        model = booster = library.Booster(model_file=str(path))
    else:
        form = str(flavor.get("serialization_format", "cloudpickle"))
        model = direct.unpickled(path, form, flavor.get("skops_trusted_types"))
        booster = model.booster_
    if booster.pandas_categorical or booster.num_feature() != columns:
        return None
    call = _call(model, booster, columns)
    if call is None or not card.signature.columns:
        return call and Direct(LOADER, call, None)
    # By name, where MLflow would read by position.
    built = direct.form(names(booster), card.signature)
    return None if built is None else Direct(LOADER, call, built)


def hold_to_order(model: Any, columns: tuple[Column, ...]) -> None:
    """It refuses a signature in another order than the fit: MLflow would read by position."""
    fitted = names(model)
    if fitted is not None:
        direct.hold_to_order(fitted, columns)


def names(model: Any) -> list[str] | None:
    """It returns the columns that a model was fitted with, or None if it was fitted on an array."""
    booster = getattr(model, "booster_", model)
    fitted: list[str] = booster.feature_name()
    is_nameless = fitted == [f"Column_{number}" for number in range(len(fitted))]
    return None if is_nameless else fitted


def _call(model: Any, booster: Any, columns: int) -> Call | None:
    # Starting threads for one row costs a hundred times what the row itself does.
    reference: Call = partial(model.predict, num_threads=1)
    rows = direct.trial_rows(columns)
    if model is not booster:
        short = _shortened(model, booster)
        if short is not None and direct.is_same(short, reference, rows):
            return short
    return reference if direct.is_same(reference, model.predict, rows) else None


def _shortened(model: Any, booster: Any) -> Call | None:
    """It leaves out what scikit-learn's interface does anew for every row."""
    # Early stopping of predictions is set there, and the objective decides what is answered.
    if callable(model.objective_) or any(name.startswith("pred") for name in model.get_params()):
        return None
    predict: Call = partial(booster.predict, num_threads=1)
    if type(model).__name__ != "LGBMClassifier":
        return predict
    return _labels(predict, np.asarray(model.classes_))


def ways(model: Any, method: str) -> Iterator[Call]:
    """It gives what an estimator's method may be, for models in scikit-learn's flavor."""
    booster = model.booster_
    short = _shortened(model, booster)
    if short is None or booster.pandas_categorical:
        return
    if method == "predict":
        yield short
    elif method == "predict_proba":
        yield _chances(partial(booster.predict, num_threads=1))


def _chances(predict: Call) -> Call:
    def chances(data: Array) -> Array:
        found: Array = predict(data)
        return found if found.ndim == 2 else np.vstack((1.0 - found, found)).T

    return chances


def _labels(predict: Call, classes: Array) -> Call:
    def labels(data: Array) -> Array:
        found = predict(data)
        chosen = found.argmax(axis=1) if found.ndim == 2 else (found > 1.0 - found).astype(int)
        picked: Array = classes[chosen]
        return picked

    return labels
