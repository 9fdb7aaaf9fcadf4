"""Well-known estimators without the library's overhead: the same bits, and the same refusals."""

from __future__ import annotations

import copy
import functools
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from model_server.answers import plain
from model_server.loading import load, short, trees
from model_server.payload import Named, Positional
from tests.model_server import models

lightgbm: Any = importlib.import_module("lightgbm")
xgboost: Any = importlib.import_module("xgboost")

WIDTH = 6
NAMES = [f"f{number}" for number in range(WIDTH)]
RNG = np.random.default_rng(5)
TABLE = RNG.normal(3, 20, size=(240, WIDTH)) * [1, 1, 0.01, 100, 1, 5]
SCORE = TABLE @ [1, -1, 90, 0.02, 0, 0.3] + RNG.normal(size=240)
TWO = (np.median(SCORE) < SCORE).astype(int)
THREE = np.digitize(SCORE, np.quantile(SCORE, [0.3, 0.7]))
WORDS = np.array(["early", "late"])[TWO]
FRESH = np.concatenate([RNG.normal(0, 40, size=(30, WIDTH)), TABLE[:9], np.zeros((1, WIDTH))])

Made = tuple[Callable[[], Any], Any]
MADE: dict[str, Made] = {
    "logistic": (LogisticRegression, TWO),
    "logistic, three": (LogisticRegression, THREE),
    "logistic, words": (lambda: LogisticRegression(fit_intercept=False), WORDS),
    "scaled logistic": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), TWO),
    "twice scaled": (
        lambda: make_pipeline(RobustScaler(), MinMaxScaler(), LogisticRegression()),
        THREE,
    ),
    "with a step that passes through": (
        lambda: Pipeline(
            [("a", MaxAbsScaler()), ("b", "passthrough"), ("c", LogisticRegression())]
        ),
        TWO,
    ),
    "gradient descent, one against the rest": (
        lambda: make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
        THREE,
    ),
    "ridge classes": (RidgeClassifier, THREE),
    "linear": (LinearRegression, SCORE),
    "two targets": (LinearRegression, np.stack([SCORE, TABLE[:, 0]], axis=1)),
    "scaled ridge": (lambda: make_pipeline(StandardScaler(with_mean=False), Ridge()), SCORE),
    "lasso": (lambda: Lasso(0.5), SCORE),
    "gradient descent": (
        lambda: make_pipeline(StandardScaler(), SGDRegressor(random_state=0)),
        SCORE,
    ),
    "tree": (lambda: DecisionTreeClassifier(max_depth=5), WORDS),
    "tree of numbers": (lambda: DecisionTreeRegressor(max_depth=5), SCORE),
    "forest": (lambda: RandomForestClassifier(12, random_state=0), TWO),
    "forest, three": (lambda: RandomForestClassifier(12, random_state=0), THREE),
    "forest on all cores": (lambda: RandomForestClassifier(12, random_state=0, n_jobs=-1), WORDS),
    "forest of few": (lambda: RandomForestClassifier(3, random_state=0), TWO),
    "forest of numbers": (lambda: RandomForestRegressor(12, random_state=0), SCORE),
    "scaled forest": (
        lambda: make_pipeline(StandardScaler(), RandomForestRegressor(12, random_state=0)),
        SCORE,
    ),
    "extra trees": (lambda: ExtraTreesClassifier(12, random_state=0), THREE),
    "extra trees of numbers": (lambda: ExtraTreesRegressor(12, random_state=0), SCORE),
    "boosted": (lambda: GradientBoostingClassifier(n_estimators=12), TWO),
    "boosted, three": (lambda: GradientBoostingClassifier(n_estimators=12), THREE),
    "boosted from zero": (lambda: GradientBoostingRegressor(n_estimators=12, init="zero"), SCORE),
    "boosted numbers": (lambda: GradientBoostingRegressor(n_estimators=12), SCORE),
    "binned": (lambda: HistGradientBoostingClassifier(max_iter=12), WORDS),
    "binned, three": (lambda: HistGradientBoostingClassifier(max_iter=12), THREE),
    "binned numbers": (lambda: HistGradientBoostingRegressor(max_iter=12), SCORE),
    "binned counts": (lambda: HistGradientBoostingRegressor(loss="poisson", max_iter=12), THREE),
    "lightgbm": (lambda: lightgbm.LGBMClassifier(n_estimators=12, verbose=-1), WORDS),
    "lightgbm, three": (lambda: lightgbm.LGBMClassifier(n_estimators=12, verbose=-1), THREE),
    "lightgbm numbers": (lambda: lightgbm.LGBMRegressor(n_estimators=12, verbose=-1), SCORE),
    "scaled lightgbm": (
        lambda: make_pipeline(
            StandardScaler(), lightgbm.LGBMClassifier(n_estimators=12, verbose=-1)
        ),
        TWO,
    ),
    "xgboost": (lambda: xgboost.XGBClassifier(n_estimators=12), TWO),
    "xgboost, three": (lambda: xgboost.XGBClassifier(n_estimators=12), THREE),
    "xgboost numbers": (lambda: xgboost.XGBRegressor(n_estimators=12), SCORE),
}
METHODS = ("predict", "predict_proba", "decision_function")


class Counted:
    """It is the model's own method, and how often it was asked."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.calls = 0

    def __call__(self, data: Any) -> Any:
        self.calls += 1
        return self._call(data)


def fit(model: Any, table: Any, target: Any) -> Any:
    """It fits without a word on how well that went."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(table, target)


@functools.cache
def _fitted(name: str) -> Any:
    make, target = MADE[name]
    return fit(make(), TABLE, target)


def fitted(name: str) -> Any:
    """It fits each model once, and gives a copy, which a test may change."""
    return copy.deepcopy(_fitted(name))


def shortened(model: Any, method: str, rows: Any = TABLE[:5]) -> tuple[Any, Counted]:
    call = Counted(getattr(model, method))
    found = short.shortened(model, method, call, rows)
    call.calls = 0
    return found, call


def said(call: Callable[[Any], Any], row: Any) -> Any:
    """It returns an answer's type and bytes, or a refusal's words."""
    try:
        # LightGBM's scikit-learn interface warns that it was given no names.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call(row)
    except Exception as error:  # noqa: BLE001 - the words are what is compared
        return type(error), str(error)
    shown = found.tolist() if found.dtype == object else found.tobytes()
    return found.dtype, found.shape, shown


def methods(model: Any) -> list[str]:
    known = [method for method in METHODS if hasattr(model, method)]
    is_linear = hasattr(model, "coef_") or hasattr(
        getattr(model, "steps", [[0, 0]])[-1][1], "coef_"
    )
    return [method for method in known if method != "decision_function" or is_linear]


@pytest.mark.parametrize("name", MADE)
def test_the_answers_are_the_librarys_bit_by_bit(name: str) -> None:
    model = fitted(name)

    for method in methods(model):
        found, library = shortened(model, method)
        assert found is not None, method
        own = getattr(model, method)
        if "all cores" in name:
            model.n_jobs = None  # several threads add the trees up in any order
        for row in FRESH:
            assert said(found, row[None]) == said(own, row[None])
        assert library.calls == 0
        for count in (2, 5, len(FRESH)):
            assert said(found, FRESH[:count]) == said(own, FRESH[:count])


@pytest.mark.parametrize("name", MADE)
def test_what_the_library_refuses_is_refused_in_its_words(name: str) -> None:
    model = fitted(name)
    rows = np.repeat(TABLE[:1], 4, axis=0)
    rows[:, 2] = [np.nan, np.inf, -np.inf, 1e300]

    for method in methods(model):
        found, _ = shortened(model, method)
        assert found is not None
        own = getattr(model, method)
        assert [said(found, row[None]) for row in rows] == [said(own, row[None]) for row in rows]


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize("name", ["logistic", "scaled logistic", "twice scaled", "forest", "tree"])
def test_other_numbers_are_answered_alike(name: str, dtype: type) -> None:
    make, target = MADE[name]
    table: Any = TABLE.astype(dtype)
    model = fit(make(), table, target)

    for method in methods(model):
        found, library = shortened(model, method, table[:5])
        assert found is not None
        own = getattr(model, method)
        for row in FRESH.astype(dtype):
            assert said(found, row[None]) == said(own, row[None])
        assert library.calls == 0


class Own(LogisticRegression):  # type: ignore[misc]
    """It is an author's own estimator."""


def patched() -> Any:
    model = fitted("logistic")
    model.predict = lambda data: np.zeros(len(data), dtype=int)
    return model


def sparse() -> Any:
    return fitted("logistic").sparsify()


UNKNOWN: dict[str, Callable[[], Any]] = {
    "a subclass": lambda: fit(Own(), TABLE, TWO),
    "a method of the author's": patched,
    "sparse weights": sparse,
    "a scaler that clips": lambda: fit(
        make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), TABLE, TWO
    ),
    "a step that is not known": lambda: fit(
        make_pipeline(PolynomialFeatures(), LinearRegression()), TABLE, SCORE
    ),
    "several answers a tree": lambda: fit(RandomForestRegressor(3), TABLE, TABLE[:, :2]),
    "categories": lambda: fit(
        HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]),
        np.abs(TABLE).astype(int) % 9,
        SCORE,
    ),
    "not fitted": LogisticRegression,
    "not a model": object,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_left_to_the_library(name: str) -> None:
    model = UNKNOWN[name]()

    assert short.shortened(model, "predict", lambda data: data, TABLE[:5]) is None


def test_what_answers_otherwise_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(self: Any, data: Any) -> Any:
        return (data @ self.coef_.T + self.intercept_).ravel() - 9

    monkeypatch.setattr(LogisticRegression, "decision_function", strict)
    model = fitted("scaled logistic")

    for method in ("predict", "predict_proba"):
        assert shortened(model, method)[0] is None


def test_another_librarys_inside_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(model: Any, method: str) -> Any:
        raise AttributeError("tree_")

    monkeypatch.setattr(trees, "ways", gone)

    assert shortened(fitted("forest"), "predict")[0] is None


def test_zeros_of_either_sign_are_told_apart() -> None:
    same = importlib.import_module("model_server.loading.direct").is_same

    assert same(lambda rows: rows, lambda rows: rows.copy(), np.array([[np.nan], [0.0]]))
    assert not same(lambda rows: rows, lambda rows: -rows, np.array([[0.0]]))
    assert not same(lambda rows: rows, lambda rows: rows.astype(int), np.array([[1.0]]))


COLUMNS = Schema([ColSpec("double", name) for name in NAMES])
TENSOR = Schema([TensorSpec(np.dtype(np.float64), (-1, WIDTH))])


@pytest.mark.parametrize(
    ("name", "schema", "method", "loader"),
    [
        ("scaled logistic", COLUMNS, "predict_proba", "sklearn-short"),
        ("scaled logistic", TENSOR, "predict", "sklearn-short"),
        ("forest, three", COLUMNS, "predict", "sklearn-short"),
        ("lightgbm", COLUMNS, "predict_proba", "sklearn-short"),
        ("xgboost", TENSOR, "predict", "sklearn-short"),
        ("scaled logistic", COLUMNS, "predict_log_proba", "sklearn-direct"),
    ],
)
def test_a_loaded_model_says_which_way_is_taken(
    name: str, schema: Schema, method: str, loader: str, tmp_path: Path
) -> None:
    model = fitted(name)
    models.save_flavor(
        "sklearn",
        model,
        tmp_path / "model",
        schema=schema,
        pyfunc_predict_fn=method,
        serialization_format="cloudpickle",
        input_example=TABLE[:2],
    )

    loaded = load(tmp_path / "model")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = plain(getattr(model, method)(TABLE[:3]))
    assert loaded.loader == loader
    payload = Positional(TABLE[:3].tolist())
    assert plain(loaded.call(loaded.prepare(payload))) == expected
    named = Named(dict(zip(NAMES, TABLE[:1].T.tolist(), strict=True)), 1)
    assert plain(loaded.call(loaded.prepare(named))) == expected[:1]
