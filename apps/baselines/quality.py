"""How good a version was on its reference rows, where they have labels. Pure.

And how often a score was right, by which the quality of unlabelled rows is estimated later.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from apps.baselines.layout import SCORE_BINS
from apps.baselines.meaning import MOST_MEASURED, Form, Meaning, Read, Task, label_of, measured

LEAST_LABELS = 100
SMALLEST = 1e-15  # a probability of 0 that came true would have an infinite loss

Array = npt.NDArray[Any]


def truth(meaning: Meaning, labels: "pa.Array | pa.ChunkedArray") -> Array:
    """The labels in the form of `Read.predicted`: places of classes (-1) or numbers (NaN)."""
    coded = pa.chunked_array([labels]) if isinstance(labels, pa.Array) else labels
    coded = coded.dictionary_encode().unify_dictionaries()
    known: list[int | float | None] = []
    if coded.num_chunks:
        known = [label_of(meaning, value) for value in coded.chunk(0).dictionary.to_pylist()]
    nothing = -1 if meaning.task.has_classes else np.nan
    kind = np.int64 if meaning.task.has_classes else np.float64
    values = np.array([*(nothing if one is None else one for one in known), nothing], dtype=kind)
    codes = [np.asarray(chunk.indices.fill_null(len(known))) for chunk in coded.chunks]
    return values[np.concatenate(codes)] if codes else values[:0]


def measure(meaning: Meaning, read: Read, labels: Array) -> dict[str, float]:
    """Metric -> value, of the rows that have both a label and an answer."""
    if meaning.task is Task.REGRESSION:
        found = _of_numbers(read.predicted, labels)
    elif meaning.task.has_classes:
        found = _of_classes(meaning, read, labels)
    else:
        found = {}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def calibration(meaning: Meaning, read: Read, labels: Array) -> dict[str, Any]:
    """{"shares": [share of positive labels per score bin, None for no rows], "rows": …}.

    Isotonic over the bins, weighed by their rows: a higher score never means fewer positives.
    """
    if not meaning.has_score or read.score is None:
        return {}
    known = (labels >= 0) & np.isfinite(read.score)
    if known.sum() < LEAST_LABELS:
        return {}
    from sklearn.isotonic import IsotonicRegression  # 130 MB, which no other process needs

    places = np.minimum((read.score[known] * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    rows = np.bincount(places, minlength=SCORE_BINS)
    positives = np.bincount(places, weights=labels[known] == meaning.positive, minlength=SCORE_BINS)
    filled = np.flatnonzero(rows)
    shares = IsotonicRegression(y_min=0.0, y_max=1.0).fit_transform(
        filled, positives[filled] / rows[filled], sample_weight=rows[filled]
    )
    bins: list[float | None] = [None] * SCORE_BINS
    for place, share in zip(filled.tolist(), shares.tolist(), strict=True):
        bins[place] = share
    return {"shares": bins, "rows": int(known.sum())}


def _of_numbers(predicted: Array, labels: Array) -> dict[str, float]:
    known = np.isfinite(labels) & np.isfinite(predicted)
    if known.sum() < LEAST_LABELS:
        return {}
    from sklearn import metrics as sk

    true, said = labels[known], predicted[known]
    with np.errstate(over="ignore", invalid="ignore"):  # of 1e300: left out by who calls
        return {
            "mae": sk.mean_absolute_error(true, said),
            "rmse": sk.root_mean_squared_error(true, said),
            "r2": sk.r2_score(true, said),
            # What live labels are standardised by, so that their sums stay exact.
            "label_mean": float(np.mean(labels[np.isfinite(labels)])),
            "label_std": float(np.std(labels[np.isfinite(labels)])),
        }


def _of_classes(meaning: Meaning, read: Read, labels: Array) -> dict[str, float]:
    known = (labels >= 0) & (read.predicted >= 0)
    if known.sum() < LEAST_LABELS:
        return {}
    from sklearn import metrics as sk

    true, said = labels[known], read.predicted[known]
    found = {"accuracy": sk.accuracy_score(true, said)}
    if meaning.task is Task.BINARY and meaning.positive >= 0:
        true, said = true == meaning.positive, said == meaning.positive
        options: dict[str, Any] = {"zero_division": 0.0}
    else:
        options = {"zero_division": 0.0, "average": "macro"}
    found["precision"] = sk.precision_score(true, said, **options)
    found["recall"] = sk.recall_score(true, said, **options)
    found["f1"] = sk.f1_score(true, said, **options)
    if meaning.has_score and read.score is not None and true.min() != true.max():
        score = read.score[known]
        found["roc_auc"] = sk.roc_auc_score(true, score)
        if meaning.form in (Form.PROBABILITIES, Form.SCORE):
            found["log_loss"] = sk.log_loss(true, score, labels=[False, True])
            found["brier"] = sk.brier_score_loss(true, score)
    elif meaning.task is Task.MULTICLASS and read.each is not None:
        found |= _of_each(measured(read.each[known]), np.minimum(labels[known], MOST_MEASURED))
    return found


def _of_each(each: Array, true: Array) -> dict[str, float]:
    """AUC of each class that has labels against the rest, and log-loss, as live rows get them."""
    from sklearn import metrics as sk

    seen = np.unique(true)
    if len(seen) < 2:
        return {}
    areas = [sk.roc_auc_score(true == place, each[:, place]) for place in seen]
    told = each[np.arange(len(true)), true]
    return {
        "roc_auc": float(np.mean(areas)),
        "log_loss": float(-np.log(np.clip(told, SMALLEST, 1.0)).mean()),
    }
