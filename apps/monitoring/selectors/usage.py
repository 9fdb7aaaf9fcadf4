"""Questions to what replicas used. Their cost depends on the span of time and on the replicas."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from apps.monitoring import usage, windows
from apps.monitoring.selectors.requests import MOST_BUCKETS
from apps.serving.models import Endpoint, Revision

Values = list[float | None]
_MEANS = """
    sum(processor_seconds) / nullif(sum(measured_seconds), 0), max(most_processors),
    sum(memory_mb_sum)::float8 / nullif(sum(memory_looks), 0), max(most_memory_mb)::float8,
    sum(in_flight_sum)::float8 / nullif(sum(in_flight_looks), 0), max(most_in_flight)::float8
"""
_SERIES = f"""
select revision_id, index, floor((extract(epoch from at) - %s) / %s)::int as place, {_MEANS},
    max(processors_limit), max(memory_limit_mb), max(in_flight_limit)
from monitoring_replicause
where revision_id = any(%s) and width_seconds = %s and at >= %s and at < %s
group by 1, 2, 3 order by 1, 2, 3
"""
_TOTALS = f"""
select revision_id, count(distinct index), {_MEANS},
    (array_agg(processors_limit order by at desc))[1],
    (array_agg(memory_limit_mb order by at desc))[1],
    (array_agg(in_flight_limit order by at desc))[1]
from monitoring_replicause
join unnest(%s::int[], %s::timestamptz[], %s::timestamptz[]) as part(width, since, until)
    on width_seconds = part.width and at >= part.since and at < part.until
where revision_id = any(%s)
group by 1
"""
KINDS = ("processors", "memory_mb", "in_flight")


@dataclass(frozen=True)
class Use:
    """One thing that a replica uses, in steps of time: mean, most at once, and its limit."""

    mean: Values
    most: Values
    limit: Values


@dataclass(frozen=True)
class Series:
    """One replica's steps of time. None: nobody could tell, or it did not run."""

    revision: Revision
    index: int
    at: list[datetime]  # starts of the steps, the same in every series of one answer
    processors: Use
    memory_mb: Use
    in_flight: Use


@dataclass(frozen=True)
class Total:
    """One thing that one replica of a revision used over a span of time."""

    mean: float | None
    most: float | None  # of any of its replicas
    limit: float | None  # as it was last


@dataclass(frozen=True)
class Summary:
    revision: Revision
    replicas: int  # that there were, not all at once
    processors: Total
    memory_mb: Total
    in_flight: Total


def series(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    step_seconds: int,
    now: datetime | None = None,
    *,
    among: Iterable[int] = (),
) -> list[Series]:
    """It gives the steps from `since` to `until` of each replica, ordered by revision and index.

    `among`: numbers of revisions; none: all. The step is no shorter than a minute, and longer than
    asked for where only wider spans are kept. Raises: ValueError for too many steps.
    """
    starts, step, width = _steps(since, until, step_seconds, now)
    first, end = starts[0], starts[-1] + timedelta(seconds=step)
    revisions = _revisions(endpoint, among)
    found: dict[tuple[int, int], dict[int, Sequence[float | None]]] = defaultdict(dict)
    with connection.cursor() as cursor:
        asked: list[Any] = [first.timestamp(), step, list(revisions), width, first, end]
        cursor.execute(_SERIES, asked)
        for revision, index, place, *values in cursor.fetchall():
            found[revision, index][place] = values
    places = sorted(found, key=lambda one: (revisions[one[0]].number, one[1]))
    return [_series(revisions[pk], index, starts, found[pk, index]) for pk, index in places]


def totals(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    now: datetime | None = None,
    *,
    among: Iterable[int] = (),
) -> list[Summary]:
    """It sums each revision over a span of time.

    Of a time that only coarser tiers hold, the spans that it touches.
    """
    parts = windows.cover(since, until, _kept(now))
    revisions = _revisions(endpoint, among)
    columns: list[Any] = [list(column) for column in zip(*parts, strict=True)] or [[], [], []]
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, [*columns, list(revisions)])
        rows = cursor.fetchall()
    return [
        Summary(
            revisions[pk],
            replicas,
            *(Total(values[2 * n], values[2 * n + 1], values[6 + n]) for n in range(len(KINDS))),
        )
        for pk, replicas, *values in sorted(rows, key=lambda row: revisions[row[0]].number)
    ]


def _steps(
    since: datetime, until: datetime, step_seconds: int, now: datetime | None
) -> tuple[list[datetime], int, int]:
    """It gives the starts, the step, and the width of the sums to read."""
    kept = _kept(now)
    whole = -(-step_seconds // usage.WIDTH_SECONDS) * usage.WIDTH_SECONDS
    step, width = windows.step_for(since, whole, kept)
    first = windows.down(since, step)
    count = -(-int(until.timestamp() - first.timestamp()) // step)
    if count < 1:
        raise ValueError("The end must lie after the beginning")
    if count > MOST_BUCKETS:
        raise ValueError(f"{count} points are too many to draw; choose a longer step")
    return [first + timedelta(seconds=step * place) for place in range(count)], step, width


def _kept(now: datetime | None) -> dict[int, datetime]:
    # Of what is older than the coarsest tier nothing is left, which is an answer too.
    coarsest = {max(usage.KEPT): datetime(1970, 1, 1, tzinfo=UTC)}
    return windows.oldest(usage.KEPT, now or timezone.now()) | coarsest


def _revisions(endpoint: Endpoint, among: Iterable[int]) -> dict[int, Revision]:
    rows = endpoint.revisions.select_related("version")
    numbers = set(among)
    return {row.pk: row for row in (rows.filter(number__in=numbers) if numbers else rows)}


def _series(
    revision: Revision,
    index: int,
    starts: list[datetime],
    points: dict[int, Sequence[float | None]],
) -> Series:
    columns: list[Values] = [[None] * len(starts) for _ in range(9)]
    for place, values in points.items():
        for column, value in zip(columns, values, strict=True):
            column[place] = value
    uses = (Use(columns[2 * n], columns[2 * n + 1], columns[6 + n]) for n in range(len(KINDS)))
    return Series(revision, index, starts, *uses)
