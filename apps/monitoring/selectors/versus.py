"""The rows of a revision against those that another one had at the same time.

Each is counted in the bins of its own version's baseline; what both have is compared
(`shared_bins`).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache

import numpy as np

from apps.baselines import selectors as baselines
from apps.baselines.layout import Counts
from apps.baselines.models import Baseline
from apps.baselines.selectors import Frozen
from apps.core.errors import Refused
from apps.monitoring import drift, shared_bins
from apps.monitoring.drift import ColumnDrift, State
from apps.monitoring.models import Slice
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

    @property
    def name(self) -> str:
        return name_of(self.revision)


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
    """It sets two revisions beside each other. Raises: NothingToCompare as `side`."""
    one, against = side(revision), side(other)
    return Versus(one, against, _shared(one.baseline, against.baseline, (one.name, against.name)))


def window(
    pair: Versus,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> Seen:
    """It reads what both had; that of the second begins and ends when the first does."""
    one, other = (
        tallies.window(
            each.revision.endpoint,
            each.baseline,
            since,
            until,
            slice=slice,
            revisions=[each.revision],
            shadow=shadow,
            now=now,
        )
        for each in (pair.one, pair.other)
    )
    return Seen(one, other)


def judged(
    pair: Versus,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> Drift:
    """It judges the columns that both have, as `drift.of` does against the window before.

    What is usual for a column and how much it matters are those of the first. The window is never
    widened: further back the two may not have served together.
    """
    seen = window(pair, since, until, slice=slice, shadow=shadow, now=now)
    found = drift.judge(
        pair.shared.layout,
        pair.shared.second(seen.other.counts),
        pair.shared.first(seen.one.counts),
        pair.one.frozen.natural,
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
    shadow: bool = False,
    now: datetime | None = None,
) -> tuple[list[datetime], Counts, Counts]:
    """It gives the starts of steps, the counts of both beside each other, and their rows, (n, 2).

    Raises: ValueError as `tallies.series`.
    """
    (starts, ours, our_rows), (_, theirs, their_rows) = (
        tallies.series(
            each.revision.endpoint,
            each.baseline,
            since,
            until,
            step_seconds,
            slice=slice,
            revisions=[each.revision],
            shadow=shadow,
            now=now,
        )
        for each in (pair.one, pair.other)
    )
    return starts, np.hstack([ours, theirs]), np.stack([our_rows, their_rows], axis=1)


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
def _shared(one: Baseline, other: Baseline, names: tuple[str, str]) -> Shared:
    """Frozen baselines never change, so that two are joined once a process."""
    return shared_bins.share(baselines.shape(one).layout, baselines.shape(other).layout, names)
