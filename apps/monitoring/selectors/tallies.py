"""Questions to the tallies: what live rows were like, in the bins of a baseline.

Their cost depends on the span of time and on the number of bins, not on the predictions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils import timezone

from apps.baselines import packing
from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.monitoring import windows
from apps.monitoring.models import Slice
from apps.monitoring.selectors import binary
from apps.serving.models import Endpoint, Revision

MOST_POINTS = 2_000
AT_ONCE = 500  # spans of one fetch
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """The rows of a span of time."""

    rows: int  # answered with 2xx
    requests: float
    client_errors: float
    server_errors: float
    counts: Ints  # a place a slot of the baseline's layout
    first_at: datetime | None  # start of the first span that has rows, end of the last
    last_at: datetime | None


def window(
    endpoint: Endpoint,
    baseline: Baseline,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    revisions: Iterable[Revision] | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> Window:
    """It sums the rows of a span of time, all in one.

    Of the revisions of the baseline's version, or of those given. Of a time that only coarser
    tiers hold, the spans that it touches.
    """
    parts = windows.cover(since, until, _kept(now))
    found = _rows(endpoint, baseline, parts, slice, revisions, shadow=shadow)
    return Window(
        rows=sum(row[2] for row in found),
        requests=sum(row[3] for row in found),
        client_errors=sum(row[4] for row in found),
        server_errors=sum(row[5] for row in found),
        counts=packing.total([row[6] for row in found], shape(baseline).layout.size),
        first_at=min((row[0] for row in found), default=None),
        last_at=max((row[0] + timedelta(seconds=row[1]) for row in found), default=None),
    )


def rows(
    endpoint: Endpoint,
    baseline: Baseline,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    revisions: Iterable[Revision] | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> int:
    """It gives how many rows `window` would sum, without reading what they were like."""
    parts = windows.cover(since, until, _kept(now))
    figures = "coalesce(sum(found.rows), 0)::bigint"
    found = _rows(endpoint, baseline, parts, slice, revisions, shadow=shadow, figures=figures)
    return int(found[0][0]) if found else 0


def series(
    endpoint: Endpoint,
    baseline: Baseline,
    since: datetime,
    until: datetime,
    step_seconds: int,
    *,
    slice: Slice | None = None,
    revisions: Iterable[Revision] | None = None,
    shadow: bool = False,
    now: datetime | None = None,
) -> tuple[list[datetime], Ints, Ints]:
    """It gives the starts of steps, the counts of each, (n, size), and the rows of each, (n,).

    Of a time of which only wider spans are kept, the steps are longer than asked for.
    Raises: ValueError for a step that is no multiple of the finest width, or too many of them.
    """
    size = shape(baseline).layout.size
    step, width = windows.step_for(windows.down(since, step_seconds or 1), step_seconds, _kept(now))
    first = windows.down(since, step)
    points = -(-int(until.timestamp() - first.timestamp()) // step)
    if not 1 <= points <= MOST_POINTS:
        raise ValueError(f"A series has 1 to {MOST_POINTS} points, not {points}")
    end = first + timedelta(seconds=step * points)
    counts, taken = np.zeros((points, size), np.int64), np.zeros(points, np.int64)
    for part in _portions(width, first, end):
        for row in _rows(endpoint, baseline, [part], slice, revisions, shadow=shadow):
            place = int((row[0] - first).total_seconds()) // step
            counts[place] += packing.read(row[6])
            taken[place] += row[2]
    return [first + timedelta(seconds=step * place) for place in range(points)], counts, taken


# A look into the index for each part, whatever the planner thinks of so many ranges.
_ROWS = """
select {figures}
from unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) as part(width, since, until)
cross join lateral (
    select at, width_seconds, rows, requests, client_errors, server_errors, counts
    from monitoring_tally
    where revision_id = any(%s::bigint[]) and baseline_id = %s and {slice} and shadow = %s
    and width_seconds = part.width and at >= part.since and at < part.until
    offset 0) as found
"""


def _kept(now: datetime | None) -> dict[int, datetime]:
    return windows.oldest(windows.TALLIES, now or timezone.now())


def _portions(width: int, first: datetime, end: datetime) -> Iterator[windows.Part]:
    """It splits a span, so that not all rows of a wide layout are in memory at once."""
    portion = timedelta(seconds=width * AT_ONCE)
    while first < end:
        yield width, first, min(first + portion, end)
        first += portion


def _rows(
    endpoint: Endpoint,
    baseline: Baseline,
    parts: Sequence[windows.Part],
    part: Slice | None,
    revisions: Iterable[Revision] | None,
    *,
    shadow: bool,
    figures: str = "found.*",
) -> list[tuple[Any, ...]]:
    if not parts:
        return []
    if revisions is None:
        # Others may be counted in these bins too, to be compared.
        own = endpoint.revisions.filter(version=baseline.version_id)
        chosen = list(own.values_list("pk", flat=True))
    else:
        chosen = [revision.pk for revision in revisions]
    # Not "is not distinct from": no index is looked into for that.
    which, of_slice = ("slice_id is null", []) if part is None else ("slice_id = %s", [part.pk])
    spans = [list(column) for column in zip(*parts, strict=True)]
    sql = _ROWS.format(slice=which, figures=figures)
    return binary.rows(sql, [*spans, chosen, baseline.pk, *of_slice, shadow])
