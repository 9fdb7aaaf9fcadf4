"""Log-loss and Brier score of models that are nearly never wrong, and sums of very many rows."""

import numpy as np
import pytest
import sklearn.metrics as sk

from apps.quality import marks, metrics
from apps.quality.lifecycle import Kind
from apps.quality.marks import Floats, Probabilities, Rows, Ruler, Scores
from apps.quality.metrics import Figure

TWO = Ruler(Kind.SCORES, ("no", "yes"))
THREE = Ruler(Kind.PROBABILITIES, ("a", "b", "c"))
ONE_GROUP = np.zeros(2_000, np.int64)


def of_two(wrong: Floats) -> dict[str, Figure]:
    """Rows of both classes, so far from right."""
    actual = (np.arange(len(wrong)) % 2).astype(float)
    score = np.where(actual == 1, 1 - wrong, wrong)
    [vector] = marks.count(TWO, Rows(score, actual, actual), ONE_GROUP, 1)
    return metrics.of(marks.read(TWO, vector))


def of_three(wrong: Floats) -> dict[str, Figure]:
    actual = np.arange(len(wrong)) % 3
    each = np.repeat(wrong[:, None] / 2, 3, axis=1)
    each[np.arange(len(wrong)), actual] = 1 - wrong
    rows = Rows(np.full(len(wrong), np.nan), actual.astype(float), actual.astype(float), each)
    [vector] = marks.count(THREE, rows, ONE_GROUP, 1)
    return metrics.of(marks.read(THREE, vector))


def same(figure: Figure, values: Floats) -> None:
    """The mean and 1.96 standard errors about it, as numpy has them."""
    mean, half = values.mean(), metrics.Z * values.std(ddof=1) / np.sqrt(len(values))
    assert figure.value == pytest.approx(mean, rel=1e-9)
    assert figure.high == pytest.approx(mean + half, rel=1e-9)
    assert figure.low == pytest.approx(max(0.0, mean - half), rel=1e-9)


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-7, 1e-10])
def test_the_interval_of_small_losses_is_as_wide_as_they_are(size: float) -> None:
    wrong = np.random.default_rng(5).uniform(0, size, 2_000)
    right = 1 - wrong
    losses = -np.log(right)
    binary = of_two(wrong)

    same(binary["log_loss"], losses)
    same(of_three(wrong)["log_loss"], losses)
    actual = np.arange(2_000) % 2
    score = np.where(actual == 1, 1 - wrong, wrong)
    assert binary["log_loss"].value == pytest.approx(sk.log_loss(actual, score), rel=1e-9)
    if size > 1e-8:  # what is less has a fourth power below the step
        same(binary["brier"], (1 - right) ** 2)


def test_one_small_loss_among_many_that_are_none_has_an_interval() -> None:
    wrong = np.zeros(2_000)
    wrong[7] = 1e-6
    seen = of_two(wrong)["log_loss"]

    assert seen.value == pytest.approx(5e-10, rel=1e-6)
    assert seen.high == pytest.approx(5e-10 * (1 + metrics.Z), rel=1e-3)


@pytest.mark.parametrize("ruler", [TWO, THREE])
def test_four_billion_of_the_worst_rows_are_counted(ruler: Ruler) -> None:
    actual = np.ones(2_000)
    each = np.repeat([[1.0, 0.0, 0.0]], 2_000, axis=0)
    rows = Rows(np.zeros(2_000), np.zeros(2_000), actual, each)
    [vector] = marks.count(ruler, rows, ONE_GROUP, 1)
    assert int(vector.max()) * 2_000_000 < 2**63
    many = marks.read(ruler, vector * 2_000_000)

    assert isinstance(many, Scores | Probabilities)
    assert many.n == 4_000_000_000
    worst = -np.log(marks.SMALLEST)
    assert many.loss / many.n == pytest.approx(worst, rel=1e-12)
    assert many.loss_squares / many.n == pytest.approx(worst**2, rel=1e-12)
    if isinstance(many, Scores):
        assert (many.square, many.square_squares) == pytest.approx((many.n, many.n), rel=1e-12)
