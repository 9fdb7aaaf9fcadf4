"""It asks LightGBM models with an array, on one thread."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import ModelCard, Signature

LOADER = "lightgbm-direct"
_BOOSTER = "lightgbm.basic.Booster"
_ESTIMATORS = {
    f"lightgbm.sklearn.{name}"
    for name in ("LGBMClassifier", "LGBMModel", "LGBMRanker", "LGBMRegressor")
}


def load(card: ModelCard) -> Direct | None:
    """It loads the model, or returns None where an array may not be as good as a DataFrame."""
    flavor = direct.flavor(card, "lightgbm")
    if flavor is None or card.signature is None:
        return None
    kind = str(flavor.get("model_class", _BOOSTER))
    columns = direct.width(card.signature)
    if columns is None or kind not in {_BOOSTER, *_ESTIMATORS}:
        return None
    library: Any = importlib.import_module("lightgbm")
    path = card.directory / str(flavor.get("data"))
    if kind == _BOOSTER:
        model = booster = library.Booster(model_file=str(path))
    else:
        form = str(flavor.get("serialization_format", "cloudpickle"))
        model = direct.unpickled(path, form, flavor.get("skops_trusted_types"))
        booster = model.booster_
    if not _reads(booster, card.signature, columns):
        return None
    call = _call(model, booster, columns)
    return call and Direct(LOADER, call, direct.matrix(card.signature))


def _reads(booster: Any, signature: Signature, columns: int) -> bool:
    """It tells whether the columns are those that the model was fitted with, as numbers."""
    if booster.pandas_categorical or booster.num_feature() != columns:
        return False
    fitted = booster.feature_name()
    # A model fitted on an array knows its columns by number only.
    nameless = [f"Column_{number}" for number in range(columns)]
    # The library keeps no spaces in names.
    named = [column.name.replace(" ", "_") for column in signature.columns]
    return fitted in (nameless, named) or not named


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
    classes = np.asarray(model.classes_)

    def labels(data: Array) -> Array:
        found = predict(data)
        chosen = found.argmax(axis=1) if found.ndim == 2 else (found > 1.0 - found).astype(int)
        picked: Array = classes[chosen]
        return picked

    return labels
