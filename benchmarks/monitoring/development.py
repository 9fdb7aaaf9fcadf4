"""Other data than `truth`, to develop the rule of drift on: which signals of which columns err.

Columns of other shapes and other seeds, references of any length. A window is drawn as counts, from
the exact share of each bin, much faster than as rows, so that one alarm in ten thousand is seen.

`python -m benchmarks.monitoring.development REFERENCE_ROWS WINDOW_ROWS [REFERENCES [WINDOWS]]`
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import stats

from apps.baselines.distances import BLOCKS, natural
from apps.baselines.layout import ABOVE, BELOW, COUNTERS, MISSING, Column, Counts, Kind, Role, fit
from apps.baselines.texts import hashed
from apps.monitoring.drift import judge

SEED = 20_261_130  # never that of `truth`
SIGNALS = (*COUNTERS, "unseen")

Generator = np.random.Generator
Floats = npt.NDArray[np.float64]
Cells = list[tuple[float, tuple[int, ...]]]  # share of the rows, the slots that they count in


@dataclass(frozen=True)
class Numbers:
    """A column of numbers: some missing, some zero, the others of a distribution of scipy's."""

    name: str
    of: Any
    missing: float = 0.0
    zero: float = 0.0
    is_whole: bool = False

    def draw(self, rng: Generator, rows: int) -> pa.Array:
        found = np.asarray(self.of.rvs(rows, random_state=rng), dtype=np.float64)
        found = np.where(rng.random(rows) < self.zero, 0.0, found)
        return pa.array(found, mask=rng.random(rows) < self.missing)

    def cells(self, column: Column) -> Cells:
        """Below and above are parts of the outer bins, or of what was never seen."""
        below = float(self._less(column.low))
        above = float(1 - self._less(np.nextafter(column.high or 0.0, np.inf)))
        if column.kind is Kind.DISCRETE:
            values = np.array(column.values, dtype=np.float64)
            shares = self._less(np.nextafter(values, np.inf)) - self._less(values)
            odd = column.bins - 1
            between = max(1 - float(shares.sum()) - below - above, 0.0)
            outer = [(below, (odd, column.bins + BELOW)), (above, (odd, column.bins + ABOVE))]
            found = [*outer, (between, (odd,))]
        else:
            shares = np.diff([0.0, *self._less(column.edges), 1.0])
            shares[0], shares[-1] = shares[0] - below, shares[-1] - above
            last = column.bins - 1
            found = [(below, (0, column.bins + BELOW)), (above, (last, column.bins + ABOVE))]
        return found + [(max(float(share), 0.0), (at,)) for at, share in enumerate(shares)]

    def _less(self, than: Any) -> Floats:
        """The share of values below, without the missing."""
        edge = np.asarray(than, dtype=np.float64)
        share = self.of.cdf(np.ceil(edge) - 1 if self.is_whole else edge)
        found: Floats = (1 - self.zero) * share + self.zero * (edge > 0)
        return found


@dataclass(frozen=True)
class Words:
    """A column of categories with these weights."""

    name: str
    weights: npt.NDArray[Any]
    missing: float = 0.0

    @property
    def shares(self) -> Floats:
        found: Floats = self.weights / self.weights.sum()
        return found

    def draw(self, rng: Generator, rows: int) -> pa.Array:
        places = rng.choice(self.weights.size, rows, p=self.shares)
        words = pa.array([str(place) for place in range(self.weights.size)])
        return words.take(pa.array(places, mask=rng.random(rows) < self.missing))

    def cells(self, column: Column) -> Cells:
        frequent = {str(value): place for place, value in enumerate(column.values)}
        known = set(column.known_hashes.tolist())
        found = np.zeros(column.bins)
        for place, share in enumerate(self.shares):
            rare = column.bins - (2 if hashed(str(place)) in known else 1)
            found[frequent.get(str(place), rare)] += share
        return [(float(share), (at,)) for at, share in enumerate(found)]


def _falling(kinds: int, power: float) -> Floats:
    return np.arange(1, kinds + 1, dtype=np.float64) ** -power


COLUMNS: tuple[Numbers | Words, ...] = (
    Numbers("normal", stats.norm(5, 2)),
    Numbers("normal-3-missing", stats.norm(), missing=0.03),
    Numbers("normal-30-missing", stats.norm(), missing=0.3),
    Numbers("weibull", stats.weibull_min(0.7)),
    Numbers("chi2", stats.chi2(2), missing=0.01),
    Numbers("logistic", stats.logistic()),
    Numbers("laplace", stats.laplace()),
    Numbers("triangle", stats.triang(0.3)),
    Numbers("cauchy", stats.cauchy()),
    Numbers("gumbel", stats.gumbel_r()),
    Numbers("beta", stats.beta(2, 5)),
    Numbers("arcsine", stats.beta(0.5, 0.5)),
    Numbers("zero-90", stats.gamma(2), zero=0.9),
    Numbers("zero-40", stats.lognorm(1), zero=0.4),
    Numbers("poisson-low", stats.poisson(0.5), is_whole=True),
    Numbers("poisson", stats.poisson(12), is_whole=True),
    Numbers("geometric", stats.geom(0.1), is_whole=True),
    Numbers("binomial", stats.binom(20, 0.3), is_whole=True),
    Numbers("hour", stats.randint(0, 24), is_whole=True),
    Words("two", np.array([99, 1])),
    Words("four", np.array([5, 3, 1, 1]), missing=0.2),
    Words("twelve", _falling(12, 1)),
    Words("thirty", 0.8 ** np.arange(30)),
    Words("steep-49", _falling(49, 1.5)),
    Words("sixty", _falling(60, 1)),
    Words("one-of-80", np.array([95.0, *[5 / 79] * 79])),
    Words("flat-150", np.ones(150)),
    Words("mild-500", _falling(500, 0.5)),
    Words("steep-2000", _falling(2_000, 1.3)),
    Words("flat-5000", np.ones(5_000)),
)


def false_alarms(rng: Generator, reference_rows: int, rows: int, windows: int) -> Counter[str]:
    """It counts the windows with any alarm ("any"), and the alarms by column and signal."""
    names = {f"in.{one.name}": one for one in COLUMNS}
    table = pa.table({name: one.draw(rng, reference_rows) for name, one in names.items()})
    layout = fit(table, dict.fromkeys(names, Role.INPUT), None)
    blocks = layout.count(table, np.arange(reference_rows) * BLOCKS // reference_rows, BLOCKS)
    usual, found = natural(layout, blocks), Counter({"any": 0})
    drawn = np.zeros((windows, layout.size), dtype=np.int64)
    for column, start in zip(layout.columns, layout.starts.tolist(), strict=False):
        drawn[:, start : start + column.size] = _windows(
            rng, names[column.name], column, rows, windows
        )
    for window in drawn:
        loud = [
            f"{one.label} {signal}"
            for one in judge(layout, blocks.sum(axis=0), window, usual, {})
            for signal, state in _states(one).items()
            if state.is_loud
        ]
        found.update([*loud, *["any"] * bool(loud)])
    return found


def _windows(
    rng: Generator, one: Numbers | Words, column: Column, rows: int, windows: int
) -> Counts:
    cells = [(share * (1 - one.missing), slots) for share, slots in one.cells(column)]
    cells.append((one.missing, (column.bins + MISSING,)))
    shares = np.array([share for share, _ in cells])
    drawn = rng.multinomial(rows, shares / shares.sum(), windows)
    found = np.zeros((windows, column.size), dtype=np.int64)
    for place, (_, slots) in enumerate(cells):
        for slot in slots:
            found[:, slot] += drawn[:, place]
    return found


def _states(one: Any) -> Mapping[str, Any]:
    return {"distance": one.state, **{name: getattr(one, name).state for name in SIGNALS}}


def main(arguments: list[str]) -> None:
    reference_rows, rows, references, windows = [int(one) for one in arguments] + [10, 2_000][
        len(arguments) - 2 :
    ]
    found: Counter[str] = Counter()
    for reference in range(references):
        rng = np.random.default_rng([SEED, reference_rows, rows, reference])
        found += false_alarms(rng, reference_rows, rows, windows)
    share = 100 * found.pop("any", 0) / (references * windows)
    print(f"{share:.3f} % of {references * windows:,} windows", dict(found.most_common()))


if __name__ == "__main__":
    main(sys.argv[1:])
