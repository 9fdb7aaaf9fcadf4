"""Brings the counts of two layouts into bins that both have. Pure.

The rows of a version are counted in the bins of its own baseline. Where another version's baseline
has other bins, and the rows of one side were counted in those as well, they are compared there.
Else a shared bin is a sum of whole bins of either side, so that what is counted stays exact. Only
fineness is lost: joining bins never makes a distance larger. A column without enough shared bins
stands apart: nobody can tell how far its two sides are from each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
import numpy.typing as npt

from apps.baselines.layout import COUNTERS, Column, Counts, Kind, Layout
from apps.baselines.meaning import OUTPUT, Form, Meaning

OF_NUMBERS = (Kind.NUMERIC, Kind.DISCRETE)  # one may be counted in the bins of the other
LEAST_BINS = 3  # of numbers: two say hardly more than which side of one edge the values lie on
KINDS = {
    Kind.NUMERIC: "numbers in spans",
    Kind.DISCRETE: "numbers of few kinds",
    Kind.CATEGORICAL: "categories",
    Kind.SCORE: "a score",
    Kind.EMPTY: "nothing, since its reference has no value",
    Kind.MOMENT: "nothing, since its values are dates or times",
}

Places = npt.NDArray[np.int64]
Span = tuple[float, float, float]  # from, to, share of all values


@dataclass(frozen=True)
class Shared:
    """The bins of two layouts' columns that are in both, in the order of the first.

    The counts of a side whose rows were counted in the other's bins as well are those of its own
    layout, and behind them those of the other's.
    """

    layout: Layout
    apart: Mapping[str, str]  # column -> why no distance can be told; one bin holds its values
    merged: Mapping[str, str]  # column -> what was joined
    only: tuple[tuple[str, ...], tuple[str, ...]]  # columns that the other layout has not
    places: tuple[Places, Places]  # of each slot of either side in the shared one; size: nowhere

    def first(self, counts: Counts) -> Counts:
        """It brings counts of the first side into the shared bins."""
        return self._brought(counts, self.places[0])

    def second(self, counts: Counts) -> Counts:
        return self._brought(counts, self.places[1])

    def _brought(self, counts: Counts, places: Places) -> Counts:
        found = np.zeros(self.layout.size + 1, dtype=np.int64)
        np.add.at(found, places, counts)
        return found[:-1]


@dataclass(frozen=True)
class Joined:
    """One column of both in shared bins, and where the bins of either side went."""

    column: Column
    places: tuple[Sequence[int], Sequence[int]]
    apart: str = ""
    merged: str = ""
    twice: int | None = None  # the side whose place is that in the other's bins


def share(
    first: Layout, second: Layout, names: tuple[str, str], twice: int | None = None
) -> Shared:
    """It finds the bins that both have; `names` are those of the two sides in words.

    `twice`: the side, 0 or 1, whose rows were counted in the other's bins as well.
    """
    meanings = (first.meaning, second.meaning)
    joined = [
        _finest(column, second.by_name[column.name], names, meanings, twice)
        for column in first.columns
        if column.name in second.by_name
    ]
    layout = Layout(tuple(one.column for one in joined), first.meaning)
    return Shared(
        layout=layout,
        apart={one.column.name: one.apart for one in joined if one.apart},
        merged={one.column.name: one.merged for one in joined if one.merged},
        only=(_missing_in(second, first), _missing_in(first, second)),
        places=(_places(first, second, layout, joined, 0, twice),
                _places(second, first, layout, joined, 1, twice)),
    )  # fmt: skip


def _finest(
    first: Column,
    second: Column,
    names: tuple[str, str],
    meanings: tuple[Meaning | None, Meaning | None],
    twice: int | None,
) -> Joined:
    """It takes the bins that one side was counted in for the other's sake, where that is finer."""
    found = join(first, second, names, meanings)
    if twice is None or not (found.apart or found.merged):
        return found
    guest, host = (first, second) if twice == 0 else (second, first)
    if not _can_be_counted(guest, host) or _speaks_of_other(first, second, meanings):
        return found
    column = _ranged(host, host)  # both sides' values are below and above the same range
    places = range(host.bins)
    return Joined(column, (places, places), twice=twice)


def _can_be_counted(guest: Column, host: Column) -> bool:
    """Whether bins of one column say something of another's values."""
    if host.kind is Kind.NUMERIC and host.bins < LEAST_BINS:
        return False  # its reference had no value: all that is counted in it looks the same
    if guest.kind in OF_NUMBERS:
        return host.kind in OF_NUMBERS
    return guest.kind is host.kind is Kind.CATEGORICAL


def join(
    first: Column,
    second: Column,
    names: tuple[str, str],
    meanings: tuple[Meaning | None, Meaning | None] = (None, None),
) -> Joined:
    """It finds the shared bins of one column."""
    if _speaks_of_other(first, second, meanings):
        said = [_said(first, meanings[0]), _said(second, meanings[1])]
        why = f"in {names[0]} it is the probability of {said[0]}, in {names[1]} of {said[1]}"
        return _apart(first, second, why)
    if first.kind is not second.kind:
        why = f"{names[0]} counts {KINDS[first.kind]}, {names[1]} {KINDS[second.kind]}"
        return _apart(first, second, why)
    if first.kind is Kind.NUMERIC:
        return _join_spans(first, second, names)
    if first.kind in (Kind.DISCRETE, Kind.CATEGORICAL):
        return _join_kinds(first, second)
    bins = range(first.bins)
    return Joined(_ranged(first, second), (bins, bins))


def spans_of(column: Column, counts: Counts) -> list[Span]:
    """It gives the shares of a column's values over its own spans, for a density.

    `counts` are its bins and counters. The open bins end where the reference ended; what lies
    beyond is not in any span. A bin of one frequent value has no width and joins its neighbour.
    """
    bins = counts[: column.bins].astype(float)
    whole = float(bins.sum())
    if not whole or column.low is None or column.high is None:
        return []
    beyond = dict(zip(COUNTERS, counts[column.bins :].tolist(), strict=True))
    bins[0] -= beyond["below"]
    bins[-1] -= beyond["above"]
    ends = [column.low, *column.edges, column.high]
    found: list[Span] = []
    begin, held = ends[0], 0.0
    for stop, many in zip(ends[1:], bins.tolist(), strict=True):
        held += max(many, 0.0) / whole
        if stop > np.nextafter(begin, np.inf) and isfinite(held / (stop - begin)):
            found.append((begin, stop, held))
            begin, held = stop, 0.0
    if found and held:
        begin, stop, last = found[-1]
        found[-1] = (begin, stop, last + held)
    return found


def note(one: str, other: str, told: Mapping[str, str]) -> str:
    """It says which revision is compared with which, and how; `told` are words about columns."""
    words = [f"{label}: {why}." for label, why in told.items() if why]
    return " ".join([f"{one} against {other}, rows of the same time.", *words])


def apart_note(label: str, why: str) -> str:
    return f"How far apart {label} is cannot be told: {why}. Each is drawn in bins of its own."


def _join_spans(first: Column, second: Column, names: tuple[str, str]) -> Joined:
    if not first.edges and not second.edges:
        return _apart(first, second, f"the references of {names[0]} and {names[1]} have no value")
    edges = tuple(sorted(set(first.edges) & set(second.edges)))
    column = replace(_ranged(first, second), edges=edges)
    if first.edges == second.edges:
        return Joined(column, (range(first.bins), range(second.bins)))
    if len(edges) + 1 < LEAST_BINS:
        why = (
            f"the bins of {names[0]} and {names[1]} were made of other data: of {len(first.edges)} "
            f"and {len(second.edges)} edges {len(edges)} are the same, {LEAST_BINS - 1} needed"
        )
        return _apart(first, second, why)
    places = [
        [0, *np.searchsorted(edges, one.edges, side="right").tolist()] for one in (first, second)
    ]
    words = (
        f"compared in {column.bins} bins, sums of the {first.bins} of {names[0]} and the "
        f"{second.bins} of {names[1]}: the distance may be larger"
    )
    return Joined(column, (places[0], places[1]), merged=words)


def _join_kinds(first: Column, second: Column) -> Joined:
    if set(first.values) == set(second.values) and first.known == second.known:
        order = {value: place for place, value in enumerate(first.values)}
        column = _ranged(first, second)
        rest = (column.bins - 2, column.bins - 1)
        return Joined(
            column, (range(first.bins), [*(order[value] for value in second.values), *rest])
        )
    either = set(second.values)
    both = [value for value in first.values if value in either]
    if not both:
        return _apart(first, second, "no value has a bin of its own in both")
    named = zip(first.values, first.labels(), strict=False)  # "other" and "unseen" follow
    place_of = {value: place for place, value in enumerate(both)}
    column = replace(
        _ranged(first, second),
        kind=Kind.CATEGORICAL,  # what was joined lies between the others: no order is left
        values=tuple(label for value, label in named if value in either),
        known=None,  # what is new to one of them may be known to the other
    )
    other = len(both)
    places = [
        [*(place_of.get(value, other) for value in one.values), other, other]
        for one in (first, second)
    ]
    words = f"compared by the {len(both)} values named in both, all others as one"
    return Joined(column, (places[0], places[1]), merged=words)


def _apart(first: Column, second: Column, why: str) -> Joined:
    column = Column(first.name, first.role, Kind.EMPTY)
    return Joined(column, ([0] * first.bins, [0] * second.bins), apart=why)


def _ranged(first: Column, second: Column) -> Column:
    """Below and above are signals only where both mean the same range."""
    if (first.low, first.high) == (second.low, second.high):
        return replace(first, singles=0.0)
    return replace(first, singles=0.0, low=None, high=None)


def _speaks_of_other(
    first: Column, second: Column, meanings: tuple[Meaning | None, Meaning | None]
) -> bool:
    """Whether both are probabilities, each of another class."""
    said = {_said(first, meanings[0]), _said(second, meanings[1])} - {""}
    return len(said) > 1


def _said(column: Column, meaning: Meaning | None) -> str:
    """The class that a column is the probability of; "" where it is none or nobody knows."""
    if meaning is None or not meaning.classes:
        return ""
    if column.kind is Kind.SCORE:
        return meaning.classes[meaning.positive] if meaning.positive >= 0 else ""
    if not column.name.startswith(OUTPUT):
        return ""
    if meaning.form is Form.SCORE:
        return meaning.classes[-1]
    place = column.name.removeprefix(OUTPUT)
    if meaning.form is Form.PROBABILITIES and place.isdecimal():
        return meaning.classes[int(place)] if int(place) < len(meaning.classes) else ""
    return ""


def _missing_in(layout: Layout, other: Layout) -> tuple[str, ...]:
    return tuple(column.name for column in other.columns if column.name not in layout.by_name)


def _places(
    own: Layout,
    other: Layout,
    shared: Layout,
    joined: Sequence[Joined],
    side: int,
    twice: int | None,
) -> Places:
    more = other.size if twice == side else 0
    places = np.full(own.size + more, shared.size, dtype=np.int64)
    for one in joined:
        in_others = one.twice == side
        begin = own.size if in_others else 0
        start, stop = (other if in_others else own).slices[one.column.name]
        to, counters = shared.slices[one.column.name]
        places[begin + start : begin + stop] = to + np.array(one.places[side], dtype=np.int64)
        end = begin + stop
        places[end : end + len(COUNTERS)] = counters + np.arange(len(COUNTERS))
    return places
