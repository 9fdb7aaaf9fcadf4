"""The rows of a revision against those that another one had at the same time.

Each is counted in the bins of its own version's baseline, and one of them in the other's as well
where a Comparison says so; what both have is compared (`shared_bins`).
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from apps.baselines import selectors as baselines
from apps.baselines.layout import Counts
from apps.baselines.models import Baseline
from apps.baselines.selectors import Frozen
from apps.core.errors import Refused
from apps.monitoring import drift, shared_bins
from apps.monitoring.drift import ColumnDrift, State
from apps.monitoring.models import Comparison, Slice
from apps.monitoring.selectors import tallies
from apps.monitoring.selectors.drift import Drift, hidden_of, redacted
from apps.monitoring.shared_bins import Shared
from apps.serving.models import Revision

KEPT_PAIRS = 64


class NothingToCompare(Refused):
    """A revision has no baseline yet, or no such column."""

    code = "no_baseline"


@dataclass(frozen=True)
class Side:
    """A revision with the bins that its rows are counted in."""

    revision: Revision
    baseline: Baseline
    frozen: Frozen
    also: Baseline | None = None  # the other's, in whose bins its rows were counted as well
    shadow: bool = False  # of copies that it answered; else what it answered callers

    @property
    def name(self) -> str:
        return name_of(self.revision) + (", copies" if self.shadow else "")

    @property
    def size(self) -> int:
        """How many counts its rows have: its own, and behind them those in the other's bins."""
        return sum(baselines.shape(one).layout.size for one in self.counted_by)

    @property
    def counted_by(self) -> tuple[Baseline, ...]:
        return (self.baseline,) if self.also is None else (self.baseline, self.also)


@dataclass(frozen=True)
class Versus:
    """A revision and the one that it is compared with."""

    one: Side
    other: Side
    shared: Shared


@dataclass(frozen=True)
class Seen:
    """What both had in a span of time, each in its own bins."""

    one: tallies.Window
    other: tallies.Window


def name_of(revision: Revision) -> str:
    """It says which revision is which: one version may be served by two."""
    return f"v{revision.version.number} (revision {revision.number})"


def side(revision: Revision) -> Side:
    """It gives a revision with its bins. Raises: NothingToCompare where there are none."""
    baseline = baselines.in_force(revision.version)
    if baseline is None:
        raise NothingToCompare(
            f"Version {revision.version.number} has no baseline yet, which its rows would be "
            "compared with"
        )
    return Side(revision, baseline, baselines.shape(baseline))


def of(revision: Revision, other: Revision) -> Versus:
    """It sets two revisions beside each other, each in its own bins.

    Raises: NothingToCompare as `side`.
    """
    return _beside(side(revision), side(other))


def during(
    revision: Revision,
    other: Revision,
    since: datetime,
    until: datetime,
    *,
    step_seconds: int = 0,
    slice: Slice | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> Versus:
    """As `of`, in the other's bins where all rows of that time were counted in those as well.

    `step_seconds`: of a chart, whose first and last steps reach beyond the window.

    Copies (`shadow`) are compared with what the other answered callers, or with the copies that it
    answered where it had no callers.
    Raises: NothingToCompare as `side`.
    """
    step = timedelta(seconds=step_seconds)
    span = (since - step, until + step, slice, now)
    one, against = replace(side(revision), shadow=shadow), side(other)
    if shadow and not _rows(against, against.baseline, *span):
        copies = replace(against, shadow=True)
        against = copies if _rows(copies, copies.baseline, *span) else against
    for guest, host in ((one, against), (against, one)):
        if _is_counted(guest, host, *span):
            twice = replace(guest, also=host.baseline)
            return _beside(twice, host) if guest is one else _beside(host, twice)
    return _beside(one, against)


def _beside(one: Side, other: Side) -> Versus:
    twice = next((place for place, each in enumerate((one, other)) if each.also), None)
    names = (one.name, other.name)
    return Versus(one, other, _shared(one.baseline, other.baseline, names, twice))


def _is_counted(
    guest: Side,
    host: Side,
    since: datetime,
    until: datetime,
    slice: Slice | None,
    now: datetime | None,
) -> bool:
    """Whether each row of one that is counted in its own bins is in the other's, too.

    Files wait for their turn, those of long ago are left out, and of others only sums are left.
    """
    known = Comparison.objects.filter(revision=guest.revision, other=host.revision)
    if guest.baseline.pk == host.baseline.pk or not known.exists():
        return False
    span = (since, until, slice, now)
    return _rows(guest, guest.baseline, *span) == _rows(guest, host.baseline, *span)


def _rows(
    of: Side,
    baseline: Baseline,
    since: datetime,
    until: datetime,
    slice: Slice | None,
    now: datetime | None,
) -> int:
    return tallies.rows(
        of.revision.endpoint,
        baseline,
        since,
        until,
        slice=slice,
        revisions=[of.revision],
        shadow=of.shadow,
        now=now,
    )


def window(
    pair: Versus,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    now: datetime | None = None,
) -> Seen:
    """It reads what both had; that of the second begins and ends when the first does."""
    return Seen(*(_seen(each, since, until, slice, now) for each in (pair.one, pair.other)))


def _seen(
    of: Side, since: datetime, until: datetime, slice: Slice | None, now: datetime | None
) -> tallies.Window:
    found = [
        tallies.window(
            of.revision.endpoint,
            baseline,
            since,
            until,
            slice=slice,
            revisions=[of.revision],
            shadow=of.shadow,
            now=now,
        )
        for baseline in of.counted_by
    ]
    return replace(found[0], counts=np.concatenate([one.counts for one in found]))


def judged(
    pair: Versus,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    now: datetime | None = None,
) -> Drift:
    """It judges the columns that both have, as `drift.of` does against the window before.

    How much a column matters is told by the first. What is usual is no measure here: days differ
    from each other, and these are rows of the same. The window is never widened: further back the
    two may not have served together.
    """
    seen = window(pair, since, until, slice=slice, now=now)
    found = drift.judge(
        pair.shared.layout,
        pair.shared.second(seen.other.counts),
        pair.shared.first(seen.one.counts),
        {},
        pair.one.frozen.importance,
        is_fitted=False,
    )
    told = [_untold(one) if one.name in pair.shared.apart else one for one in found]
    ours = {one.name: one.rows for one in found}
    theirs = {one.name: one.reference_rows for one in found}
    hidden = hidden_of(pair.one.revision, seen.one.rows, ours)
    hidden |= hidden_of(pair.other.revision, seen.other.rows, theirs)
    told = redacted(told, hidden)
    ranked = sorted(told, key=lambda one: (not one.is_loud, -one.rank, one.name))
    return Drift(pair.one.baseline, since, until, seen.one.rows, False, ranked)


def series(
    pair: Versus,
    since: datetime,
    until: datetime,
    step_seconds: int,
    *,
    slice: Slice | None = None,
    now: datetime | None = None,
) -> tuple[list[datetime], Counts, Counts]:
    """It gives the starts of steps, the counts of both beside each other, and their rows, (n, 2).

    Raises: ValueError as `tallies.series`.
    """
    found = [
        [
            tallies.series(
                each.revision.endpoint,
                baseline,
                since,
                until,
                step_seconds,
                slice=slice,
                revisions=[each.revision],
                shadow=each.shadow,
                now=now,
            )
            for baseline in each.counted_by
        ]
        for each in (pair.one, pair.other)
    ]
    counts = np.hstack([counts for each in found for _, counts, _ in each])
    return found[0][0][0], counts, np.stack([each[0][2] for each in found], axis=1)


def notes(pair: Versus) -> dict[str, str]:
    """Column -> what stands in the way of a comparison, or how it was made nevertheless."""
    lacking = {
        name: f"only {has.name} has it"
        for has, names in zip((pair.one, pair.other), pair.shared.only, strict=True)
        for name in names
    }
    return {**pair.shared.merged, **pair.shared.apart, **lacking}


def _untold(one: ColumnDrift) -> ColumnDrift:
    """Its missing and wrong values are told all the same: those have no bins."""
    return replace(
        one,
        state=State.INCOMPARABLE, js=None, psi=None, ks=None, p=None, smallest=None, rank=0.0,
    )  # fmt: skip


@lru_cache(KEPT_PAIRS)
def _shared(one: Baseline, other: Baseline, names: tuple[str, str], twice: int | None) -> Shared:
    """Frozen baselines never change, so that two are joined once a process."""
    layouts = (baselines.shape(one).layout, baselines.shape(other).layout)
    return shared_bins.share(*layouts, names, twice)
