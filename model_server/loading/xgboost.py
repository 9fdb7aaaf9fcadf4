"""It asks XGBoost models with an array, in place and on one thread."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from model_server.errors import BadRequest, brief
from model_server.loading import direct
from model_server.loading.direct import Array, Call, Direct
from model_server.mlmodel import ModelCard, Signature

LOADER = "xgboost-direct"
_BOOSTER = "xgboost.core.Booster"
_CLASSIFIERS = {"xgboost.sklearn.XGBClassifier", "xgboost.sklearn.XGBRFClassifier"}
_OTHERS = {f"xgboost.sklearn.{name}" for name in ("XGBRegressor", "XGBRFRegressor", "XGBRanker")}
ESTIMATORS = {kind.rpartition(".")[2] for kind in _CLASSIFIERS | _OTHERS}
# Others answer something else than the class whose number is the largest.
_LABELLED = ("binary:logistic", "multi:softprob")
_LARGEST = float(np.finfo(np.float32).max)


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
    if booster.num_features() != columns or "c" in (booster.feature_types or ()):
        return None
    form = direct.form(booster.feature_names, card.signature)
    if form is None and card.signature.columns:
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
    return Direct(LOADER, short, form, check(model, card.signature))


def check(model: Any, signature: Signature) -> Callable[[Any], None] | None:
    """It makes what refuses infinities in words: XGBoost refuses them in a table as its failure."""
    if np.isinf(getattr(model, "missing", np.nan)):
        return None
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    names = booster.feature_names or [column.name for column in signature.columns]

    def refuse(data: Any) -> None:
        if hasattr(data, "select_dtypes"):
            floats = data.select_dtypes("floating")
            _refuse_infinity(floats.to_numpy(dtype=float), list(floats.columns))
        elif isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind == "f":
            _refuse_infinity(data, names)

    return refuse


def _refuse_infinity(data: Array, names: Sequence[str]) -> None:
    # Comparing costs a caller less than rounding does, and nearly all numbers are small.
    if np.fmax.reduce(np.abs(data), axis=None, initial=0) <= _LARGEST:
        return
    with np.errstate(over="ignore"):
        places = np.argwhere(np.isinf(data.astype(np.float32)))
    for row, place in places[:1].tolist():
        label = f"column {names[place]!r}" if names else f"column {place}"
        raise BadRequest(
            f"{label} holds {brief(float(data[row, place]))} in row {row}, which is infinite in"
            " the single precision that XGBoost computes with"
        )


def ways(model: Any, method: str) -> Iterator[Call]:
    """It gives what an estimator's method may be, for models in scikit-learn's flavor."""
    booster = model.get_booster()
    kind = f"xgboost.sklearn.{type(model).__name__}"
    if "c" in (booster.feature_types or ()):
        return
    # Starting threads for one row costs more than the row itself does.
    booster.set_param({"nthread": 1})
    short = _shortened(model, booster, kind)
    if method == "predict" and short is not None:
        yield short
    elif method == "predict_proba" and kind in _CLASSIFIERS:
        yield _chances(_in_place(model, booster))


def _shortened(model: Any, booster: Any, kind: str) -> Call | None:
    """It leaves out what scikit-learn's interface and a DMatrix do anew for every row."""
    if kind == _BOOSTER:
        # Names and number of columns were compared above, once.
        return partial(booster.inplace_predict, validate_features=False)
    predict = _in_place(model, booster)
    if kind not in _CLASSIFIERS:
        return predict
    if model.objective not in _LABELLED:
        return None

    def labels(data: Array) -> Any:
        found = predict(data)
        return found.argmax(axis=1) if found.ndim == 2 else (found > 0.5).astype(np.int64)

    return labels


def _in_place(model: Any, booster: Any) -> Call:
    return partial(
        booster.inplace_predict,
        iteration_range=_trees(model),
        missing=model.missing,
        validate_features=False,
    )


def _chances(predict: Call) -> Call:
    def chances(data: Array) -> Array:
        found: Array = predict(data)
        return found if found.ndim == 2 else np.vstack((1.0 - found, found)).T

    return chances


def _trees(model: Any) -> tuple[int, int]:
    """It returns the trees that answer: up to the best one, if fitting stopped early."""
    try:
        return 0, model.best_iteration + 1
    except AttributeError:
        return 0, 0
