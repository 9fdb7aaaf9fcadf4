"""Questions to the rollups. Their cost depends on the span of time, not on the predictions."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import reduce
from math import inf
from operator import or_
from time import monotonic
from typing import Any

import numpy as np
import numpy.typing as npt
from django.db.models import Max, Q, QuerySet
from django.db.models import Sum as Total
from django.utils import timezone

from apps.monitoring import drilldown, histogram, places, windows
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.selectors import binary
from apps.monitoring.sums import WIDTH_SECONDS, Sums
from apps.serving.models import Endpoint, Revision

MOST_BUCKETS = 2_000
FILES_AT_ONCE = 1_000  # of the log: between two lots one may stop
WITH_COPIES = timedelta(hours=1)  # a request's copies are in the log at most so much apart
MOST_SPANS = 360  # an hour of requests all the time
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
_COLUMNS = (
    "revision_id", "at", "requests", "client_errors", "server_errors", "latency_count",
    "log_latency_sum", "log_latency_square_sum", "latency_bins",
)  # fmt: skip
_DRAWN = ("revision_id", "at", "requests", "client_errors", "server_errors", "latency_bins")


@dataclass(frozen=True)
class Series:
    """One revision's buckets of time. None: nothing to measure, which is not zero."""

    revision: Revision
    at: list[datetime]  # starts of the buckets, the same in every series of one answer
    rate: list[float]  # requests a second
    errors: list[float]  # server errors a second
    client_errors: list[float]
    p50_ms: list[float | None]
    p90_ms: list[float | None]
    p95_ms: list[float | None]
    p99_ms: list[float | None]
    p999_ms: list[float | None]


def compare(
    *, candidate: Revision, stable: Revision | None, since: datetime, now: datetime
) -> tuple[Sums, Sums | None]:
    """It sums what callers got from both since a moment.

    The spans of 10 s, however long ago: a day's sum would hold what was before.
    Only those that began at or after `since` count: the span in which a step was reached holds
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


def spans(*, revision: Revision, since: datetime, now: datetime) -> list[Sums]:
    """It gives what callers got from a revision in each span of 10 s that had requests.

    Spans as in `compare`, the oldest first; of more than MOST_SPANS the newest. How many, not how
    long: of an endpoint that is asked now and then an hour would hold too few to tell anything.
    """
    rows = _finest(revision, Rollup.From.GATEWAY, since, now).order_by("-at")[:MOST_SPANS]
    return [_sums(row) for row in reversed(binary.of(rows.values_list(*_COLUMNS)))]


def whole(spans: Iterable[Sums]) -> Sums:
    """It adds up spans."""
    found = Sums()
    for one in spans:
        found.add(one)
    return found


def totals(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    origin: Rollup.From = Rollup.From.GATEWAY,
    now: datetime | None = None,
) -> dict[int, Sums]:
    """It sums each revision over a span of time, by the revision's id.

    Of a time that only coarser tiers hold, the spans that it touches.
    """
    parts = windows.cover(since, until, _kept(now))
    rows = _of(endpoint, origin).filter(_within(parts)) if parts else Rollup.objects.none()
    return _by_revision(rows)


def series(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    step_seconds: int,
    origin: Rollup.From = Rollup.From.GATEWAY,
    now: datetime | None = None,
) -> list[Series]:
    """It gives the buckets from `since` to `until`, aligned to the step, of each revision.

    Of a time of which only wider spans are kept, the step is longer than asked for.
    Raises: ValueError for a step that is no multiple of a rollup's width, or too many buckets.
    """
    starts, step, width = _buckets(since, until, step_seconds, now)
    end = starts[-1] + timedelta(seconds=step)
    rows = _of(endpoint, origin).filter(width_seconds=width, at__gte=starts[0], at__lt=end)
    found = binary.of(rows.values_list(*_DRAWN))
    revisions = Revision.objects.filter(pk__in={row[0] for row in found}).select_related("version")
    points = _points(found, starts[0], step)
    return [
        _series(revision, starts, step, points[revision.pk])
        for revision in revisions.order_by("number")
    ]


def buckets(
    since: datetime, until: datetime, step_seconds: int, now: datetime | None = None
) -> list[datetime]:
    """It gives the starts of the buckets that hold a span of time."""
    return _buckets(since, until, step_seconds, now)[0]


def _buckets(
    since: datetime, until: datetime, step_seconds: int, now: datetime | None
) -> tuple[list[datetime], int, int]:
    """It gives the starts, the step, and the width of the sums to read."""
    step, width = windows.step_for(since, step_seconds, _kept(now))
    first = windows.down(since, step)
    count = -(-int(until.timestamp() - first.timestamp()) // step)
    if count < 1:
        raise ValueError("The end must lie after the beginning")
    if count > MOST_BUCKETS:
        raise ValueError(f"{count} points are too many to draw; choose a longer step")
    return [first + timedelta(seconds=step * place) for place in range(count)], step, width


def dropped(endpoint: Endpoint, since: datetime) -> int:
    """It tells how many records the model servers could not keep since a moment of the last day."""
    found = Segment.objects.filter(revision__endpoint=endpoint, counted_at__gte=since)
    return int(found.aggregate(total=Total("dropped"))["total"] or 0)


def left_out(endpoint: Endpoint, since: datetime) -> int:
    """It tells how many rows stand in the log only since a moment of the last day (MOST_ROWS)."""
    found = Segment.objects.filter(revision__endpoint=endpoint, counted_at__gte=since)
    return int(found.aggregate(total=Total("left_out"))["total"] or 0)


def set_aside(endpoint: Endpoint, since: datetime) -> int:
    """It tells how many segments lie in spool/rejected since a moment of the last day."""
    found = Segment.objects.filter(revision__endpoint=endpoint, counted_at__gte=since)
    return found.exclude(set_aside="").count()


@dataclass(frozen=True)
class Answered:
    """Which revisions of an endpoint ever answered callers, and which copies; by their ids."""

    callers: frozenset[int]
    copies: frozenset[int]

    def only_copies(self, revision: Revision) -> bool:
        return revision.pk in self.copies - self.callers


def answered(endpoint: Endpoint) -> Answered:
    """It looks into the sums of days: a row a revision and day, and all of them are kept."""
    days = Rollup.objects.filter(
        revision__endpoint=endpoint, width_seconds=max(windows.ROLLUPS), requests__gt=0
    )
    found = set(days.values_list("origin", "revision_id").distinct())
    of = {
        origin: frozenset(pk for one, pk in found if one == origin)
        for origin in (Rollup.From.SERVER, Rollup.From.SHADOW)
    }
    return Answered(of[Rollup.From.SERVER], of[Rollup.From.SHADOW])


def last_at(endpoint: Endpoint) -> datetime | None:
    """The start of the newest span, of the finest that is kept, with requests of callers."""
    found = Rollup.objects.filter(revision__endpoint=endpoint, origin=Rollup.From.GATEWAY)
    at: datetime | None = found.aggregate(at=Max("at"))["at"]
    return at


@dataclass(frozen=True)
class Found:
    """What the prediction log holds of one request: its shadows have the same id."""

    rows: list[dict[str, Any]]
    not_before: datetime | None = None  # older files were not searched: the time was over


def find_request(endpoint: Endpoint, request_id: str, since: datetime) -> list[dict[str, Any]]:
    """It gives what the log holds of one request, however long it takes to look.

    `since` bounds the days that are searched.
    """
    return look_for(endpoint, request_id, since).rows


def look_for(
    endpoint: Endpoint,
    request_id: str,
    since: datetime,
    *,
    near: datetime | None = None,
    clock: Callable[[], float] = monotonic,
    seconds: float = inf,
) -> Found:
    """It looks into what waits for the log, then into its files, those around `near` first.

    The others follow from the newest on, until the request and its copies were found. Whoever
    waits sets `seconds`; then the answer says how far it came.
    """
    ends = clock() + seconds
    revisions = dict(endpoint.revisions.values_list("pk", "version__number"))
    # The spool first: rows that move into the log meanwhile are found twice rather than never.
    found = drilldown.in_spool(places.spool(), revisions, request_id)
    files = endpoint.log_files.filter(last_at__gte=since).order_by("-last_at", "-pk")
    known = list(files.values_list("path", "last_at"))
    if near is not None:
        around = files.filter(last_at__gte=near - WITH_COPIES, first_at__lte=near + WITH_COPIES)
        found += _in(list(around.values_list("path", flat=True)), request_id)
        if found:  # what asked the same again lately stands beside it
            found += _in([path for path, _ in known[:FILES_AT_ONCE]], request_id)
            return Found(_once(found))
    for begin in range(0, len(known), FILES_AT_ONCE):
        some = known[begin : begin + FILES_AT_ONCE]
        if found and some[0][1] < min(row["at"] for row in found) - WITH_COPIES:
            break
        if begin and clock() > ends:
            return Found(_once(found), not_before=some[0][1])
        found += _in([path for path, _ in some], request_id)
    return Found(_once(found))


def _in(paths: Sequence[str], request_id: str) -> list[dict[str, Any]]:
    return drilldown.in_files([places.log() / path for path in paths], request_id)


def _once(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    once = {(row["revision"], row["at"], row["shadow"]): row for row in found}
    return sorted(once.values(), key=lambda row: (row["at"], row["revision"]))


def _kept(now: datetime | None) -> dict[int, datetime]:
    return windows.oldest(windows.ROLLUPS, now or timezone.now())


def _of(endpoint: Endpoint, origin: Rollup.From) -> QuerySet[Rollup]:
    revisions = list(endpoint.revisions.values_list("pk", flat=True))
    return Rollup.objects.filter(revision__in=revisions, origin=origin)


def _within(parts: list[windows.Part]) -> Q:
    wanted = [Q(width_seconds=width, at__gte=since, at__lt=until) for width, since, until in parts]
    return reduce(or_, wanted)


def _sum(revision: Revision, origin: Rollup.From, since: datetime, now: datetime) -> Sums:
    return _by_revision(_finest(revision, origin, since, now)).get(revision.pk, Sums())


def _finest(
    revision: Revision, origin: Rollup.From, since: datetime, now: datetime
) -> QuerySet[Rollup]:
    return Rollup.objects.filter(
        revision=revision,
        origin=origin,
        width_seconds=WIDTH_SECONDS,
        at__gte=since,
        at__lte=now,
    )


def _by_revision(rows: QuerySet[Rollup]) -> dict[int, Sums]:
    found: dict[int, Sums] = defaultdict(Sums)
    for row in rows.values_list(*_COLUMNS).iterator(500):
        found[row[0]].add(_sums(row))
    return dict(found)


def _sums(row: tuple[Any, ...]) -> Sums:
    named = dict(zip(_COLUMNS[2:-1], row[2:-1], strict=True))
    return Sums(**named, bins=histogram.unpack(row[-1]))


@dataclass(frozen=True)
class _Points:
    """One revision's buckets that hold something, with the sums of each."""

    places: list[int]
    counts: npt.NDArray[np.int64]  # a row a bucket: requests, client errors, server errors
    quantiles: npt.NDArray[np.float64]  # as in QUANTILES


def _points(found: Sequence[tuple[Any, ...]], first: datetime, step: int) -> Mapping[int, _Points]:
    """It sums rows, of any order, into the buckets of each revision, all at once."""
    if not found:
        return {}
    revisions = np.array([row[0] for row in found], dtype=np.int64)
    seconds = np.array([row[1].timestamp() for row in found]) - first.timestamp()
    buckets = seconds.astype(np.int64) // step
    keys, places = np.unique(revisions * MOST_BUCKETS + buckets, return_inverse=True)
    counts = np.zeros((len(keys), 3), dtype=np.int64)
    np.add.at(counts, places, np.array([row[2:5] for row in found], dtype=np.int64))
    packed = (row[-1] for row in found)
    bins = histogram.gathered(zip(places.tolist(), packed, strict=True), len(keys))
    quantiles = histogram.quantiles(bins, list(QUANTILES.values()))
    whose = keys // MOST_BUCKETS
    return {
        int(revision): _Points(
            (keys[whose == revision] % MOST_BUCKETS).tolist(),
            counts[whose == revision],
            quantiles[whose == revision],
        )
        for revision in np.unique(whose)
    }


def _series(revision: Revision, starts: list[datetime], step: int, points: _Points) -> Series:
    rates = np.zeros((len(starts), 3))
    rates[points.places] = points.counts / step
    rate, client_errors, errors = rates.T.tolist()
    percentiles: dict[str, list[float | None]] = {}
    for name, values in zip(QUANTILES, points.quantiles.T.tolist(), strict=True):
        percentiles[name] = [None] * len(starts)
        for place, value in zip(points.places, values, strict=True):
            percentiles[name][place] = None if value != value else value  # NaN
    return Series(
        revision=revision,
        at=starts,
        rate=rate,
        errors=errors,
        client_errors=client_errors,
        **percentiles,
    )
