"""How far live rows have drifted. Its cost does not depend on the number of predictions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from apps.baselines import selectors as baselines
from apps.baselines.layout import Counts
from apps.baselines.models import Baseline
from apps.monitoring import shapes
from apps.monitoring.drift import LEAST_ROWS, ColumnDrift, State, judge
from apps.monitoring.models import Slice
from apps.monitoring.selectors import tallies
from apps.serving.models import Revision
from apps.serving.selectors import serving_part

WANTED_ROWS = 1_000
WIDEST = timedelta(days=30)

Against = Literal["baseline", "previous"]


@dataclass(frozen=True)
class Drift:
    """What was compared, and each column's verdict: what drifted first, then what matters most."""

    baseline: Baseline | None  # None: there is nothing to compare with
    since: datetime
    until: datetime
    rows: int
    widened: bool  # it begins earlier than was asked for, so that there are rows enough
    columns: Sequence[ColumnDrift]


def of(
    revision: Revision,
    since: datetime,
    until: datetime,
    *,
    against: str = "baseline",
    slice: Slice | None = None,
    at_least: int | None = None,
    wanted_rows: int = WANTED_ROWS,
    widest: timedelta = WIDEST,
    shadow: bool = False,
    now: datetime | None = None,
) -> Drift:
    """It compares a revision's rows with its version's baseline, or with the window before.

    A window of fewer rows than `at_least` (no fewer than a verdict needs) is doubled backward until
    it has `wanted_rows`, but no longer than `widest` nor past the revision's beginning. The window
    before is of the same length and ends where this one begins.
    Raises: ValueError for another `against`.
    """
    if against not in ("baseline", "previous"):
        raise ValueError(f"Rows are compared with the baseline or the previous, not {against!r}")
    baseline = baselines.in_force(revision.version)
    if baseline is None:
        return Drift(None, since, until, 0, False, [])
    reader = _Reader(revision, baseline, slice, shadow, now)
    seen, begin = reader.window(since, until), since
    least = max(at_least or 0, LEAST_ROWS)
    if seen.rows < least:
        seen, begin = reader.widened(seen, since, until, max(wanted_rows, least), widest)
    frozen = baselines.shape(baseline)
    reference: Counts = frozen.counts
    if against == "previous":
        reference = reader.window(begin - (until - begin), begin).counts
    columns = judge(
        frozen.layout,
        reference,
        seen.counts,
        frozen.natural,
        frozen.importance,
        is_fitted=against == "baseline",
    )
    hidden = hidden_of(revision, seen.rows, {one.name: one.rows for one in columns})
    columns = redacted(columns, hidden)
    return Drift(baseline, begin, until, seen.rows, begin < since, columns)


def hidden_of(revision: Revision, rows: int, seen: Mapping[str, int]) -> frozenset[str]:
    """It names the columns of a window of rows that a policy hides; `seen`: column -> its rows."""
    if not rows or all(seen.values()):
        return frozenset()
    kept_out = serving_part(revision.endpoint).capture.redact
    if not kept_out:
        return frozenset()
    hidden = shapes.plan(revision.build.signature, kept_out).hidden
    return frozenset(name for name, many in seen.items() if name in hidden and not many)


def redacted(columns: Sequence[ColumnDrift], hidden: Collection[str]) -> list[ColumnDrift]:
    """It tells columns that a policy hides from those of too few rows: to wait for more is vain."""
    return [replace(one, state=State.REDACTED) if one.name in hidden else one for one in columns]


@dataclass(frozen=True)
class _Reader:
    """It reads windows of one revision."""

    revision: Revision
    baseline: Baseline
    slice: Slice | None
    shadow: bool
    now: datetime | None

    def window(self, since: datetime, until: datetime) -> tallies.Window:
        return tallies.window(
            self.revision.endpoint,
            self.baseline,
            since,
            until,
            slice=self.slice,
            revisions=[self.revision],
            shadow=self.shadow,
            now=self.now,
        )

    def widened(
        self,
        seen: tallies.Window,
        since: datetime,
        until: datetime,
        wanted: int,
        widest: timedelta,
    ) -> tuple[tallies.Window, datetime]:
        """It doubles the window; where that brings no rows, it stays as it was asked for."""
        asked, begin, found = seen, since, seen
        earliest = max(until - widest, self.revision.created_at)
        while found.rows < wanted and begin > earliest:
            begin = max(until - 2 * (until - begin), earliest)
            found = self.window(begin, until)
        return (found, begin) if found.rows > asked.rows else (asked, since)
