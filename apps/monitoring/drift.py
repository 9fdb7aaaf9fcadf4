"""Has a column drifted? Pure: counts of a window and of a reference in, a verdict with figures out.

A column has drifted when both hold: chance alone would hardly do it (p below ALPHA, shared among
the columns), and it is far enough away to matter (JS*, at least an effect floor and
1.25 times what is usual inside the reference). A window without rows enough says nothing, which is
not the same as quiet. Missing, wrong, unseen and the like are signals of their own, by their share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, chdtri, gammaln

from apps.baselines.distances import LN2, Distance, compare, doubts, rows_of, values_of
from apps.baselines.layout import COUNTERS, Column, Counts, Layout
from apps.baselines.meaning import INPUT

LEAST_ROWS = 500
# At most one window of a thousand without drift may raise an alarm: half of that by distances,
# shared among the columns, half by shares, shared among all shares of all columns.
ALPHA = 0.0005
LEAST_JS = 0.08
NATURAL_TIMES = 1.25
CRITICAL_JS = 0.2
NEVER = ("absent", "wrong")  # what reference data does not have, of however few rows it is
OF_VALUES = ("below", "above", "unseen")  # shares of the values, the others of all rows
LEAST_SHARE = 0.02  # of rows more or fewer than in the reference
LEAST_NEVER = 0.001  # of rows with what the reference never had
CRITICAL_SHARE = 0.2
TRIED = 64  # numbers at once, to find the smallest that is loud

Floats = npt.NDArray[np.float64]


class State(StrEnum):
    NOT_ENOUGH_DATA = "not_enough_data"
    REDACTED = "redacted"  # the policy keeps its values out of the log
    QUIET = "quiet"
    DRIFTED = "drifted"
    CRITICAL = "critical"
    INCOMPARABLE = "incomparable"  # one bin takes whatever comes; two revisions share too few

    @property
    def is_loud(self) -> bool:
        return self in (State.DRIFTED, State.CRITICAL)


@dataclass(frozen=True)
class Trial:
    """How many of the window's rows, or values, are held against the reference's."""

    signal: str
    window: float  # of so many
    many: float  # of the reference
    reference: float  # of so many
    floor: float
    alpha: float
    is_fitted: bool
    doubt: float

    def are_loud(self, many: Floats) -> npt.NDArray[np.bool_]:
        alike = np.ones_like(many)
        is_enough, is_loud = _verdicts(
            self.signal,
            many,
            self.window * alike,
            self.many * alike,
            self.reference * alike,
            self.floor * alike,
            self.alpha,
            is_fitted=self.is_fitted,
            doubt=self.doubt * alike,
        )
        found: npt.NDArray[np.bool_] = is_enough & is_loud
        return found


@dataclass(frozen=True)
class Share:
    """A share of rows, in the window and in the reference; None where it cannot be told."""

    window: float | None
    reference: float | None
    state: State
    trial: Trial | None = field(default=None, compare=False, repr=False)

    @property
    def smallest(self) -> float | None:
        """The smallest share that would have been loud; None where none would. Told when asked."""
        return None if self.trial is None else smallest_share(self.trial)


@lru_cache(maxsize=4096)  # most columns never missed anything: theirs are one and the same
def smallest_share(trial: Trial) -> float | None:
    """It gives the share from which on the window would have been judged loud; None: none.

    By the test itself, on more rows than in the reference: many numbers at once, then those
    between the last that was quiet and the first that was not.
    """
    first = ceil(trial.window * trial.many / trial.reference) if trial.reference else 0
    last = int(trial.window)
    while first <= last:
        tried = np.unique(np.linspace(first, last, TRIED).astype(np.int64))
        found = np.flatnonzero(trial.are_loud(tried.astype(np.float64)))
        if not found.size:
            return None
        place = int(found[0])
        if not place or tried[place] - tried[place - 1] == 1:
            return float(tried[place] / trial.window)
        first, last = int(tried[place - 1]) + 1, int(tried[place])
    return None


@dataclass(frozen=True)
class ColumnDrift:
    """One column of a window against the reference."""

    name: str
    label: str  # without "in."
    role: str
    kind: str
    state: State  # of the distribution of its values
    js: float | None
    psi: float | None
    ks: float | None
    p: float | None
    threshold: float
    natural: float
    rows: int  # of the window, with those that have no value
    values: int  # of the window, those that the distances are taken of
    reference_rows: int
    reference_values: int
    importance: float | None  # None: not known
    rank: float
    missing: Share
    absent: Share
    wrong: Share
    unseen: Share
    below: Share
    above: Share
    non_finite: Share
    smallest: float | None  # the smallest JS* that so many rows could have found, if any could

    @property
    def shares(self) -> tuple[Share, ...]:
        return (
            self.missing, self.absent, self.wrong, self.unseen, self.below, self.above,
            self.non_finite,
        )  # fmt: skip

    @property
    def is_loud(self) -> bool:
        """Whether anything about it wants attention."""
        return self.state.is_loud or any(share.state.is_loud for share in self.shares)


def judge(
    layout: Layout,
    reference: Counts,
    window: Counts,
    natural: Mapping[str, Mapping[str, float]],
    importance: Mapping[str, float],
    *,
    is_fitted: bool = True,
) -> list[ColumnDrift]:
    """It judges all columns of a window: what drifted first, then what matters most.

    `natural` as baselines.distances.natural gives it; `importance` may lack columns, or all.
    `is_fitted`: the reference is the rows that the layout was made for; else another window.
    The cost depends on the number of columns, not of rows.
    """
    if not layout.columns:
        return []
    distances = compare(layout, reference, window, is_fitted=is_fitted)
    compared = max(sum(one.js is not None for one in distances), 1)
    rows, reference_rows = rows_of(layout, window), rows_of(layout, reference)
    occupied = _occupied(layout, reference)
    shares = _shares(layout, reference, window, natural, is_fitted=is_fitted)
    found = []
    for at, (column, one) in enumerate(zip(layout.columns, distances, strict=True)):
        usual = natural.get(column.name, {}).get("js", 0.0)
        threshold = max(LEAST_JS, NATURAL_TIMES * usual)
        known = importance.get(column.name)
        found.append(
            ColumnDrift(
                name=column.name,
                label=column.name.removeprefix(INPUT),
                role=column.role.value,
                kind=column.kind.value,
                state=State.INCOMPARABLE
                if column.bins == 1
                else state_of(one, threshold, compared),
                js=one.js,
                psi=one.psi,
                ks=one.ks,
                p=one.p,
                threshold=threshold,
                natural=usual,
                rows=int(rows[at]),
                values=one.m,
                reference_rows=int(reference_rows[at]),
                reference_values=one.n,
                importance=known,
                rank=(one.js or 0.0) * _weight(column, importance),
                smallest=smallest(one, threshold, compared, int(occupied[at])),
                **{name: each[at] for name, each in shares.items()},
            )
        )
    return sorted(found, key=lambda one: (not one.is_loud, -one.rank, one.name))


def state_of(distance: Distance, threshold: float, compared: int) -> State:
    """It judges one column of `compared` ones."""
    if distance.js is None or distance.p is None or min(distance.m, distance.n) < LEAST_ROWS:
        return State.NOT_ENOUGH_DATA
    if distance.p >= ALPHA / compared or distance.js < threshold:
        return State.QUIET
    return State.CRITICAL if distance.js >= CRITICAL_JS else State.DRIFTED


def smallest(distance: Distance, threshold: float, compared: int, bins: int) -> float | None:
    """It gives the JS* from which on a window of so many rows would have been judged drifted.

    The chi-squared statistic of small changes is about 8 ln 2 JS2 / (1/n + 1/m), so that the one
    that p needs can be told as a distance.
    """
    if distance.js is None or min(distance.m, distance.n) < LEAST_ROWS:
        return None
    free = max(bins - 1, 1)
    needed = float(chdtri(free, ALPHA / compared)) - free
    chance = (distance.doubt / distance.n + 1 / distance.m) / (8 * LN2)
    return min(max(threshold, sqrt(max(needed, 0.0) * chance)), 1.0)


def _weight(column: Column, importance: Mapping[str, float]) -> float:
    """An output weighs as the whole of the inputs; an input of unknown weight as their mean."""
    known = importance.get(column.name)
    if known is not None:
        return known
    return 1.0 if not importance or not column.name.startswith(INPUT) else 1 / len(importance)


def _occupied(layout: Layout, counts: Counts) -> npt.NDArray[np.int64]:
    occupied = counts[layout.bin_slots] > 0
    return np.add.reduceat(occupied.astype(np.int64), layout.bin_starts)


def _shares(
    layout: Layout,
    reference: Counts,
    window: Counts,
    natural: Mapping[str, Mapping[str, float]],
    *,
    is_fitted: bool,
) -> dict[str, list[Share]]:
    """Signal -> its share in each column."""
    now, before = _counted(layout, window), _counted(layout, reference)
    tests = sum(int(np.sum(~np.isnan(x) & (m > 0))) for x, m in now.values())
    alpha = ALPHA / max(tests, 1)
    # How many are new follows from the few that came once or twice: less sure than a count.
    doubt = doubts(layout, is_fitted=is_fitted)
    if is_fitted:
        # By construction nothing of it is unseen; so much is to be expected of new rows.
        singles = np.array([column.singles for column in layout.columns])
        many, values = before["unseen"]
        before["unseen"] = (many + singles * values, values)
    found = {}
    for name in (*COUNTERS, "unseen"):
        usual = [natural.get(column.name, {}).get(name, 0.0) for column in layout.columns]
        floors = np.maximum(LEAST_SHARE, NATURAL_TIMES * np.array(usual))
        (x, m), (y, n) = now[name], before[name]
        counted_twice = doubt if name == "unseen" else np.ones_like(doubt)
        states = _share_states(
            name, x, m, y, n, floors, alpha, is_fitted=is_fitted, doubt=counted_twice
        )
        trials = [
            None if np.isnan(many) else Trial(name, of, y, n, floor, alpha, is_fitted, twice)
            for many, of, y, n, floor, twice in zip(
                *(each.tolist() for each in (x, m, y, n, floors, counted_twice)), strict=True
            )
        ]
        found[name] = [
            Share(*each) for each in zip(_told(x, m), _told(y, n), states, trials, strict=True)
        ]
    return found


def _counted(layout: Layout, counts: Counts) -> dict[str, tuple[Floats, Floats]]:
    """Signal -> how many, of how many, in each column; NaN where a column has no such signal."""
    rows = rows_of(layout, counts).astype(np.float64)
    values = values_of(layout, counts).astype(np.float64)
    counters = counts[layout.counter_slots].astype(np.float64)
    found = dict(zip(COUNTERS, counters.T, strict=True))
    is_ranged = np.array([column.low is not None for column in layout.columns])
    for name in ("below", "above"):
        found[name] = np.where(is_ranged, found[name], np.nan)
    found["unseen"] = np.array(
        [
            np.nan
            if column.unseen is None or column.known is None
            else counts[start + column.unseen]
            for column, start in zip(layout.columns, layout.starts.tolist(), strict=False)
        ],
        dtype=np.float64,
    )
    return {name: (many, values if name in OF_VALUES else rows) for name, many in found.items()}


def _told(many: Floats, of: Floats) -> list[float | None]:
    return [
        float(x) / float(m) if m > 0 and not np.isnan(x) else None
        for x, m in zip(many, of, strict=True)
    ]


def _share_states(
    name: str,
    x: Floats,
    m: Floats,
    y: Floats,
    n: Floats,
    floors: Floats,
    alpha: float,
    *,
    is_fitted: bool,
    doubt: Floats,
) -> list[State]:
    """It judges x of m rows against y of n, whose variance counts `doubt` times."""
    is_enough, is_loud = _verdicts(
        name, x, m, y, n, floors, alpha, is_fitted=is_fitted, doubt=doubt
    )
    is_known = ~np.isnan(x)
    is_critical = np.abs(_gap(x, m, y, n)) >= CRITICAL_SHARE
    return [
        _share_state(*each) for each in zip(is_known, is_enough, is_loud, is_critical, strict=True)
    ]


def _verdicts(
    name: str,
    x: Floats,
    m: Floats,
    y: Floats,
    n: Floats,
    floors: Floats,
    alpha: float,
    *,
    is_fitted: bool,
    doubt: Floats,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """It tells whether there are enough to judge, and whether the share is loud."""
    gap = _gap(x, m, y, n)
    is_enough = np.minimum(m, n) >= LEAST_ROWS
    is_loud = (np.abs(gap) >= floors) & (chance(x, m, y / doubt, n / doubt) < alpha)
    if name in NEVER:
        is_loud &= gap > 0
        if is_fitted:
            never = y == 0
            is_loud = np.where(never, at_least(x, m, alpha) > LEAST_NEVER, is_loud)
            is_enough = np.where(never, m > 0, is_enough)
    return is_enough, is_loud


def _gap(x: Floats, m: Floats, y: Floats, n: Floats) -> Floats:
    found: Floats = np.round(x / np.maximum(m, 1) - y / np.maximum(n, 1), 12)
    return found  # rounded: 0.03 - 0.01 is below 0.02


def _share_state(
    is_known: np.bool_, is_enough: np.bool_, is_loud: np.bool_, is_critical: np.bool_
) -> State:
    if not is_known:
        return State.QUIET
    if not is_enough:
        return State.NOT_ENOUGH_DATA
    if not is_loud:
        return State.QUIET
    return State.CRITICAL if is_critical else State.DRIFTED


def chance(x: Floats, m: Floats, y: Floats, n: Floats) -> Floats:
    """It bounds twice the smaller tail of Fisher's exact test from above, x of m against y of n.

    That is a valid two-sided test, but not the p that sums all outcomes no likelier than this one,
    which is larger at times.
    Of x + y the window has hypergeometrically many. From x outward each number is less likely than
    the one before by at least the first ratio, so that the tail is no more than a geometric series.
    A test by the normal distribution alarms six times as often as it says where 40 of 1,000 are
    held against 2 %. NaN where there is no x.
    """
    x, y = np.minimum(x, m), np.minimum(y, n)
    is_more = x * n >= y * m
    # As many as y, or more, of n is the same tail where the window has fewer.
    high, low = np.where(is_more, x, y), np.where(is_more, y, x)
    of, against = np.where(is_more, m, n), np.where(is_more, n, m)
    logs = _choices(of, high) + _choices(against, low) - _choices(of + against, high + low)
    ratio = (of - high) * low / ((high + 1) * (against - low + 1))
    tail = np.exp(np.minimum(logs, 0)) / np.maximum(1 - ratio, 1e-9)
    found: Floats = np.minimum(2 * tail, 1.0)
    return found


def _choices(of: Floats, taken: Floats) -> Floats:
    """Logarithm of the binomial coefficient."""
    found: Floats = gammaln(of + 1) - gammaln(taken + 1) - gammaln(of - taken + 1)
    return found


def at_least(x: Floats, m: Floats, alpha: float) -> Floats:
    """It gives the exact lower bound of a share, x of m rows (Clopper and Pearson 1934).

    Wilson's bound is above a thousandth for a single row of thirty: one slip would be an alarm.
    """
    some = np.maximum(x, 1)
    found: Floats = np.where(x > 0, betaincinv(some, np.maximum(m - some + 1, 1), alpha), 0.0)
    return found
