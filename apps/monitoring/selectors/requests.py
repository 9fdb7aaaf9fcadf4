"""Questions to the rollups. Their cost depends on the span of time, not on the predictions."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Max, QuerySet
from django.db.models import Sum as Total

from apps.monitoring import drilldown, histogram, places
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.sums import WIDTH_SECONDS, Sums
from apps.serving.models import Endpoint, Revision

MOST_BUCKETS = 2_000
MOST_FILES = 5_000
_COLUMNS = (
    "revision_id", "at", "requests", "client_errors", "server_errors", "latency_count",
    "log_latency_sum", "log_latency_square_sum", "latency_bins",
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """One revision's buckets of time. None: nothing to measure, which is not zero."""

    revision: Revision
    at: list[datetime]  # starts of the buckets, the same in every series of one answer
    rate: list[float]  # requests a second
    errors: list[float]  # server errors a second
    client_errors: list[float]
    p50_ms: list[float | None]
    p95_ms: list[float | None]
    p99_ms: list[float | None]


def compare(
    *, candidate: Revision, stable: Revision | None, since: datetime, now: datetime
) -> tuple[Sums, Sums | None]:
    """It sums what callers got from both since a moment.

    Only spans that began at or after `since` count: the span in which a step was reached holds
    requests from before it.
    """
    return (
        _sum(candidate, Rollup.From.GATEWAY, since, now),
        None if stable is None else _sum(stable, Rollup.From.GATEWAY, since, now),
    )


def compare_shadow(
    *, candidate: Revision, stable: Revision | None, since: datetime, now: datetime
) -> tuple[Sums, Sums | None]:
    """It sums what the candidate did with copies of requests, and the stable one with requests.

    Both as the model servers saw them, since no caller waits for a copy. Spans as in `compare`.
    """
    return (
        _sum(candidate, Rollup.From.SHADOW, since, now),
        None if stable is None else _sum(stable, Rollup.From.SERVER, since, now),
    )


def totals(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    origin: Rollup.From = Rollup.From.GATEWAY,
) -> dict[int, Sums]:
    """It sums each revision over a span of time, by the revision's id."""
    return _by_revision(_of(endpoint, since, until, origin))


def series(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    step_seconds: int,
    origin: Rollup.From = Rollup.From.GATEWAY,
) -> list[Series]:
    """It gives the buckets from `since` to `until`, aligned to the step, of each revision.

    Raises: ValueError for a step that is no multiple of a rollup's width, or too many buckets.
    """
    starts = buckets(since, until, step_seconds)
    first = int(starts[0].timestamp())
    found: dict[int, dict[int, Sums]] = defaultdict(lambda: defaultdict(Sums))
    end = starts[-1] + timedelta(seconds=step_seconds)
    for row in _of(endpoint, starts[0], end, origin).values_list(*_COLUMNS).iterator(500):
        found[row[0]][(int(row[1].timestamp()) - first) // step_seconds].add(_sums(row))
    revisions = Revision.objects.filter(pk__in=list(found)).select_related("version")
    return [
        _series(revision, starts, step_seconds, found[revision.pk])
        for revision in revisions.order_by("number")
    ]


def buckets(since: datetime, until: datetime, step_seconds: int) -> list[datetime]:
    """It gives the starts of the buckets that hold a span of time."""
    if step_seconds <= 0 or step_seconds % WIDTH_SECONDS:
        raise ValueError(f"The step must be a multiple of {WIDTH_SECONDS} seconds")
    first = int(since.timestamp()) // step_seconds * step_seconds
    count = -(-(int(until.timestamp()) - first) // step_seconds)
    if count < 1:
        raise ValueError("The end must lie after the beginning")
    if count > MOST_BUCKETS:
        raise ValueError(f"{count} points are too many to draw; choose a longer step")
    return [datetime.fromtimestamp(first + i * step_seconds, UTC) for i in range(count)]


def dropped(endpoint: Endpoint, since: datetime) -> int:
    """It tells how many records the model servers could not keep since a moment of the last day."""
    found = Segment.objects.filter(revision__endpoint=endpoint, counted_at__gte=since)
    return int(found.aggregate(total=Total("dropped"))["total"] or 0)


def set_aside(endpoint: Endpoint, since: datetime) -> int:
    """It tells how many segments lie in spool/rejected since a moment of the last day."""
    found = Segment.objects.filter(revision__endpoint=endpoint, counted_at__gte=since)
    return found.exclude(set_aside="").count()


def last_at(endpoint: Endpoint) -> datetime | None:
    """The start of the newest span that callers' requests were counted in."""
    found = Rollup.objects.filter(revision__endpoint=endpoint, origin=Rollup.From.GATEWAY)
    at: datetime | None = found.aggregate(at=Max("at"))["at"]
    return at


def find_request(endpoint: Endpoint, request_id: str, since: datetime) -> list[dict[str, Any]]:
    """It gives what the prediction log holds of one request: its shadows have the same id.

    `since` bounds the days that are searched.
    """
    revisions = dict(endpoint.revisions.values_list("pk", "version__number"))
    # The spool first: rows that move into the log meanwhile are found twice rather than never.
    found = drilldown.in_spool(places.spool(), revisions, request_id)
    files = endpoint.log_files.filter(last_at__gte=since).order_by("-last_at")
    found += drilldown.in_files(
        [places.log() / path for path in files.values_list("path", flat=True)[:MOST_FILES]],
        request_id,
    )
    once = {(row["revision"], row["at"], row["shadow"]): row for row in found}
    return sorted(once.values(), key=lambda row: (row["at"], row["revision"]))


def _of(
    endpoint: Endpoint, since: datetime, until: datetime, origin: Rollup.From
) -> QuerySet[Rollup]:
    return Rollup.objects.filter(
        revision__in=list(endpoint.revisions.values_list("pk", flat=True)),
        origin=origin,
        width_seconds=WIDTH_SECONDS,
        at__gte=since,
        at__lt=until,
    )


def _sum(revision: Revision, origin: Rollup.From, since: datetime, now: datetime) -> Sums:
    rows = Rollup.objects.filter(
        revision=revision,
        origin=origin,
        width_seconds=WIDTH_SECONDS,
        at__gte=since,
        at__lte=now,
    )
    return _by_revision(rows).get(revision.pk, Sums())


def _by_revision(rows: QuerySet[Rollup]) -> dict[int, Sums]:
    found: dict[int, Sums] = defaultdict(Sums)
    for row in rows.values_list(*_COLUMNS).iterator(500):
        found[row[0]].add(_sums(row))
    return dict(found)


def _sums(row: tuple[Any, ...]) -> Sums:
    named = dict(zip(_COLUMNS[2:-1], row[2:-1], strict=True))
    return Sums(**named, bins=histogram.unpack(row[-1]))


def _series(
    revision: Revision, starts: list[datetime], step_seconds: int, found: Mapping[int, Sums]
) -> Series:
    parts = [found.get(place) for place in range(len(starts))]
    return Series(
        revision=revision,
        at=starts,
        rate=[part.requests / step_seconds if part else 0.0 for part in parts],
        errors=[part.server_errors / step_seconds if part else 0.0 for part in parts],
        client_errors=[part.client_errors / step_seconds if part else 0.0 for part in parts],
        p50_ms=[part.p50_ms if part else None for part in parts],
        p95_ms=[part.p95_ms if part else None for part in parts],
        p99_ms=[part.p99_ms if part else None for part in parts],
    )
