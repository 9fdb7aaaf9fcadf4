"""Questions to the tallies: what live rows were like, in the bins of a baseline.

Their cost depends on the span of time and on the number of bins, not on the predictions.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from operator import or_

import numpy as np
import numpy.typing as npt
from django.db.models import Q, QuerySet
from django.utils import timezone

from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.monitoring import histogram, windows
from apps.monitoring.models import Slice, Tally
from apps.serving.models import Endpoint, Revision

MOST_POINTS = 2_000
_PACKED = np.dtype("<u4")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """The rows of a span of time."""

    rows: int  # answered with 2xx
    requests: float
    client_errors: float
    server_errors: float
    latency_bins: Ints  # monitoring.histogram
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
    """It sums the rows of a span of time, all in one; of all revisions, or of those given.

    Of a time that only coarser tiers hold, the spans that it touches.
    """
    size = shape(baseline).layout.size
    rows = _of(endpoint, baseline, slice, revisions, shadow=shadow)
    parts = windows.cover(since, until, _kept(now))
    within = [Q(width_seconds=width, at__gte=a, at__lt=b) for width, a, b in parts]
    found = list(rows.filter(reduce(or_, within)).values_list(*_COLUMNS)) if parts else []
    latency, counts = np.zeros(histogram.BINS, np.int64), np.zeros(size, np.int64)
    if found:
        latency = histogram.unpack_many([row[6] for row in found]).sum(axis=0)
        counts = _unpacked([row[7] for row in found], size).sum(axis=0)
    return Window(
        rows=sum(row[2] for row in found),
        requests=sum(row[3] for row in found),
        client_errors=sum(row[4] for row in found),
        server_errors=sum(row[5] for row in found),
        latency_bins=latency,
        counts=counts,
        first_at=min((row[0] for row in found), default=None),
        last_at=max((row[0] + timedelta(seconds=row[1]) for row in found), default=None),
    )


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
    rows = _of(endpoint, baseline, slice, revisions, shadow=shadow)
    found = rows.filter(width_seconds=width, at__gte=first, at__lt=end).values_list(*_COLUMNS)
    counts, taken = np.zeros((points, size), np.int64), np.zeros(points, np.int64)
    for row in found.iterator(500):
        place = int((row[0] - first).total_seconds()) // step
        counts[place] += _unpacked([row[7]], size)[0]
        taken[place] += row[2]
    return [first + timedelta(seconds=step * place) for place in range(points)], counts, taken


_COLUMNS = (
    "at", "width_seconds", "rows", "requests", "client_errors", "server_errors", "latency_bins",
    "counts",
)  # fmt: skip


def _kept(now: datetime | None) -> dict[int, datetime]:
    return windows.oldest(windows.TALLIES, now or timezone.now())


def _of(
    endpoint: Endpoint,
    baseline: Baseline,
    part: Slice | None,
    revisions: Iterable[Revision] | None,
    *,
    shadow: bool,
) -> QuerySet[Tally]:
    if revisions is None:
        chosen = list(endpoint.revisions.values_list("pk", flat=True))
    else:
        chosen = [revision.pk for revision in revisions]
    return Tally.objects.filter(
        revision__in=chosen, baseline=baseline, slice=part, shadow=shadow
    ).order_by()


def _unpacked(packed: list[bytes], size: int) -> Ints:
    counts = np.frombuffer(b"".join(map(bytes, packed)), dtype=_PACKED)
    return counts.reshape(len(packed), size).astype(np.int64)
