"""The sums that quality is computed from: integers, so that what is subtracted leaves no trace.

A vector of int64 a span of time, added and subtracted place by place. Fractions are kept in fixed
point; what numbers leave in it stands in `amounts`. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.baselines.meaning import MOST_MEASURED, measured
from apps.quality import amounts
from apps.quality.amounts import Values
from apps.quality.lifecycle import Kind

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 50
CELLS = BINS * 2 * 2  # score bin x predicted x label
SCORE_UNIT = 1e9
SMALLEST = 1e-15  # a score of 0 or 1 that was wrong would have an infinite loss
# Of losses, of their squares, and of squared errors and theirs. A score that is next to 1 has a
# loss of 1e-16, whose square is 12 steps; the largest, of SMALLEST, is 1.2e36, and the limbs hold
# 2e37. In coarser steps the squares of very good models were 0, and so was their interval's width.
LOSS_UNIT = 1e33
LOSSES = {Kind.SCORES: 4, Kind.PROBABILITIES: 2}  # how many of them a vector ends with


@dataclass(frozen=True)
class Ruler:
    """How rows with labels are measured; frozen for a revision by its first labels.

    Of two classes the positive one comes last in every sum.
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    positive: int = 1
    mean: float = 0.0  # of the label, in the reference
    spread: float = 1.0

    @property
    def size(self) -> int:
        """The places of a vector."""
        if self.kind == Kind.SCORES:
            return CELLS + BINS + LOSSES[self.kind] * amounts.LIMBS
        if self.kind == Kind.CLASSES:
            return self.width**2
        if self.kind == Kind.PROBABILITIES:
            cells = self.width**2 + self.width * BINS * 2
            return cells + LOSSES[self.kind] * amounts.LIMBS
        return amounts.SIZE

    @property
    def names(self) -> list[str]:
        """The classes that the confusion matrix has, in its order."""
        if self.kind == Kind.SCORES:
            negative = next((c for i, c in enumerate(self.classes) if i != self.positive), "0")
            return [negative, self.classes[self.positive]]
        if len(self.classes) == 2 and self.positive == 0:
            return [self.classes[1], self.classes[0]]
        kept = list(self.classes[:MOST_MEASURED])
        return [*kept, "other"] if len(self.classes) > MOST_MEASURED else kept

    @property
    def width(self) -> int:
        return min(len(self.classes), MOST_MEASURED + 1)

    def each(self, given: Floats | None) -> Floats | None:
        """It gives the probability of each class in `names`, of rows of those of all classes."""
        return None if given is None or self.kind != Kind.PROBABILITIES else measured(given)

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "classes": list(self.classes),
            "positive": self.positive,
            "mean": self.mean,
            "spread": self.spread,
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Ruler":
        given = kept | {"kind": Kind(kept["kind"]), "classes": tuple(kept["classes"])}
        return cls(**given)


@dataclass(frozen=True)
class Rows:
    """Rows with labels, one place each. Classes are places in the ruler's classes."""

    score: Floats  # NaN where there is none
    predicted: Floats
    actual: Floats
    each: Floats | None = None  # (rows, ruler's width), where probabilities are measured

    @classmethod
    def kept(
        cls, rows: Sequence[tuple[float | None, float, float, Sequence[float] | None]]
    ) -> "Rows":
        """It reads rows of one revision as they were kept: score, prediction, label, each."""
        score, predicted, actual, each = zip(*rows, strict=True) if rows else ((), (), (), (None,))
        return cls(
            np.array([np.nan if one is None else one for one in score], float),
            np.array(predicted, float),
            np.array(actual, float),
            None if each[0] is None else np.array(each, float),
        )

    def where(self, chosen: npt.NDArray[Any]) -> "Rows":
        each = None if self.each is None else self.each[chosen]
        return Rows(self.score[chosen], self.predicted[chosen], self.actual[chosen], each)


@dataclass(frozen=True)
class Scores:
    cells: Ints  # (bin, predicted, label)
    score_sums: Floats  # by bin
    loss: float
    loss_squares: float
    square: float
    square_squares: float

    @property
    def n(self) -> int:
        return int(self.cells.sum())

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(
            self.cells + other.cells,
            self.score_sums + other.score_sums,
            self.loss + other.loss,
            self.loss_squares + other.loss_squares,
            self.square + other.square,
            self.square_squares + other.square_squares,
        )


@dataclass(frozen=True)
class Classes:
    matrix: Ints  # (predicted, label)

    @property
    def n(self) -> int:
        return int(self.matrix.sum())

    def __add__(self, other: "Classes") -> "Classes":
        return Classes(self.matrix + other.matrix)


@dataclass(frozen=True)
class Probabilities:
    """Of more than two classes, each against all others."""

    matrix: Ints  # (predicted, label)
    cells: Ints  # (class, bin of its probability, whether the label is it)
    loss: float
    loss_squares: float

    @property
    def n(self) -> int:
        return int(self.matrix.sum())

    def __add__(self, other: "Probabilities") -> "Probabilities":
        return Probabilities(
            self.matrix + other.matrix,
            self.cells + other.cells,
            self.loss + other.loss,
            self.loss_squares + other.loss_squares,
        )


Sums = Scores | Classes | Probabilities | Values


def count(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    """It sums the rows of each group: (n_groups, size)."""
    if ruler.kind == Kind.SCORES:
        return _count_scores(ruler, rows, groups, n_groups)
    if ruler.kind == Kind.CLASSES:
        return _count_classes(ruler, rows, groups, n_groups)
    if ruler.kind == Kind.PROBABILITIES:
        return _count_probabilities(ruler, rows, groups, n_groups)
    return amounts.count(ruler.mean, ruler.spread, rows.predicted, rows.actual, groups, n_groups)


def usable(ruler: Ruler, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows can be measured at all: their prediction could be read."""
    if ruler.kind == Kind.SCORES:
        return (rows.score >= 0) & (rows.score <= 1)
    if ruler.kind in (Kind.CLASSES, Kind.PROBABILITIES):
        return rows.predicted >= 0
    return np.isfinite(rows.predicted)


def read(ruler: Ruler, vector: Ints) -> Sums:
    """It gives a vector's places their names and units."""
    if ruler.kind == Kind.SCORES:
        return Scores(
            vector[:CELLS].reshape(BINS, 2, 2),
            vector[CELLS : CELLS + BINS] / SCORE_UNIT,
            *amounts.together(vector[CELLS + BINS :], LOSS_UNIT),
        )
    if ruler.kind == Kind.CLASSES:
        return Classes(vector.reshape(ruler.width, ruler.width))
    if ruler.kind == Kind.PROBABILITIES:
        square, cells = ruler.width**2, ruler.size - LOSSES[ruler.kind] * amounts.LIMBS
        return Probabilities(
            vector[:square].reshape(ruler.width, ruler.width),
            vector[square:cells].reshape(ruler.width, BINS, 2),
            *amounts.together(vector[cells:], LOSS_UNIT),
        )
    return amounts.read(ruler.mean, ruler.spread, vector)


def pack(vector: Ints) -> bytes:
    return vector.astype("<i8").tobytes()


def unpack(kept: bytes | memoryview) -> Ints:
    return np.frombuffer(bytes(kept), "<i8").astype(np.int64)


def _count_scores(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    found = np.zeros((n_groups, ruler.size), np.int64)
    bins = np.minimum((rows.score * BINS).astype(np.int64), BINS - 1)
    # Without a class the score decides, as every classifier does that is told no threshold.
    chosen = np.where(rows.predicted >= 0, rows.predicted == ruler.positive, rows.score >= 0.5)
    positive = rows.actual == ruler.positive
    np.add.at(found, (groups, (bins * 2 + chosen) * 2 + positive), 1)
    np.add.at(found, (groups, CELLS + bins), _fixed(rows.score, SCORE_UNIT))
    right = np.where(positive, rows.score, 1 - rows.score)
    loss = -np.log(np.clip(right, SMALLEST, 1))
    square = (1 - right) ** 2
    _add_losses(found, groups, loss, loss**2, square, square**2)
    return found


def _count_classes(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    found = np.zeros((n_groups, ruler.size), np.int64)
    last = ruler.width - 1
    predicted = np.minimum(rows.predicted.astype(np.int64), last)
    actual = np.minimum(rows.actual.astype(np.int64), last)
    if last == 1 and ruler.positive == 0:
        predicted, actual = 1 - predicted, 1 - actual
    np.add.at(found, (groups, predicted * ruler.width + actual), 1)
    return found


def _count_probabilities(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    assert rows.each is not None
    found = np.zeros((n_groups, ruler.size), np.int64)
    square = ruler.width**2
    last = ruler.width - 1
    actual = np.minimum(rows.actual.astype(np.int64), last)
    predicted = np.minimum(rows.predicted.astype(np.int64), last)
    np.add.at(found, (groups, predicted * ruler.width + actual), 1)
    for place, bins in enumerate(spread_bins(rows.each).T):
        cell = square + (place * BINS + bins) * 2 + (actual == place)
        np.add.at(found, (groups, cell), 1)
    right = rows.each[np.arange(len(actual)), actual]
    loss = -np.log(np.clip(right, SMALLEST, 1))
    _add_losses(found, groups, loss, loss**2)
    return found


def _add_losses(found: Ints, groups: Ints, *losses: Floats) -> None:
    """It adds them up where vectors end."""
    first = found.shape[1] - len(losses) * amounts.LIMBS
    parts = [part for values in losses for part in amounts.limbs(values, LOSS_UNIT)]
    for place, part in enumerate(parts, first):
        np.add.at(found[:, place], groups, part)


def spread_bins(probability: Floats) -> Ints:
    """It gives bins that are narrow near 0 and 1, where those of one of many classes crowd.

    The odds are taken to their root: the first of 50 ends at 0.0004, those at 0.5 are 0.04 wide.
    """
    root, other = np.sqrt(probability), np.sqrt(1 - probability)
    bins: Ints = np.minimum((root / (root + other) * BINS).astype(np.int64), BINS - 1)
    return bins


def _fixed(values: Floats, unit: float) -> Ints:
    return np.round(values * unit).astype(np.int64)
