"""Quality from sums: the value, its 95 % interval, or why it cannot be said. Pure.

Wilson (1927) for shares; a bootstrap of the cells (a multinomial draw of the same number of rows,
the same draws each time) for F1, AUC, ECE and averages over classes; the delta method for RMSE;
Olkin and Finn (1995) for R2. Of more than two classes precision, recall and F1 are macro averages.
AUC comes from 50 bins of scores: rows of one bin count as ties, so it is off by at most `bound`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.quality.marks import Classes, Ints, Scores, Sums, Values

FEWEST = 30
DRAWS = 300
SEED = 4
Z = 1.959963984540054
Floats = npt.NDArray[np.float64]
HIGHER_IS_BETTER = {
    "accuracy": True, "precision": True, "recall": True, "f1": True, "roc_auc": True,
    "log_loss": False, "brier": False, "ece": False, "mae": False, "rmse": False, "r2": True,
}  # fmt: skip
LABELS = {
    "accuracy": "Accuracy", "precision": "Precision", "recall": "Recall", "f1": "F1",
    "roc_auc": "AUC", "log_loss": "Log-loss", "brier": "Brier score", "ece": "Calibration error",
    "mae": "MAE", "rmse": "RMSE", "r2": "R²", "bias": "Bias",
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""  # why there is no value
    bound: float | None = None  # how far the value may be off because rows were put into bins


@dataclass(frozen=True)
class Calibrated:
    """The rows of one bin of scores: what was foretold and what came."""

    n: int
    score: float
    share: float
    low: float
    high: float


def of(sums: Sums, only: Iterable[str] | None = None) -> dict[str, Figure]:
    """It computes every figure of the sums, or only those named."""
    known: dict[str, Callable[[], Figure]]
    if isinstance(sums, Scores):
        known = _of_scores(sums)
    elif isinstance(sums, Classes):
        known = _of_classes(sums)
    else:
        known = _of_values(sums)
    wanted = set(known) if only is None else set(only)
    few = f"Fewer than {FEWEST} labels: {sums.n}" if sums.n < FEWEST else ""
    return {
        name: Figure(None, reason=few) if few else compute()
        for name, compute in known.items()
        if name in wanted
    }


def calibration(sums: Scores) -> list[Calibrated]:
    """The calibration curve: bins of scores that have rows."""
    positives, totals = sums.cells[:, :, 1].sum(axis=1), sums.cells.sum(axis=(1, 2))
    curve = []
    for place in np.flatnonzero(totals):
        n, hits = int(totals[place]), int(positives[place])
        low, high = wilson(hits, n)
        curve.append(Calibrated(n, float(sums.score_sums[place] / n), hits / n, low, high))
    return curve


def wilson(hits: float, n: float) -> tuple[float, float]:
    """The interval of a share, which stays within 0 and 1 however few rows there are."""
    share, square = hits / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n * n))
    # At 0 and at all rows the formula says 0 and 1, its rounding does not.
    low = 0.0 if hits == 0 else max(0.0, float(middle - half))
    high = 1.0 if hits == n else min(1.0, float(middle + half))
    return low, high


def auc(positives: Floats | Ints, negatives: Floats | Ints) -> Floats:
    """The area under the curve from counts by bin, along the last axis; ties count half."""
    below = np.cumsum(negatives, axis=-1) - negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    won = (positives * (below + negatives / 2)).sum(axis=-1)
    return divided(won, pairs)


def divided(part: Floats | Ints, whole: Floats | Ints, empty: float = np.nan) -> Floats:
    """It divides; where nothing is to be divided by it gives `empty`."""
    shares: Floats = np.divide(part, whole, out=np.full(np.shape(whole), empty), where=whole > 0)
    return shares


def draws(cells: Ints) -> Ints:
    """It draws as many rows again and again from what was seen: (DRAWS, *cells.shape)."""
    flat = cells.ravel()
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(int(flat.sum()), flat / flat.sum(), size=DRAWS)
    return drawn.reshape(DRAWS, *cells.shape)


def between(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of what draws gave."""
    seen = values[np.isfinite(values)]
    if not seen.size:
        return None, None
    low, high = np.percentile(seen, [2.5, 97.5])
    return float(low), float(high)


def _of_scores(sums: Scores) -> dict[str, Callable[[], Figure]]:
    confusion = sums.cells.sum(axis=0)
    return _of_two(confusion) | {
        "roc_auc": lambda: _auc(sums),
        "log_loss": lambda: _mean(sums.loss, sums.loss_squares, sums.n),
        "brier": lambda: _mean(sums.square, sums.square_squares, sums.n),
        "ece": lambda: _ece(sums),
    }


def _of_two(confusion: Ints) -> dict[str, Callable[[], Figure]]:
    """`confusion`: (predicted, label), the positive class second."""
    hits = int(confusion[1, 1])
    return {
        "accuracy": lambda: _share(int(np.trace(confusion)), int(confusion.sum()), ""),
        "precision": lambda: _share(hits, int(confusion[1].sum()), "No row was predicted positive"),
        "recall": lambda: _share(hits, int(confusion[:, 1].sum()), "No label is positive"),
        "f1": lambda: _drawn(confusion, _f1, "Neither labels nor predictions are positive"),
    }


def _of_classes(sums: Classes) -> dict[str, Callable[[], Figure]]:
    matrix = sums.matrix
    if matrix.shape == (2, 2):
        return _of_two(matrix)
    return {
        "accuracy": lambda: _share(int(np.trace(matrix)), sums.n, ""),
        "precision": lambda: _macro(matrix, 0),
        "recall": lambda: _macro(matrix, 1),
        "f1": lambda: _macro(matrix, 2),
    }


def _of_values(sums: Values) -> dict[str, Callable[[], Figure]]:
    return {
        "mae": lambda: _mean(sums.e_abs, sums.e2, sums.n),
        "rmse": lambda: _rmse(sums),
        "r2": lambda: _r2(sums),
        "bias": lambda: _mean(sums.e, sums.e2, sums.n, least=None),
    }


def _share(hits: int, n: int, reason: str) -> Figure:
    return Figure(hits / n, *wilson(hits, n)) if n else Figure(None, reason=reason)


def _drawn(cells: Ints, compute: Callable[[Ints], Floats], reason: str) -> Figure:
    value = float(compute(cells))
    if not np.isfinite(value):
        return Figure(None, reason=reason)
    return Figure(value, *between(compute(draws(cells))))


def _f1(confusion: Ints) -> Floats:
    hits = confusion[..., 1, 1]
    of = confusion[..., 1, :].sum(axis=-1) + confusion[..., :, 1].sum(axis=-1)
    return divided(2 * hits, of)


def _macro(matrix: Ints, which: int) -> Figure:
    reason = "Only one class was seen"
    if (matrix.sum(axis=0) > 0).sum() < 2:
        return Figure(None, reason=reason)
    return _drawn(matrix, lambda cells: _averages(cells)[which], reason)


def _averages(matrix: Ints) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1, averaged over the classes that have labels or predictions.

    What cannot be divided counts as 0, as scikit-learn does.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    predicted, labels = matrix.sum(axis=-1), matrix.sum(axis=-2)
    there = (predicted + labels) > 0
    of = np.maximum(there.sum(axis=-1), 1)

    def average(parts: Ints, wholes: Ints) -> Floats:
        mean: Floats = divided(parts, wholes, 0.0).sum(axis=-1) / of
        return mean

    return average(hits, predicted), average(hits, labels), average(2 * hits, predicted + labels)


def _auc(sums: Scores) -> Figure:
    by_bin = sums.cells.sum(axis=1)  # (bin, label)
    positives, negatives = by_bin[:, 1], by_bin[:, 0]
    if not positives.sum() or not negatives.sum():
        return Figure(None, reason="Only one class was seen")
    again = draws(by_bin)
    low, high = between(auc(again[..., 1], again[..., 0]))
    ties = (positives * negatives).sum() / (positives.sum() * negatives.sum())
    return Figure(float(auc(positives, negatives)), low, high, bound=float(ties / 2))


def _ece(sums: Scores) -> Figure:
    """How far shares are from scores, on the average over all rows.

    Without an interval: drawn again it only grows, so that one would not hold the value itself.
    """
    cells = sums.cells.sum(axis=1)
    means = divided(sums.score_sums, sums.cells.sum(axis=(1, 2)), 0.0)
    gaps = np.abs(cells[..., 1] - cells.sum(axis=-1) * means)
    return Figure(float(gaps.sum() / cells.sum()))


def _mean(total: float, squares: float, n: int, least: float | None = 0.0) -> Figure:
    mean = total / n
    half = Z * float(np.sqrt(max(0.0, squares / n - mean**2) / (n - 1)))
    low = mean - half
    return Figure(mean, low if least is None else max(least, low), mean + half)


def _rmse(sums: Values) -> Figure:
    square = _mean(sums.e2, sums.e4, sums.n)
    assert square.value is not None
    assert square.high is not None
    root = float(np.sqrt(square.value))
    # The derivative of the root; of no error at all it has none.
    half = (square.high - square.value) / (2 * root) if root else 0.0
    return Figure(root, max(0.0, root - half), root + half)


def _r2(sums: Values) -> Figure:
    around = sums.y2 - sums.y**2 / sums.n
    if around <= 1e-12 * max(sums.y2, 1e-300):
        return Figure(None, reason="All labels are the same")
    r2 = 1 - sums.e2 / around
    if not 0 < r2 < 1:
        return Figure(r2)
    n = sums.n
    half = Z * float(np.sqrt(4 * r2 * (1 - r2) ** 2 * (n - 2) ** 2 / ((n**2 - 1) * (n + 3))))
    return Figure(r2, r2 - half, min(1.0, r2 + half))
