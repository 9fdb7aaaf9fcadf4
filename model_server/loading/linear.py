"""It computes what scikit-learn's linear models answer, by the same operations in the same order.

Source: sklearn.linear_model._base and sklearn.utils.extmath, 1.9.1.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from model_server.loading.direct import Array, Call

CLASSIFIERS = {
    "LogisticRegression",
    "LogisticRegressionCV",
    "LinearSVC",
    "Perceptron",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
}
REGRESSORS = {
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lars",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LinearRegression",
    "LinearSVR",
    "Ridge",
    "RidgeCV",
    "SGDRegressor",
}


def ways(model: Any, method: str) -> Iterator[Call]:
    """It gives the computations that the method may be; a trial shows which of them it is."""
    kind = type(model).__name__
    # A sparse matrix multiplies in another order.
    if type(model.coef_) is not np.ndarray:
        return
    if kind in REGRESSORS and method == "predict":
        yield _scores(model)
    if kind not in CLASSIFIERS:
        return
    scores = _flat(_scores(model))
    if method == "decision_function":
        yield scores
    if method == "predict":
        yield _labels(scores, np.asarray(model.classes_))
    if method == "predict_proba":
        yield _one_against_rest(scores)
        yield _softmax(scores)


def _scores(model: Any) -> Call:
    weights = model.coef_.T
    intercept = model.intercept_

    def scores(data: Array) -> Array:
        found: Array = data @ weights + intercept
        return found

    return scores


def _flat(scores: Call) -> Call:
    def flat(data: Array) -> Array:
        found: Array = scores(data)
        return found.reshape(-1) if found.ndim == 2 and found.shape[1] == 1 else found

    return flat


def _labels(scores: Call, classes: Array) -> Call:
    def labels(data: Array) -> Array:
        found = scores(data)
        chosen = (found > 0).astype(int) if found.ndim == 1 else found.argmax(axis=1)
        picked: Array = classes.take(chosen, axis=0)
        return picked

    return labels


def _one_against_rest(scores: Call) -> Call:
    expit: Any = importlib.import_module("scipy.special").expit

    def chances(data: Array) -> Array:
        found: Array = scores(data)
        expit(found, out=found)
        if found.ndim == 1:
            return np.stack([1 - found, found], axis=1)
        total: Array = found.sum(axis=1)
        is_zero = total == 0
        # Where every class is impossible all are equally so.
        found[is_zero, :] = 1
        total[is_zero] = found.shape[1]
        found /= total.reshape(len(found), -1)
        return found

    return chances


def _softmax(scores: Call) -> Call:
    def chances(data: Array) -> Array:
        found: Array = scores(data)
        found -= found.max(axis=1).reshape(-1, 1)
        np.exp(found, out=found)
        found /= found.sum(axis=1).reshape(-1, 1)
        return found

    return chances
