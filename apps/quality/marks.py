"""The sums that quality is computed from: integers, so that what is subtracted leaves no trace.

A vector of int64 a span of time, added and subtracted place by place. Fractions are kept in fixed
point; powers of errors, which are larger than an int64, as four limbs of 31 bits, which are added
apart and put together when they are read. Pure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.quality.lifecycle import Kind

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 50
MOST_CLASSES = 20  # the others are one class, "other"
CELLS = BINS * 2 * 2  # score bin x predicted x label
SCORE_UNIT = 1e9
LOSS_UNIT = 1e6  # the square of a loss is up to 1,200, and there may be billions of them
SQUARE_UNIT = 1e9
SMALLEST = 1e-15  # a score of 0 or 1 that was wrong would have an infinite loss
EXTREME = 1e6  # spreads of the label; one such row would say what all others together say
POWER_UNIT = 1e9
LIMBS = 4
LIMB = 2**31
POWERS = ("e", "e_abs", "e2", "e4", "y", "y2")


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
            return CELLS + BINS + 4
        if self.kind == Kind.CLASSES:
            return self.width**2
        return 2 + len(POWERS) * LIMBS

    @property
    def names(self) -> list[str]:
        """The classes that the confusion matrix has, in its order."""
        if self.kind == Kind.SCORES:
            negative = next((c for i, c in enumerate(self.classes) if i != self.positive), "0")
            return [negative, self.classes[self.positive]]
        if len(self.classes) == 2 and self.positive == 0:
            return [self.classes[1], self.classes[0]]
        kept = list(self.classes[:MOST_CLASSES])
        return [*kept, "other"] if len(self.classes) > MOST_CLASSES else kept

    @property
    def width(self) -> int:
        return min(len(self.classes), MOST_CLASSES + 1)

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
class Values:
    """Sums in the label's own unit; `e` is label minus prediction."""

    n: int
    extreme: int
    e: float
    e_abs: float
    e2: float
    e4: float
    y: float
    y2: float

    def __add__(self, other: "Values") -> "Values":
        return Values(*(a + b for a, b in zip(_parts(self), _parts(other), strict=True)))


Sums = Scores | Classes | Values


def count(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    """It sums the rows of each group: (n_groups, size)."""
    if ruler.kind == Kind.SCORES:
        return _count_scores(ruler, rows, groups, n_groups)
    if ruler.kind == Kind.CLASSES:
        return _count_classes(ruler, rows, groups, n_groups)
    return _count_values(ruler, rows, groups, n_groups)


def usable(ruler: Ruler, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which rows can be measured at all: their prediction could be read."""
    if ruler.kind == Kind.SCORES:
        return (rows.score >= 0) & (rows.score <= 1)
    if ruler.kind == Kind.CLASSES:
        return rows.predicted >= 0
    return np.isfinite(rows.predicted)


def read(ruler: Ruler, vector: Ints) -> Sums:
    """It gives a vector's places their names and units."""
    if ruler.kind == Kind.SCORES:
        rest = vector[CELLS + BINS :].astype(float)
        units = (LOSS_UNIT, LOSS_UNIT, SQUARE_UNIT, SQUARE_UNIT)
        return Scores(
            vector[:CELLS].reshape(BINS, 2, 2),
            vector[CELLS : CELLS + BINS] / SCORE_UNIT,
            *(float(value / unit) for value, unit in zip(rest, units, strict=True)),
        )
    if ruler.kind == Kind.CLASSES:
        return Classes(vector.reshape(ruler.width, ruler.width))
    return _read_values(ruler, vector)


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
    for place, (values, unit) in enumerate(
        (
            (loss, LOSS_UNIT),
            (loss**2, LOSS_UNIT),
            (square, SQUARE_UNIT),
            (square**2, SQUARE_UNIT),
        ),
        CELLS + BINS,
    ):
        np.add.at(found[:, place], groups, _fixed(values, unit))
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


def _count_values(ruler: Ruler, rows: Rows, groups: Ints, n_groups: int) -> Ints:
    found = np.zeros((n_groups, ruler.size), np.int64)
    error = (rows.actual - rows.predicted) / ruler.spread
    label = (rows.actual - ruler.mean) / ruler.spread
    extreme = ~((np.abs(error) <= EXTREME) & (np.abs(label) <= EXTREME))
    np.add.at(found, (groups, extreme.astype(np.int64)), 1)
    error, label, groups = error[~extreme], label[~extreme], groups[~extreme]
    for place, values in enumerate(
        (error, np.abs(error), error**2, error**4, label, label**2),
    ):
        for limb, part in enumerate(_limbs(values)):
            np.add.at(found[:, 2 + place * LIMBS + limb], groups, part)
    return found


def _fixed(values: Floats, unit: float) -> Ints:
    return np.round(values * unit).astype(np.int64)


def _limbs(values: Floats) -> list[Ints]:
    """It takes whole numbers apart, least limb first; each has the sign of the whole.

    Exact: floats are divided by powers of two only.
    """
    whole = np.round(values * POWER_UNIT)
    sign, rest = np.sign(whole).astype(np.int64), np.abs(whole)
    parts = []
    for place in range(LIMBS - 1, 0, -1):
        size = float(LIMB**place)
        high = np.floor(rest / size)
        rest = rest - high * size
        parts.append(sign * high.astype(np.int64))
    return [sign * rest.astype(np.int64), *reversed(parts)]


def _read_values(ruler: Ruler, vector: Ints) -> Values:
    n, extreme = int(vector[0]), int(vector[1])
    limbs = vector[2:].reshape(len(POWERS), LIMBS)
    e, e_abs, e2, e4, y, y2 = (
        sum(int(part) * LIMB**place for place, part in enumerate(row)) / int(POWER_UNIT)
        for row in limbs
    )
    mean, spread = ruler.mean, ruler.spread
    return Values(
        n=n,
        extreme=extreme,
        e=e * spread,
        e_abs=e_abs * spread,
        e2=e2 * spread**2,
        e4=e4 * spread**4,
        y=n * mean + y * spread,
        y2=n * mean**2 + 2 * mean * spread * y + y2 * spread**2,
    )


def _parts(values: Values) -> tuple[Any, ...]:
    return (
        values.n, values.extreme, values.e, values.e_abs,
        values.e2, values.e4, values.y, values.y2,
    )  # fmt: skip
