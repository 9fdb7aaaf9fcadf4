"""Quality from sums: the value, its 95 % interval, or why it cannot be said. Pure.

Wilson (1927) for shares; a bootstrap of the cells (a multinomial draw of the same number of rows,
the same draws each time) for F1 and averages over classes; Wilson's with DeLong's variance (1988)
for AUC; the delta method for RMSE and R2.
Of more than two classes precision, recall, F1 and AUC are macro averages, AUC of each class against
all others. AUC comes from 50 bins of scores: rows of one bin count as ties, so it is off by at most
`bound`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apps.baselines.meaning import MOST_MEASURED
from apps.quality import areas
from apps.quality.amounts import Values
from apps.quality.marks import Classes, Ints, Probabilities, Scores, Sums

FEWEST = 30
DRAWS = 300
SEED = 4
Z = 1.959963984540054
TOO_SMALL = "Too small for how this model's labels are measured"
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
    note: str = ""  # what the value is of, where that is not all


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
        known = _of_classes(sums.matrix) | _without_probabilities(sums)
    elif isinstance(sums, Probabilities):
        known = _of_classes(sums.matrix) | {
            "roc_auc": lambda: _macro_auc(sums),
            "log_loss": lambda: _mean(sums.loss, sums.loss_squares, sums.n),
        }
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


def _of_classes(matrix: Ints) -> dict[str, Callable[[], Figure]]:
    if matrix.shape == (2, 2):
        return _of_two(matrix)
    return {
        "accuracy": lambda: _share(int(np.trace(matrix)), int(matrix.sum()), ""),
        "precision": lambda: _macro(matrix, 0),
        "recall": lambda: _macro(matrix, 1),
        "f1": lambda: _macro(matrix, 2),
    }


def _without_probabilities(sums: Classes) -> dict[str, Callable[[], Figure]]:
    of = "a positive class" if sums.matrix.shape == (2, 2) else "each class"
    nothing = Figure(None, reason=f"The model gives no probability of {of}")
    return {"roc_auc": lambda: nothing, "log_loss": lambda: nothing}


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
    return areas.divided(2 * hits, of)


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
        mean: Floats = areas.divided(parts, wholes, 0.0).sum(axis=-1) / of
        return mean

    return average(hits, predicted), average(hits, labels), average(2 * hits, predicted + labels)


def _auc(sums: Scores) -> Figure:
    """The area, with the interval of a share of so many rows as know as much of it.

    Wilson's (1927), of an effective number of rows as for shares that are estimated (Korn and
    Graubard 1998), see `areas.known_as`. It holds 94 % and more of samples where one class has 2 to
    100 labels, but for a few of the most skewed scores.
    """
    by_bin = sums.cells.sum(axis=1)  # (bin, label)
    positives, negatives = by_bin[None, :, 1], by_bin[None, :, 0]
    if not positives.sum() or not negatives.sum():
        return Figure(None, reason="Only one class was seen")
    area = float(areas.auc(positives, negatives)[0])
    n = areas.known_as(positives, negatives, area)
    return Figure(area, *wilson(area * n, n), bound=areas.ties(positives, negatives))


def _macro_auc(sums: Probabilities) -> Figure:
    """The mean of the areas of each class against all others, of the classes that have labels.

    The interval: what class by class is known of the spread (Sen 1960, DeLong 1988), and as the
    areas share their rows the largest that the mean's can be. Rows of different classes have
    nothing in common, so that their parts add up by squares; the parts of all others add up as
    they are (the triangle inequality). So it holds at least 95 %, on the scale of log odds.
    """
    positives, negatives = sums.cells[..., 1], sums.cells[..., 0]
    seen = (positives.sum(axis=-1) > 0) & (negatives.sum(axis=-1) > 0)
    classes, known = len(seen), int(seen.sum())
    if known < 2:
        return Figure(None, reason="Only one class was seen")
    positives, negatives = positives[seen], negatives[seen]
    area = float(areas.auc(positives, negatives).mean())
    own, others = areas.errors(positives, negatives)
    apart = np.sqrt(own + others).sum()
    error = min(np.sqrt(own.sum()) + np.sqrt(others).sum(), apart) / known
    notes = []
    if known < classes:
        notes.append(f"of {known} of {classes} classes, the others have no label")
    if classes > MOST_MEASURED:
        notes.append(f"classes after the first {MOST_MEASURED} count as one")
    low, high = _within_one(area, float(error), _sure(positives, negatives))
    return Figure(area, low, high, bound=areas.ties(positives, negatives), note="; ".join(notes))


def _sure(positives: Ints, negatives: Ints) -> float:
    """The least that areas of exactly 1 can be on the average: Wilson's of each rarer class.

    All its rows were at the right end. Were the others, which Wilson's interval leaves room for,
    all at the wrong end, the area would be the share of the former.
    """
    fewest = np.minimum(positives.sum(axis=-1), negatives.sum(axis=-1))
    return float(np.mean([wilson(n, n)[0] for n in fewest.tolist()]))


def _within_one(share: float, error: float, sure: float) -> tuple[float, float]:
    """The interval of an area of a known error, on the scale of log odds; `sure` at its ends."""
    if share >= 1:
        return sure, 1.0
    if share <= 0:
        return 0.0, 1 - sure
    middle = np.log(share / (1 - share))
    half = min(Z * error / (share * (1 - share)), 600.0)  # of which the power is still a number
    return float(1 / (1 + np.exp(half - middle))), float(1 / (1 + np.exp(-half - middle)))


def _ece(sums: Scores) -> Figure:
    """How far shares are from scores, on the average over all rows.

    Without an interval: drawn again it only grows, so that one would not hold the value itself.
    """
    cells = sums.cells.sum(axis=1)
    means = areas.divided(sums.score_sums, sums.cells.sum(axis=(1, 2)), 0.0)
    gaps = np.abs(cells[..., 1] - cells.sum(axis=-1) * means)
    return Figure(float(gaps.sum() / cells.sum()))


def _mean(total: float, squares: float, n: int, least: float | None = 0.0) -> Figure:
    mean = total / n
    half = Z * float(np.sqrt(max(0.0, squares / n - mean**2) / (n - 1)))
    low = mean - half
    return Figure(mean, low if least is None else max(least, low), mean + half)


def _rmse(sums: Values) -> Figure:
    if sums.e_abs > 0 and sums.e2 < sums.least:
        return Figure(None, reason=TOO_SMALL)
    square = _mean(sums.e2, sums.e4, sums.n)
    assert square.value is not None
    assert square.high is not None
    root = float(np.sqrt(square.value))
    if _rounded_away(sums):
        return Figure(root)
    # The derivative of the root; of no error at all it has none.
    half = (square.high - square.value) / (2 * root) if root else 0.0
    return Figure(root, max(0.0, root - half), root + half)


def _rounded_away(sums: Values) -> bool:
    """Whether the fixed point left too little of small errors' fourth powers for an interval.

    That is less than a step a row, or what no numbers have (Cauchy-Schwarz; the rest of 1e-9 is
    for errors that are all alike). Of nearly perfect models the intervals were of no width.
    """
    less = (1 - 1e-9) * sums.e2**2
    return sums.e_abs > 0 and (sums.e4 < sums.step or sums.e4 * sums.n < less)


def _r2(sums: Values) -> Figure:
    """1 - MSE / variance of the labels, as scikit-learn has it, also below 0.

    The interval is that of the logarithm of MSE / variance, by the delta method: each row's
    influence on the quotient q is (e^2 - q (y - mean)^2) / variance (Williamson, Gilbert, Carone
    and Simon 2021, Biometrics 77:9; Hawinkel, Waegeman and Maere 2024, The American Statistician
    78:15). No model needs to have been fitted and nothing be normal, as Olkin and Finn (1995) have
    it. Where predictions hardly differ from the mean label all influences vanish; what is then
    left, the square of the mean's own error, stands beside them with its second moment, 3 / n^2.
    """
    n, mean = sums.n, sums.y / sums.n
    around = sums.y2 - n * mean**2
    if around <= sums.grain + 1e-12 * sums.y2:
        same = sums.y2 >= sums.least or sums.y == sums.y2 == 0
        return Figure(None, reason="All labels are the same" if same else TOO_SMALL)
    ratio = sums.e2 / around
    if _rounded_away(sums):
        return Figure(1 - ratio)
    if ratio == 0:
        return Figure(1.0, 1.0, 1.0)
    fourth = sums.y4 - 4 * mean * sums.y3 + 6 * mean**2 * sums.y2 - 3 * n * mean**4
    both = sums.e2y2 - 2 * mean * sums.e2y + mean**2 * sums.e2
    influence = sums.e4 - 2 * ratio * both + ratio**2 * fourth
    variance = max(0.0, influence) / (around / n) ** 2 / n / (n - 1) + 3 * (ratio / n) ** 2
    factor = float(np.exp(Z * np.sqrt(variance) / ratio))
    return Figure(1 - ratio, 1 - ratio * factor, 1 - ratio / factor)
