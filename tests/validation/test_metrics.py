"""The metrics against figures worked out by hand, in every form that models answer in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apps.validation import metrics

LABELS = [0, 0, 1, 1]
SCORES = [0.1, 0.6, 0.35, 0.8]


def value(metric: str, labels: Any, predictions: Any, positive: str = "") -> float:
    prepared = metrics.prepare(metric, labels, predictions, positive)
    return metrics.measure(prepared, tick=lambda: None).value


@pytest.mark.parametrize(
    "predictions",
    [
        SCORES,
        [[s] for s in SCORES],
        [[1 - s, s] for s in SCORES],
        [{"late": s} for s in SCORES],
        [10 * s - 4 for s in SCORES],
    ],
    ids=["scores", "one column", "two columns", "table", "decision function"],
)
def test_three_of_four_pairs_are_in_order_in_every_form(predictions: list[Any]) -> None:
    assert value("roc_auc", LABELS, predictions) == 0.75


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", 0.5),
        ("precision", 0.5),
        ("recall", 0.5),
        ("f1", 0.5),
        ("brier", (0.01 + 0.36 + 0.4225 + 0.04) / 4),
        ("log_loss", -np.log([0.9, 0.4, 0.35, 0.8]).mean()),
        ("average_precision", 0.5 + 0.5 * 2 / 3),
    ],
)
def test_probabilities_have_the_values_of_the_books(metric: str, expected: float) -> None:
    assert value(metric, LABELS, SCORES) == pytest.approx(expected)


def test_errors_of_numbers() -> None:
    labels, answers = [1.0, 2.0, 4.0], [1.0, 3.0, 2.0]
    assert value("mae", labels, answers) == pytest.approx(1.0)
    assert value("rmse", labels, answers) == pytest.approx((5 / 3) ** 0.5)
    assert value("r2", labels, answers) == pytest.approx(1 - 5 / (14 / 3))


@pytest.mark.parametrize(
    ("labels", "positive"),
    [
        ([0, 0, 1, 1], "1"),
        ([False, False, True, True], "true"),
        (["no", "no", "yes", "yes"], "yes"),
        ([0.0, 0.0, 1.0, 1.0], "1"),
        (["late", "late", "a", "a"], "a"),
    ],
)
def test_the_positive_class_is_found_however_it_is_written(labels: Any, positive: str) -> None:
    ordered = sorted(set(labels), key=str)
    column = [str(o).lower() for o in ordered].index(str(labels[-1]).lower())
    rows = [[s if i == column else 1 - s for i in (0, 1)] for s in SCORES]

    assert value("roc_auc", labels, rows, positive) == 0.75


def test_one_column_of_scores_is_turned_for_the_other_class() -> None:
    assert value("roc_auc", [1, 1, 0, 0], SCORES, "0") == pytest.approx(0.25)


def test_classes_are_compared_as_they_are_written() -> None:
    assert value("accuracy", ["no", "yes", "yes", "no"], ["no", "yes", "no", "no"]) == 0.75
    assert value("accuracy", [True, False, True, True], [1, 0, 1, 0]) == 0.75


@pytest.mark.parametrize(
    ("metric", "labels", "predictions", "positive", "why"),
    [
        ("roc_auc", [1, 1], [0.1, 0.2], "", "the labels are of one class only (1)"),
        ("roc_auc", LABELS, [0, 1, 1, 0], "", "the model answers classes, not scores"),
        ("log_loss", LABELS, [-3.0, 1.0, 2.0, 5.0], "", "are no probabilities"),
        ("accuracy", LABELS, [[0.1, 0.2, 0.7]] * 4, "", "answers 3 values a row"),
        ("accuracy", LABELS, SCORES, "late", "no label is the positive class 'late'"),
        ("accuracy", [0, 1, 2, 2], SCORES, "", "the labels are of 3 classes; name the one"),
        ("mae", ["a", "b"], [1.0, 2.0], "", "the labels are not numbers"),
        ("mae", [1.0, 2.0], [1.0, None], "", "some answers are not finite numbers"),
        ("accuracy", LABELS, [{"a": 1, "b": 2}] * 4, "", "the model answers several columns"),
    ],
)
def test_what_cannot_be_measured_says_why(
    metric: str, labels: Any, predictions: Any, positive: str, why: str
) -> None:
    with pytest.raises(metrics.NotMeasurable) as refused:
        metrics.prepare(metric, labels, predictions, positive)

    assert why in str(refused.value)


def test_the_interval_is_the_same_each_time_and_holds_the_value() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 500).tolist()
    scores = [
        0.4 * label + 0.6 * noise for label, noise in zip(labels, rng.random(500), strict=True)
    ]
    prepared = metrics.prepare("roc_auc", labels, scores, "")
    ticks: list[int] = []

    first = metrics.measure(prepared, tick=lambda: ticks.append(1))

    assert first == metrics.measure(prepared, tick=lambda: None)
    assert first.low is not None
    assert first.high is not None
    assert first.low < first.value < first.high
    assert len(ticks) == metrics.RESAMPLES


def test_a_paired_difference_of_equal_models_is_nothing_at_all() -> None:
    prepared = metrics.prepare("roc_auc", LABELS * 50, SCORES * 50, "")

    ours, theirs, gap = metrics.compare(prepared, prepared, tick=lambda: None)

    assert gap == metrics.Measured(0.0, 0.0, 0.0)
    assert ours == theirs == metrics.measure(prepared, tick=lambda: None)
