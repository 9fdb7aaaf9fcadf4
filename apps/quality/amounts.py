"""The sums of models that foretell numbers: powers of errors and labels, as whole numbers. Pure.

Powers are larger than an int64: each is four limbs of 31 bits, which are added and subtracted apart
and put together when they are read.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EXTREME = 1e6  # spreads of the label; one such row would say what all others together say
# The fourth power of an error of a thousandth of a spread is one step; that of EXTREME is 1e36, and
# four limbs hold 2e37.
POWER_UNIT = 1e12
LIMBS = 4
LIMB = 2**31
POWERS = ("e", "e_abs", "e2", "e4", "y", "y2", "y3", "y4", "e2y", "e2y2")
FINENESS = ("grain", "step", "least")
STEPS_ENOUGH = 100  # a row: rounding puts a sum of so many off by at most half a hundredth
SIZE = 2 + len(POWERS) * LIMBS


@dataclass(frozen=True)
class Values:
    """Sums in the label's own unit: `e` is label minus prediction, `y` label minus `origin`.

    Near the labels' mean the powers of `y` lose no digits when the mean is taken out of them.
    """

    n: int
    extreme: int
    e: float
    e_abs: float
    e2: float
    e4: float
    y: float
    y2: float
    y3: float
    y4: float
    e2y: float
    e2y2: float
    origin: float = 0.0
    grain: float = field(default=0.0, compare=False)  # how far rounding may put `y2` off
    step: float = field(default=0.0, compare=False)  # what `e4` is of one step a row
    least: float = field(default=0.0, compare=False)  # below it rounding puts a square sum off

    def __add__(self, other: "Values") -> "Values":
        pairs = zip(_parts(self), _parts(other.about(self.origin)), strict=True)
        added = Values(*(a + b for a, b in pairs))
        fine = {name: getattr(self, name) + getattr(other, name) for name in FINENESS}
        return replace(added, origin=self.origin, **fine)

    def about(self, origin: float) -> "Values":
        """It gives the same with the label's powers about another origin."""
        by = self.origin - origin
        y, y2, y3 = self.y, self.y2, self.y3
        return replace(
            self,
            y=y + by * self.n,
            y2=y2 + 2 * by * y + by**2 * self.n,
            y3=y3 + 3 * by * y2 + 3 * by**2 * y + by**3 * self.n,
            y4=self.y4 + 4 * by * y3 + 6 * by**2 * y2 + 4 * by**3 * y + by**4 * self.n,
            e2y=self.e2y + by * self.e2,
            e2y2=self.e2y2 + 2 * by * self.e2y + by**2 * self.e2,
            origin=origin,
        )


def count(
    mean: float,
    spread: float,
    predicted: Floats,
    actual: Floats,
    groups: Ints,
    n_groups: int,
) -> Ints:
    """It sums the rows of each group, in spreads of the label about its mean: (n_groups, SIZE)."""
    found = np.zeros((n_groups, SIZE), np.int64)
    with np.errstate(over="ignore", invalid="ignore"):  # of 1e300: such rows are extreme
        error = (actual - predicted) / spread
        label = (actual - mean) / spread
    extreme = ~((np.abs(error) <= EXTREME) & (np.abs(label) <= EXTREME))
    np.add.at(found, (groups, extreme.astype(np.int64)), 1)
    error, label, groups = error[~extreme], label[~extreme], groups[~extreme]
    for place, values in enumerate(
        (
            error, np.abs(error), error**2, error**4,
            label, label**2, label**3, label**4, error**2 * label, (error * label) ** 2,
        ),
    ):  # fmt: skip
        for limb, part in enumerate(limbs(values, POWER_UNIT)):
            np.add.at(found[:, 2 + place * LIMBS + limb], groups, part)
    return found


def read(mean: float, spread: float, vector: Ints) -> Values:
    """It gives a vector's places their names and units."""
    n, extreme = int(vector[0]), int(vector[1])
    e, e_abs, e2, e4, y, y2, y3, y4, e2y, e2y2 = together(vector[2:], POWER_UNIT)
    unit = spread
    return Values(
        n=n,
        extreme=extreme,
        e=e * unit,
        e_abs=e_abs * unit,
        e2=e2 * unit**2,
        e4=e4 * unit**4,
        y=y * unit,
        y2=y2 * unit**2,
        y3=y3 * unit**3,
        y4=y4 * unit**4,
        e2y=e2y * unit**3,
        e2y2=e2y2 * unit**4,
        origin=mean,
        # Half a step of each row in `y2`, and twice the mean of half a step in `y`.
        grain=unit**2 * (n / 2 + abs(y)) / POWER_UNIT,
        step=unit**4 * n / POWER_UNIT,
        least=unit**2 * n * STEPS_ENOUGH / POWER_UNIT,
    )


def limbs(values: Floats, unit: float) -> list[Ints]:
    """It takes whole numbers apart, least limb first; each has the sign of the whole.

    Exact: floats are divided by powers of two only. A limb holds the sum of four billion of them.
    """
    whole = np.round(values * unit)
    sign, rest = np.sign(whole).astype(np.int64), np.abs(whole)
    parts = []
    for place in range(LIMBS - 1, 0, -1):
        size = float(LIMB**place)
        high = np.floor(rest / size)
        rest = rest - high * size
        parts.append(sign * high.astype(np.int64))
    return [sign * rest.astype(np.int64), *reversed(parts)]


def together(vector: Ints, unit: float) -> list[float]:
    """It puts numbers together again, each of so many limbs."""
    return [
        sum(int(part) * LIMB**place for place, part in enumerate(row)) / int(unit)
        for row in vector.reshape(-1, LIMBS)
    ]


def _parts(values: Values) -> tuple[Any, ...]:
    return (
        values.n, values.extreme, values.e, values.e_abs, values.e2, values.e4,
        values.y, values.y2, values.y3, values.y4, values.e2y, values.e2y2,
    )  # fmt: skip
