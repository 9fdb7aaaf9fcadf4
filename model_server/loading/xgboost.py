"""It asks XGBoost models with an array, in place and on one thread."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np

from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import ModelCard, Signature

LOADER = "xgboost-direct"
_BOOSTER = "xgboost.core.Booster"
_CLASSIFIERS = {"xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRFClassifier"}
_OTHERS = {f"xgboost.sklearn.{name}" for name in ("XGBRegressor", "XGBRFRegressor", "XGBRanker")}
# Others answer something else than the class whose number is the largest.
_LABELLED = ("binary:logistic", "multi:softprob")


def load(card: ModelCard) -> Direct | None:
    """It loads the model, or returns None where an array may not be as good as a DataFrame."""
    flavor = direct.flavor(card, "xgboost")
    if flavor is None or card.signature is None:
        return None
    kind = str(flavor.get("model_class", _BOOSTER))
    columns = direct.width(card.signature)
    if columns is None or kind not in {_BOOSTER, *_CLASSIFIERS, *_OTHERS}:
        return None
    library: Any = importlib.import_module("xgboost")
    model = getattr(library, kind.rpartition(".")[2])()
    model.load_model(str(card.directory / str(flavor.get("data"))))
    booster = model if kind == _BOOSTER else model.get_booster()
    if not _reads(booster, card.signature, columns):
        return None

    def through_table(data: Array) -> Any:
        return booster.predict(library.DMatrix(data, feature_names=booster.feature_names))

    reference: Call = through_table if kind == _BOOSTER else model.predict
    short = _shortened(model, booster, kind)
    if short is None or not direct.is_same(short, reference, direct.trial_rows(columns)):
        return None
    # Starting threads for one row costs more than the row itself does.
    booster.set_param({"nthread": 1})
    if not direct.is_same(short, reference, direct.trial_rows(columns)):
        return None
    return Direct(LOADER, short, direct.matrix(card.signature))


def _reads(booster: Any, signature: Signature, columns: int) -> bool:
    """It tells whether the columns are those that the model was fitted with, as numbers."""
    if booster.num_features() != columns or "c" in (booster.feature_types or ()):
        return False
    fitted = booster.feature_names
    return fitted is None or fitted == [column.name for column in signature.columns]


def _shortened(model: Any, booster: Any, kind: str) -> Call | None:
    """It leaves out what scikit-learn's interface and a DMatrix do anew for every row."""
    if kind == _BOOSTER:
        # Names and number of columns were compared above, once.
        return partial(booster.inplace_predict, validate_features=False)
    predict: Call = partial(
        booster.inplace_predict,
        iteration_range=_trees(model),
        missing=model.missing,
        validate_features=False,
    )
    if kind not in _CLASSIFIERS:
        return predict
    if model.objective not in _LABELLED:
        return None

    def labels(data: Array) -> Any:
        found = predict(data)
        return found.argmax(axis=1) if found.ndim == 2 else (found > 0.5).astype(np.int64)

    return labels


def _trees(model: Any) -> tuple[int, int]:
    """It returns the trees that answer: up to the best one, if fitting stopped early."""
    try:
        return 0, model.best_iteration + 1
    except AttributeError:
        return 0, 0
