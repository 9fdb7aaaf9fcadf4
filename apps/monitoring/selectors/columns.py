"""Reads what charts of columns show: distances, missing values, distributions.

Of one revision's rows, against the reference, the window before, or another revision's rows.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt

from apps.baselines import distances
from apps.baselines.layout import Column, Kind, Layout
from apps.baselines.selectors import Frozen
from apps.monitoring import drift, shared_bins
from apps.monitoring.charts import features
from apps.monitoring.charts.parts import Json
from apps.monitoring.models import Slice
from apps.monitoring.selectors import tallies, versus
from apps.monitoring.selectors.drift import Drift
from apps.monitoring.selectors.versus import NothingToCompare, Side, Versus
from apps.serving.models import Revision

Ints = npt.NDArray[np.int64]
LEAST_ROWS = 500  # of a stretch: fewer say nothing of a distance


@dataclass(frozen=True)
class Wanted:
    """Which rows, and what they are compared with."""

    revision: Revision | None
    since: datetime
    until: datetime
    step_seconds: int = 0
    against: str = "baseline"  # or "previous": the window of the same length before
    other: Revision | None = None  # whose rows of the same time are compared with instead
    slice: Slice | None = None
    shadow: bool = False
    column: str = ""  # "": all of them

    @cached_property
    def side(self) -> Side:
        if self.revision is None:
            raise NothingToCompare("No revision was ever deployed here", "no_revision")
        return versus.side(self.revision)

    @cached_property
    def pair(self) -> Versus | None:
        """Both revisions, where two are compared."""
        if self.other is None:
            return None
        return versus.during(
            self.side.revision,
            self.other,
            self.since,
            self.until,
            step_seconds=self.step_seconds,
            slice=self.slice,
            shadow=self.shadow,
        )

    def wants(self, column: str) -> bool:
        return self.column in ("", column)


@dataclass(frozen=True)
class Stretches:
    """Distances over stretches of time with rows enough."""

    frozen: Frozen
    at: list[datetime]  # starts of the stretches and the end of the last
    js: dict[str, list[float | None]]  # column -> JS* of each stretch


def drift_chart(wanted: Wanted) -> Json:
    """It shows how far the columns are from what they are compared with."""
    pair = wanted.pair
    found = stretched(wanted)
    order = sorted(found.js, key=lambda column: -max(value or 0.0 for value in found.js[column]))
    natural = 0.0 if pair else found.frozen.natural.get(wanted.column, {}).get("js", 0.0)
    chart = features.drift(
        found.at,
        {label_of(column): found.js[column] for column in order},
        threshold=max(drift.LEAST_JS, drift.NATURAL_TIMES * natural),
        critical=drift.CRITICAL_JS,
        unit="distance JS*" if pair is None else f"JS* from {pair.other.name}",
    )
    if pair is None:
        return chart
    told = {label_of(name): why for name, why in versus.notes(pair).items() if wanted.wants(name)}
    return chart | {"note": shared_bins.note(pair.one.name, pair.other.name, told)}


def stretched(wanted: Wanted) -> Stretches:
    """It measures the distance of each wanted column, stretch by stretch."""
    pair = wanted.pair
    if pair is not None:
        return _between(wanted, pair)
    side = wanted.side
    at, merged = _merged(wanted, side)
    reference = side.frozen.counts
    if wanted.against == "previous":
        reference = _window(wanted, side, before=True)
    js: dict[str, list[float | None]] = {}
    is_fitted = wanted.against != "previous"
    for counts in merged:
        _measure(js, wanted, side.frozen.layout, reference, counts, is_fitted=is_fitted)
    return Stretches(side.frozen, at, js)


def _between(wanted: Wanted, pair: Versus) -> Stretches:
    """Each stretch of one with the same stretch of the other: both had the same hours."""
    at, both = _both(wanted, pair)
    shared = pair.shared
    js: dict[str, list[float | None]] = {}
    for ours, theirs in both:
        _measure(js, wanted, shared.layout, theirs, ours, is_fitted=False)
    return Stretches(
        pair.one.frozen, at, {name: js[name] for name in js if name not in shared.apart}
    )


def _both(wanted: Wanted, pair: Versus) -> tuple[list[datetime], list[tuple[Ints, Ints]]]:
    """The counts of both in the bins that both have, stretch by stretch."""
    span = (wanted.since, wanted.until, wanted.step_seconds)
    read = versus.series(pair, *span, slice=wanted.slice)
    at, merged = stretches(*read, wanted.step_seconds)
    size, shared = pair.one.size, pair.shared
    return at, [(shared.first(counts[:size]), shared.second(counts[size:])) for counts in merged]


def _measure(
    js: dict[str, list[float | None]],
    wanted: Wanted,
    layout: Layout,
    reference: Ints,
    counts: Ints,
    *,
    is_fitted: bool,
) -> None:
    for one in distances.compare(layout, reference, counts, is_fitted=is_fitted):
        if wanted.wants(one.column):
            js.setdefault(one.column, []).append(one.js)


def largest(found: Stretches, points: Sequence[datetime]) -> list[float | None]:
    """It gives the distance of the column that was furthest at each point; None: too few rows."""
    values: list[float | None] = []
    for point in points:
        place = bisect_right(found.at, point) - 1
        there = 0 <= place < len(found.at) - 1
        at = [js[place] for js in found.js.values()] if there else []
        values.append(max((one for one in at if one is not None), default=None))
    return values


def missing_chart(wanted: Wanted) -> Json:
    """It shows the shares of rows without a usable value; of both, where two are compared."""
    pair = wanted.pair
    if pair is not None:
        at, both = _both(wanted, pair)
        layout = pair.shared.layout
        sides = {
            side.name: [each[place] for each in both]
            for place, side in enumerate((pair.one, pair.other))
        }
        shares = {
            f"{label}, {name}": values
            for name, merged in sides.items()
            for label, values in _shares(wanted, layout, merged).items()
        }
        return features.missing(at, shares)
    side = wanted.side
    at, merged = _merged(wanted, side)
    return features.missing(at, _shares(wanted, side.frozen.layout, merged))


def _shares(
    wanted: Wanted, layout: Layout, merged: Sequence[Ints]
) -> dict[str, list[float | None]]:
    """The share of unusable values in each stretch, by the label of the column."""
    shares = [_unusable(layout, counts) for counts in merged]
    return {
        label_of(column.name): [share[place] for share in shares]
        for place, column in enumerate(layout.columns)
        if wanted.wants(column.name)
    }


def _unusable(layout: Layout, counts: Ints) -> list[float | None]:
    """The share of rows whose value is missing, absent, of a wrong type or not finite."""
    rows = distances.rows_of(layout, counts)
    bad = rows - distances.values_of(layout, counts)
    return [
        part / whole if whole else None
        for part, whole in zip(bad.tolist(), rows.tolist(), strict=True)
    ]


def distribution_chart(wanted: Wanted) -> Json:
    """It shows one column's values beside what they are compared with."""
    pair = wanted.pair
    if pair is not None:
        return _distribution_between(wanted, pair)
    side = wanted.side
    column = _column(side.frozen.layout, wanted.column)
    now = _window(wanted, side)
    reference, name = side.frozen.counts, "reference"
    if wanted.against == "previous":
        reference, name = _window(wanted, side, before=True), "window before"
    start, stop = side.frozen.layout.slices[column.name]
    return features.distribution(
        column.labels(),
        reference[start:stop].tolist(),
        now[start:stop].tolist(),
        features.Look((name, f"v{side.revision.version.number} now"), label_of(column.name)),
    )


def _distribution_between(wanted: Wanted, pair: Versus) -> Json:
    """In the bins that both have; else each in its own, and in words why that is no distance."""
    column = _column(pair.shared.layout, wanted.column, versus.notes(pair))
    seen = versus.window(pair, wanted.since, wanted.until, slice=wanted.slice)
    look = features.Look(
        (pair.other.name, pair.one.name),
        label_of(column.name),
        features.colours_of(pair.other.revision, pair.one.revision),
    )
    why = pair.shared.apart.get(column.name)
    if why is None:
        start, stop = pair.shared.layout.slices[column.name]
        theirs, ours = pair.shared.second(seen.other.counts), pair.shared.first(seen.one.counts)
        chart = features.distribution(
            column.labels(), theirs[start:stop].tolist(), ours[start:stop].tolist(), look
        )
        told = {label_of(column.name): pair.shared.merged.get(column.name, "")}
        return chart | {"note": shared_bins.note(pair.one.name, pair.other.name, told)}
    own = (_own(pair.other, seen.other, column), _own(pair.one, seen.one, column))
    return _apart(*own, look) | {"note": shared_bins.apart_note(label_of(column.name), why)}


def _own(side: Side, seen: tallies.Window, column: Column) -> tuple[Column, Ints]:
    """The column as this side counts it, with its bins and counters."""
    layout = side.frozen.layout
    found, (start, _) = layout.by_name[column.name], layout.slices[column.name]
    return found, seen.counts[start : start + found.size]


def _apart(first: tuple[Column, Ints], second: tuple[Column, Ints], look: features.Look) -> Json:
    if first[0].kind is second[0].kind is Kind.NUMERIC:
        return features.densities(shared_bins.spans_of(*first), shared_bins.spans_of(*second), look)
    return features.apart(_bars(*first), _bars(*second), look)


def _bars(column: Column, counts: Ints) -> dict[str, int]:
    found: dict[str, int] = {}
    for label, count in zip(column.labels(), counts[: column.bins].tolist(), strict=True):
        found[label] = found.get(label, 0) + count  # a category may be called "other"
    return found


def counted(wanted: Wanted, seen: Drift) -> tuple[Layout, Ints, Ints]:
    """It gives the counts that a drift was judged by: of what it is compared with, of the window.

    In the bins of the layout. A column that stands apart has all its values in one of them.
    """
    wanted = replace(wanted, since=seen.since, until=seen.until)
    pair = wanted.pair
    if pair is not None:
        both = versus.window(pair, seen.since, seen.until, slice=wanted.slice)
        shared = pair.shared
        return shared.layout, shared.second(both.other.counts), shared.first(both.one.counts)
    side = wanted.side
    reference = side.frozen.counts
    if wanted.against == "previous":
        reference = _window(wanted, side, before=True)
    return side.frozen.layout, reference, _window(wanted, side)


def stretches(
    starts: Sequence[datetime], counts: Ints, rows: Ints, step_seconds: int
) -> tuple[list[datetime], list[Ints]]:
    """It joins neighbouring steps until each holds rows enough, and drops what is left over.

    `rows` of each step, (n,), or of each of several sides, (n, sides), of which all must have
    enough. Of a time of which only wider spans are kept, the steps are wider than asked for. Gives
    the starts of the stretches with the end of the last, and the counts of each.
    """
    step = starts[1] - starts[0] if len(starts) > 1 else timedelta(seconds=step_seconds)
    sides = rows.reshape(len(starts), -1)
    at: list[datetime] = []
    joined: list[Ints] = []
    first, held, end = 0, np.zeros(sides.shape[1], np.int64), 0
    for place, number in enumerate(sides):
        first = first if held.any() else place  # a stretch begins with rows
        held = held + number
        if held.min() >= LEAST_ROWS:
            at.append(starts[first])
            joined.append(counts[first : place + 1].sum(axis=0))
            held, end = np.zeros_like(held), place
    if at:
        at.append(starts[end] + step)
    return at, joined


def label_of(column: str) -> str:
    return column.removeprefix("in.")


def _merged(wanted: Wanted, side: Side) -> tuple[list[datetime], list[Ints]]:
    read = tallies.series(
        side.revision.endpoint,
        side.baseline,
        wanted.since,
        wanted.until,
        wanted.step_seconds,
        slice=wanted.slice,
        revisions=[side.revision],
        shadow=wanted.shadow,
    )
    return stretches(*read, wanted.step_seconds)


def _window(wanted: Wanted, side: Side, *, before: bool = False) -> Ints:
    span = wanted.until - wanted.since if before else timedelta()
    seen = tallies.window(
        side.revision.endpoint,
        side.baseline,
        wanted.since - span,
        wanted.until - span,
        slice=wanted.slice,
        revisions=[side.revision],
        shadow=wanted.shadow,
    )
    return seen.counts


def _column(layout: Layout, name: str, notes: Mapping[str, str] | None = None) -> Column:
    found = layout.by_name.get(name)
    if found is not None:
        return found
    if notes and name in notes:
        raise NothingToCompare(f"{label_of(name)}: {notes[name]}", "no_column")
    known = ", ".join(column.name for column in layout.columns[:10])
    raise NothingToCompare(f"There is no column {name!r}; some there are: {known}", "no_column")
