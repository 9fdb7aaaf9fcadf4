"""Requests, failures and latency of one slice of an endpoint, from the tallies of its rows.

As the model servers saw them: the gateway knows nothing of columns.
"""

from collections import defaultdict
from datetime import UTC, datetime, timedelta

from django.db.models import F, QuerySet
from django.utils import timezone

from apps.baselines import selectors as baselines
from apps.monitoring import histogram, windows
from apps.monitoring.models import Slice, Tally
from apps.monitoring.selectors import requests
from apps.monitoring.selectors.requests import Series
from apps.monitoring.sums import Sums
from apps.serving.models import Endpoint, Revision

_COLUMNS = ("revision_id", "at", "requests", "client_errors", "server_errors", "latency_bins")


def series(
    endpoint: Endpoint,
    part: Slice,
    since: datetime,
    until: datetime,
    step_seconds: int,
    *,
    shadow: bool = False,
) -> list[Series]:
    """It gives the buckets of each revision that had rows of the slice, as `requests.series`."""
    kept = windows.oldest(windows.TALLIES, timezone.now())
    step, width = windows.step_for(since, max(step_seconds, min(windows.TALLIES)), kept)
    starts = requests.buckets(since, until, step)
    end = starts[-1] + timedelta(seconds=step)
    found: dict[int, dict[int, Sums]] = defaultdict(lambda: defaultdict(Sums))
    for row in _of(endpoint, part, starts[0], end, width, shadow).values_list(*_COLUMNS):
        place = int((row[1] - starts[0]).total_seconds()) // step
        found[row[0]][place].add(_sums(row))
    revisions = Revision.objects.filter(pk__in=list(found)).select_related("version")
    return [
        _series(revision, starts, step, found[revision.pk])
        for revision in revisions.order_by("number")
    ]


def total(
    endpoint: Endpoint,
    part: Slice,
    since: datetime,
    until: datetime,
    among: set[int],
    *,
    shadow: bool = False,
) -> Sums:
    """It sums a window over the revisions with these ids, or over all of them."""
    kept = windows.oldest(windows.TALLIES, timezone.now())
    whole = Sums()
    for width, first, last in windows.cover(since, until, kept):
        rows = _of(endpoint, part, first, last, width, shadow)
        for row in rows.values_list(*_COLUMNS):
            if not among or row[0] in among:
                whole.add(_sums(row))
    return whole


def _of(
    endpoint: Endpoint, part: Slice, since: datetime, until: datetime, width: int, shadow: bool
) -> QuerySet[Tally]:
    revisions = dict(endpoint.revisions.values_list("pk", "version_id"))
    # Rows are counted by each baseline that was in force, and by those of others that they are
    # compared with; two of them would count them twice.
    in_force = baselines.in_force_of(revisions.values())
    return Tally.objects.filter(
        revision__in=list(revisions),
        revision__version=F("baseline__version"),
        baseline__in=[one.pk for one in in_force.values()],
        slice=part,
        shadow=shadow,
        width_seconds=width,
        at__gte=since,
        at__lt=until,
    )


def _sums(row: tuple[int, datetime, float, float, float, bytes]) -> Sums:
    bins = histogram.unpack(row[5])
    return Sums(
        requests=round(row[2]),
        client_errors=round(row[3]),
        server_errors=round(row[4]),
        latency_count=int(bins.sum()),
        bins=bins,
    )


def _series(
    revision: Revision, starts: list[datetime], step: int, found: dict[int, Sums]
) -> Series:
    parts = [found.get(place) for place in range(len(starts))]
    return Series(
        revision=revision,
        at=[at.astimezone(UTC) for at in starts],
        rate=[part.requests / step if part else 0.0 for part in parts],
        errors=[part.server_errors / step if part else 0.0 for part in parts],
        client_errors=[part.client_errors / step if part else 0.0 for part in parts],
        p50_ms=[part.p50_ms if part else None for part in parts],
        p90_ms=[part.p90_ms if part else None for part in parts],
        p95_ms=[part.p95_ms if part else None for part in parts],
        p99_ms=[part.p99_ms if part else None for part in parts],
        p999_ms=[part.p999_ms if part else None for part in parts],
    )
