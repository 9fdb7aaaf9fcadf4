"""How far counts of a window are from counts of a reference. Pure: count arrays in, figures out.

With n rows of the reference in counts p, m of the window in counts q, B bins that either occupies,
P = p/n, Q = q/m and M = (P+Q)/2:

- JS* = sqrt(max(0, JS2 - (B-1)(1/n+1/m)/(8 ln 2))), where JS2 = (KL2(P|M) + KL2(Q|M))/2 in bits
  (Lin 1991, "Divergence measures based on the Shannon entropy"). What is taken off is what chance
  alone adds, so that a small window is no further away than a large one; between 0 and 1.
- PSI* = max(0, PSI - (B-1)(1/n+1/m)), PSI with half a row added to each bin.
- KS = the largest gap of the cumulated shares at the bins' edges; of ordered bins only.
- chi-squared p of the test of homogeneity; bins in which less than one row of the window is
  expected stand together as one.
- p = the larger of that and of JS2 8 ln 2 / (1/n + 1/m), which is chi-squared too. Of many rare
  bins one surplus fools the first and many gaps fool the second: of 200,000 windows of 1,000 rows
  in 49 categories that fall as k^-1.5, 8.8 and 40 times as many as should be had p < 0.00003 by
  one, 1.4 times by both; of 20 equal bins 1.1, 1.8 and 0.8 times.

Of more categories than have bins, those that came most in the reference have theirs partly because
they came often there by chance. The first share q of equal categories is off by 1 + z f(z)/q times
the variance of any, f being the normal density and z its point that q lies above (measured: 2.4 of
2.5 for 49 of 300, 4.0 of 4.4 of 1,000, at most 6 of 20,000). So 1/n is so many times 1/n in all of
the above for a reference against which such bins were chosen: of windows of 1,000 rows in 5,000
equal categories, of which the reference had 5,000 rows, 195 times as many as should be had
p < 0.000016, and none of 100,000 since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from apps.baselines.layout import MISSING, Column, Counts, Kind, Layout

BLOCKS = 10
LEAST_BLOCK_ROWS = 500  # a smaller block differs by chance more than data does by season
LN2 = log(2)
LEAST_EXPECTED = 1.0
LEAST_SORTED = 0.2  # JS*, or share of missing: no ten blocks of time lie so far from each other
MOST_DOUBT = 6.0
NORMAL = NormalDist()

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """A window against a reference in one column.

    None where either has no value, or where all values have the same bin.
    """

    column: str
    n: int
    m: int
    js: float | None
    psi: float | None
    ks: float | None  # None too where the bins have no order
    p: float | None  # how often chance alone differs so much, by both tests
    doubt: float = 1.0  # times that the reference's variance counts


@dataclass(frozen=True)
class Columns:
    """The bins of several columns, one behind the other, as counts of reference and window."""

    p: Floats
    q: Floats
    starts: npt.NDArray[np.int64]  # where each column's bins begin
    doubt: Floats  # times that the variance of each column's reference counts

    @property
    def of_bin(self) -> npt.NDArray[np.int64]:
        """The column of each bin."""
        return np.repeat(np.arange(len(self.starts)), np.diff([*self.starts, len(self.p)]))

    def sum(self, values: npt.NDArray[np.generic]) -> Floats:
        return np.add.reduceat(values.astype(np.float64), self.starts)


def js_star(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """It gives JS* of one column's counts. Raises: ValueError where one of them has no rows."""
    return float(_js(_one(p, q))[0])


def psi_star(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """It gives PSI* of one column's counts. Raises: ValueError where one of them has no rows."""
    return float(_psi(_one(p, q))[0])


def ks(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """It gives KS of ordered counts. Raises: ValueError where one of them has no rows."""
    return float(_ks(_one(p, q))[0])


def chi2_p(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """It gives the chi-squared test's p. Raises: ValueError as `js_star`."""
    return float(_chi2_p(_one(p, q))[0])


def compare(
    layout: Layout, reference: Counts, window: Counts, *, is_fitted: bool = True
) -> list[Distance]:
    """It gives the distances of all columns; the cost does not depend on how much was counted.

    `is_fitted`: the reference is the rows that the layout was made for. They have no unseen
    category by construction; as many as came once only are expected in as many new rows (Good
    1953, "The population frequencies of species").
    """
    p = reference[layout.bin_slots].astype(np.float64)
    q = window[layout.bin_slots].astype(np.float64)
    if not layout.columns:
        return []
    if is_fitted:
        _expect_unseen(layout, p)
    doubt = doubts(layout, is_fitted=is_fitted)
    columns = Columns(p, q, layout.bin_starts, doubt)
    n, m = columns.sum(p), columns.sum(q)
    # Where one bin takes whatever comes, two windows are always alike: that says nothing.
    several = np.array([column.bins > 1 for column in layout.columns])
    there = (n > 0) & (m > 0) & several
    figures = [_where(there, found) for found in _all(columns)]
    return [
        Distance(
            column.name,
            int(n[at]),
            int(m[at]),
            js,
            psi,
            gap if column.is_ordered else None,
            p,
            float(doubt[at]),
        )
        for at, (column, js, psi, gap, p) in enumerate(zip(layout.columns, *figures, strict=True))
    ]


def doubts(layout: Layout, *, is_fitted: bool) -> Floats:
    """It gives how many times the variance of the reference counts in each column."""
    return np.array([_doubt(one) if is_fitted else 1.0 for one in layout.columns])


def natural(layout: Layout, block_counts: Counts) -> dict[str, dict[str, float]]:
    """It gives how far any block of the reference lies from the others: what is usual for it.

    `block_counts` are the counts of the blocks, (blocks, size), in order of time; neighbours are
    put together until each has enough rows. For each column: "js", "missing" (difference of the
    shares) and "unseen" (share of categories that came only once).
    """
    blocks = _enough(layout, block_counts)
    whole = blocks.sum(axis=0)
    js = dict.fromkeys(layout.by_name, 0.0)
    missing = np.zeros(len(layout.columns))
    for block in blocks if len(blocks) > 1 else []:
        for distance in compare(layout, whole - block, block, is_fitted=False):
            js[distance.column] = max(js[distance.column], distance.js or 0.0)
        gap = missing_shares(layout, block) - missing_shares(layout, whole - block)
        missing = np.fmax(missing, np.abs(gap))
    return {
        column.name: {
            "js": js[column.name],
            "missing": float(missing[at]),
            "unseen": column.singles,
        }
        for at, column in enumerate(layout.columns)
    }


def sorted_by(natural: Mapping[str, Mapping[str, float]]) -> list[str]:
    """It names the columns, the furthest first, that rows not known to be in the order of time
    are sorted or grouped by."""
    most = {name: max(one["js"], one["missing"]) for name, one in natural.items()}
    return sorted(
        (name for name, gap in most.items() if gap >= LEAST_SORTED),
        key=lambda name: (-most[name], name),
    )


def without_order(natural: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """It leaves of what is usual what no order of the rows tells."""
    return {name: {"unseen": one["unseen"]} for name, one in natural.items()}


def missing_shares(layout: Layout, counts: Counts) -> Floats:
    """It gives the share of rows without a value in each column; NaN where there are no rows."""
    rows = rows_of(layout, counts).astype(np.float64)
    found = counts[layout.counter_slots[:, MISSING]]
    shares: Floats = np.divide(found, rows, out=np.full(len(rows), np.nan), where=rows > 0)
    return shares


def values_of(layout: Layout, counts: Counts) -> npt.NDArray[np.int64]:
    """It gives how many values of each column are in its bins."""
    if not layout.columns:
        return np.zeros(0, np.int64)
    return np.add.reduceat(counts[layout.bin_slots], layout.bin_starts)


def rows_of(layout: Layout, counts: Counts) -> npt.NDArray[np.int64]:
    """It gives how many rows were counted for each column, with those that had no value.

    All that were answered, and those refused that lacked this column or had another type in it.
    """
    no_value = counts[layout.counter_slots[:, :4]].sum(axis=1)  # missing, absent, wrong, non_finite
    rows: npt.NDArray[np.int64] = values_of(layout, counts) + no_value
    return rows


def _doubt(column: Column) -> float:
    """How far its most frequent categories are off for having been chosen."""
    if column.kind is not Kind.CATEGORICAL or not column.values or column.known == b"":
        return 1.0
    if column.known is None:  # more than anyone counted
        return MOST_DOUBT
    own = len(column.values)
    share = own / (own + len(column.known_hashes))
    z = NORMAL.inv_cdf(1 - share)
    return min(max(1 + z * NORMAL.pdf(z) / share, 1.0), MOST_DOUBT)


def _one(p: npt.ArrayLike, q: npt.ArrayLike) -> Columns:
    columns = Columns(
        np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64), np.zeros(1, np.int64),
        np.ones(1),
    )  # fmt: skip
    if columns.p.sum() <= 0 or columns.q.sum() <= 0:
        raise ValueError("There is nothing to compare with")
    return columns


def _all(columns: Columns) -> tuple[Floats, Floats, Floats, Floats]:
    p = np.maximum(_chi2_p(columns), _js_p(columns))
    return _js(columns), _psi(columns), _ks(columns), p


def _where(there: npt.NDArray[np.bool_], found: Floats) -> list[float | None]:
    return [
        float(value) if is_there else None for is_there, value in zip(there, found, strict=True)
    ]


def _shares(columns: Columns) -> tuple[Floats, Floats]:
    n, m = columns.sum(columns.p), columns.sum(columns.q)
    place = columns.of_bin
    return columns.p / np.maximum(n, 1)[place], columns.q / np.maximum(m, 1)[place]


def _noise(columns: Columns) -> Floats:
    """1/n + 1/m"""
    n, m = np.maximum(columns.sum(columns.p), 1), np.maximum(columns.sum(columns.q), 1)
    return columns.doubt / n + 1 / m


def _free(columns: Columns) -> Floats:
    """B - 1"""
    return np.maximum(columns.sum(columns.p + columns.q > 0) - 1, 0)


def _bits(columns: Columns) -> Floats:
    """JS2"""
    p, q = _shares(columns)
    middle = (p + q) / 2
    return columns.sum(_information(p, middle) + _information(q, middle)) / 2


def _js(columns: Columns) -> Floats:
    chance = _free(columns) * _noise(columns) / (8 * LN2)
    found: Floats = np.sqrt(np.clip(_bits(columns) - chance, 0.0, 1.0))
    return found


def _js_p(columns: Columns) -> Floats:
    free, statistic = _free(columns), np.maximum(_bits(columns), 0) * 8 * LN2 / _noise(columns)
    found: Floats = np.where(free > 0, chdtrc(np.maximum(free, 1), statistic), 1.0)
    return found


def _information(p: Floats, middle: Floats) -> Floats:
    """p log2(p/middle), 0 where p is."""
    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    found: Floats = p * np.log2(ratio)
    return found


def _psi(columns: Columns) -> Floats:
    occupied = columns.p + columns.q > 0
    half = Columns(
        np.where(occupied, columns.p + 0.5, 0), np.where(occupied, columns.q + 0.5, 0),
        columns.starts, columns.doubt,
    )  # fmt: skip
    p, q = _shares(half)
    ratio = np.divide(q, p, out=np.ones_like(p), where=occupied)
    return np.maximum(0.0, columns.sum((q - p) * np.log(ratio)) - _free(columns) * _noise(columns))


def _ks(columns: Columns) -> Floats:
    p, q = _shares(columns)
    gaps = np.cumsum(p - q)
    before = np.concatenate([[0.0], gaps])[columns.starts]
    found = np.maximum.reduceat(np.abs(gaps - before[columns.of_bin]), columns.starts)
    return np.clip(found, 0.0, 1.0)


def _chi2_p(columns: Columns) -> Floats:
    n, m = np.maximum(columns.sum(columns.p), 1), np.maximum(columns.sum(columns.q), 1)
    both = columns.p + columns.q
    expected = both * (m / (n + m))[columns.of_bin]
    is_rare = expected < LEAST_EXPECTED
    parts = _surplus(np.where(is_rare, 0, columns.q), np.where(is_rare, 0, expected))
    rare_expected = columns.sum(np.where(is_rare, expected, 0))
    rare = _surplus(columns.sum(np.where(is_rare, columns.q, 0)), rare_expected)
    # What is seen varies by n (n + doubt m) / (n + m)^2 times what is expected.
    statistic = (columns.sum(parts) + rare) * (1 + m / n) ** 2 / (1 + columns.doubt * m / n)
    bins = columns.sum(~is_rare) + (rare_expected > 0)
    found: Floats = np.where(bins > 1, chdtrc(np.maximum(bins - 1, 1), statistic), 1.0)
    return found


def _surplus(seen: Floats, expected: Floats) -> Floats:
    return np.divide(
        np.square(seen - expected), expected, out=np.zeros_like(expected), where=expected > 0
    )


def _expect_unseen(layout: Layout, p: Floats) -> None:
    """It moves what came once only from the bin of other categories to that of unseen ones."""
    for column, start in zip(layout.columns, layout.bin_starts.tolist(), strict=True):
        if column.singles and column.other is not None and column.unseen is not None:
            bins = p[start : start + column.bins]
            moved = min(column.singles * bins.sum(), bins[column.other])
            bins[column.other] -= moved
            bins[column.unseen] += moved


def _enough(layout: Layout, block_counts: Counts) -> Counts:
    if not layout.columns:
        return block_counts
    rows = int(rows_of(layout, block_counts.sum(axis=0)).max())
    parts = max(min(len(block_counts), rows // LEAST_BLOCK_ROWS), 1)
    merged: Sequence[Counts] = [
        part.sum(axis=0) for part in np.array_split(block_counts, parts, axis=0)
    ]
    return np.stack(merged)
