"""Metrics of predictions against labels: one code for the candidate and for what serves.

Pure: arrays in, figures out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics as sk

RESAMPLES = 200
SEED = 20130101
LEAST_ROWS = 100
REGRESSION = frozenset({"mae", "rmse", "r2"})
NEEDS_SCORES = frozenset({"roc_auc", "average_precision"})
NEEDS_PROBABILITIES = frozenset({"log_loss", "brier"})
WORDS = {
    "roc_auc": "ROC AUC", "accuracy": "accuracy", "f1": "F1", "precision": "precision",
    "recall": "recall", "average_precision": "average precision", "r2": "R²",
    "log_loss": "log loss", "brier": "Brier score", "mae": "mean absolute error",
    "rmse": "root mean squared error",
}  # fmt: skip

Array = npt.NDArray[Any]
Function = Callable[[Array, Array], float]


class NotMeasurable(Exception):
    """It says why these predictions have no such metric: no verdict can be built on it."""


@dataclass(frozen=True)
class Measured:
    """A metric's value with its 95 % bootstrap interval; None where resamples gave none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Prepared:
    """Labels and what is compared with them, as the metric's function takes them."""

    truth: Array
    answer: Array
    function: Function


def prepare(
    metric: str, labels: Sequence[Any], predictions: Sequence[Any], positive_class: str
) -> Prepared:
    """It brings labels and predictions into the metric's form.

    Predictions may be classes, scores, or probabilities with one column a class in sorted order,
    as scikit-learn's predict_proba returns them.
    Raises: NotMeasurable when the metric cannot be taken of them.
    """
    if metric in REGRESSION:
        return Prepared(_numbers(labels, "labels"), _numbers(predictions, "answers"), _REAL[metric])
    classes = sorted(set(labels), key=_order)
    if len(classes) < 2:
        only = f" ({classes[0]!r})" if classes else ""
        raise NotMeasurable(f"the labels are of one class only{only}")
    if len(classes) > 2 and not positive_class:
        raise NotMeasurable(
            f"the labels are of {len(classes)} classes; name the one that counts as "
            "`positive_class` in the policy"
        )
    positive = _positive(classes, positive_class)
    truth = np.array([label == positive for label in labels], dtype=np.int8)
    answer, kind = _answers(predictions, classes, positive)
    if metric in NEEDS_SCORES | NEEDS_PROBABILITIES and kind == "classes":
        raise NotMeasurable(
            "the model answers classes, not scores; log it with pyfunc_predict_fn='predict_proba'"
        )
    if metric in NEEDS_PROBABILITIES and kind != "probabilities":
        raise NotMeasurable("the model's scores are no probabilities between 0 and 1")
    if metric not in NEEDS_SCORES | NEEDS_PROBABILITIES:
        answer = (answer >= (0.0 if kind == "scores" else 0.5)).astype(np.int8)
    return Prepared(truth, answer, _BINARY[metric])


def measure(prepared: Prepared, *, tick: Callable[[], None]) -> Measured:
    """It takes the metric and its percentile bootstrap interval (Efron 1979), seeded."""
    values = [_value(prepared, rows) for rows in _resamples(len(prepared.truth), tick)]
    return Measured(_value(prepared, slice(None)) or 0.0, *_interval(values))


def compare(
    candidate: Prepared, stable: Prepared, *, tick: Callable[[], None]
) -> tuple[Measured, Measured, Measured]:
    """It takes both, and candidate minus stable on the same resampled rows: a paired bootstrap."""
    ours: list[float | None] = []
    theirs: list[float | None] = []
    for rows in _resamples(len(candidate.truth), tick):
        ours.append(_value(candidate, rows))
        theirs.append(_value(stable, rows))
    pairs = zip(ours, theirs, strict=True)
    gaps = [None if a is None or b is None else a - b for a, b in pairs]
    first = Measured(_value(candidate, slice(None)) or 0.0, *_interval(ours))
    second = Measured(_value(stable, slice(None)) or 0.0, *_interval(theirs))
    return first, second, Measured(first.value - second.value, *_interval(gaps))


def _resamples(count: int, tick: Callable[[], None]) -> Any:
    rng = np.random.default_rng(SEED)
    for _ in range(RESAMPLES):
        tick()
        yield rng.integers(0, count, count)


def _value(prepared: Prepared, rows: Any) -> float | None:
    truth = prepared.truth[rows]
    if truth.dtype == np.int8 and truth.min() == truth.max():
        return None  # a resample of one class has no such metric
    return float(prepared.function(truth, prepared.answer[rows]))


def _interval(values: list[float | None]) -> tuple[float | None, float | None]:
    found = [value for value in values if value is not None]
    if len(found) < RESAMPLES // 2:
        return None, None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _answers(predictions: Sequence[Any], classes: list[Any], positive: Any) -> tuple[Array, str]:
    flat = [_single(prediction) for prediction in predictions]
    if flat and isinstance(flat[0], list):
        return _column(flat, classes, positive), "probabilities"
    texts = {_text(label) for label in classes}
    if all(_text(answer) in texts for answer in set(flat)):
        wanted = _text(positive)
        return np.array([_text(answer) == wanted for answer in flat], dtype=np.float64), "classes"
    scores = _numbers(flat, "answers")
    # One column of scores speaks of the last class; turned around, it speaks of the other.
    turned = positive != classes[-1]
    if scores.min() >= 0.0 and scores.max() <= 1.0:
        return (1.0 - scores if turned else scores), "probabilities"
    return (-scores if turned else scores), "scores"


def _column(rows: list[Any], classes: list[Any], positive: Any) -> Array:
    widths = {len(row) for row in rows}
    if widths != {len(classes)}:
        raise NotMeasurable(
            f"the model answers {max(widths)} values a row, the labels have {len(classes)} classes"
        )
    return _numbers([row[classes.index(positive)] for row in rows], "answers")


def _single(prediction: Any) -> Any:
    """A table's row of one value, or a list of one, is that value."""
    if isinstance(prediction, dict):
        if len(prediction) != 1:
            raise NotMeasurable(
                "the model answers several columns; the policy cannot say which one is meant"
            )
        return next(iter(prediction.values()))
    if isinstance(prediction, list) and len(prediction) == 1:
        return prediction[0]
    return prediction


def _positive(classes: list[Any], wanted: str) -> Any:
    if not wanted:
        return classes[-1]
    for label in classes:
        if _text(label) == _text(wanted):
            return label
    known = ", ".join(map(str, classes[:10]))
    raise NotMeasurable(f"no label is the positive class {wanted!r}; the labels are {known}")


def _text(value: Any) -> str:
    """1, 1.0, True and "1" are one class: Parquet, JSON and YAML each write it their way."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    words = str(value).strip()
    return {"true": "1", "false": "0"}.get(words.lower(), words)


def _order(label: Any) -> tuple[bool, Any]:
    return (isinstance(label, str), label)


def _numbers(values: Sequence[Any], what: str) -> Array:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as odd:
        raise NotMeasurable(f"the {what} are not numbers") from odd
    if numbers.ndim != 1 or not np.isfinite(numbers).all():
        raise NotMeasurable(f"some {what} are not finite numbers")
    return numbers


_BINARY: dict[str, Function] = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "log_loss": lambda truth, answer: sk.log_loss(truth, answer, labels=[0, 1]),
    "brier": sk.brier_score_loss,
    "accuracy": sk.accuracy_score,
    "f1": lambda truth, answer: sk.f1_score(truth, answer, zero_division=0.0),
    "precision": lambda truth, answer: sk.precision_score(truth, answer, zero_division=0.0),
    "recall": lambda truth, answer: sk.recall_score(truth, answer, zero_division=0.0),
}
_REAL: dict[str, Function] = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
}
