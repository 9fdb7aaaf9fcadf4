"""Counts the rows of the prediction log in the bins of baselines: each file once for each lens.

A lens is the baseline in force of a version, with all rows or with those of a slice; its own
version's, or that of a revision that this one is compared with. Whoever makes a new one need not
tell anybody: the files it has not counted are found here, newest first. The row that says "counted"
and the sums are one transaction.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef

from apps.baselines import packing
from apps.baselines import selectors as baselines
from apps.baselines.layout import Layout
from apps.baselines.models import Baseline
from apps.monitoring import conditions, histogram, places, windows
from apps.monitoring.models import Comparison, Counted, RowFile, Slice
from apps.monitoring.rows import OUTPUT
from apps.monitoring.services import comparisons
from apps.monitoring.services.segments import is_its_own
from apps.serving.models import Revision

log = logging.getLogger(__name__)

AT_ONCE = 8  # files times lenses: canaries' counts wait meanwhile
SLOTS_AT_ONCE = 8_000_000  # of 8 bytes: a day's minutes of a wide layout would be gigabytes
FIXED = (
    "row", "at", "status", "latency_us", "shadow", "share", "caller", "absent", "wrong", "redacted",
)  # fmt: skip
FINEST_US = min(windows.TALLIES) * 1_000_000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A comparison has the files of so long before it began, and after the other's last row.
COMPARED = timedelta(days=7)
MOST_COMPARED = timedelta(days=28)

_WAITING = """
with lens as (
    select * from unnest(%s::bigint[], %s::bigint[], %s::timestamptz[], %s::timestamptz[])
        as given(revision_id, baseline_id, since, until)),
fits as not materialized (
    select file.id, file.revision_id, file.last_at, lens.baseline_id, lens.since
    from monitoring_rowfile file
    join lens on lens.revision_id = file.revision_id
    where (lens.since is null or file.last_at >= lens.since)
    and (lens.until is null or file.first_at < lens.until))
select id, baseline_id, null::bigint as slice_id, last_at, since
from fits
where not exists (
    select 1 from monitoring_counted counted
    where counted.row_file_id = fits.id and counted.baseline_id = fits.baseline_id
    and counted.slice_id is null)
union all
select fits.id, fits.baseline_id, slice.id, fits.last_at, fits.since
from fits
join serving_revision revision on revision.id = fits.revision_id
join monitoring_slice slice
    on slice.endpoint_id = revision.endpoint_id and slice.retired_at is null
where not exists (
    select 1 from monitoring_counted counted
    where counted.row_file_id = fits.id and counted.baseline_id = fits.baseline_id
    and counted.slice_id = slice.id)
order by last_at desc, id desc, since desc nulls first, slice_id nulls first
limit %s
"""

# As in rollups: what was there comes back, locked until the end.
_ADD = """
insert into monitoring_tally as kept (
    revision_id, baseline_id, slice_id, shadow, at, width_seconds,
    rows, requests, client_errors, server_errors, latency_bins, counts)
select * from unnest(
    %s::bigint[], %s::bigint[], %s::bigint[], %s::bool[], %s::timestamptz[], %s::int[],
    %s::bigint[], %s::float8[], %s::float8[], %s::float8[], %s::bytea[], %s::bytea[])
on conflict (revision_id, baseline_id, slice_id, shadow, width_seconds, at) do update set
    rows = kept.rows + excluded.rows,
    requests = kept.requests + excluded.requests,
    client_errors = kept.client_errors + excluded.client_errors,
    server_errors = kept.server_errors + excluded.server_errors
returning id, shadow, width_seconds, at, latency_bins, counts, (xmax = 0) as is_new
"""
_REPLACE = """
update monitoring_tally set latency_bins = merged.bins, counts = merged.counts
from unnest(%s::bigint[], %s::bytea[], %s::bytea[]) as merged(id, bins, counts)
where monitoring_tally.id = merged.id
"""


@dataclass(frozen=True)
class Lens:
    """What a file of rows is counted by."""

    baseline: Baseline
    part: Slice | None

    @property
    def layout(self) -> Layout:
        return baselines.shape(self.baseline).layout


@dataclass(frozen=True)
class Sums:
    """Sums of spans of one width, a row a span."""

    starts: Ints  # epoch seconds
    shadow: npt.NDArray[np.bool_]
    figures: Floats  # rows, requests, client errors, server errors
    latency: Ints
    counts: Ints

    def wider(self, width: int) -> "Sums":
        """It adds up the spans that lie in one of another width."""
        starts = self.starts // width * width
        keys, places = np.unique(starts * 2 + self.shadow, return_inverse=True)
        return Sums(
            keys // 2,
            (keys % 2).astype(np.bool_),
            *(_added(values, places, len(keys)) for values in self._values),
        )

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Sums":
        values = (values[chosen] for values in self._values)
        return Sums(self.starts[chosen], self.shadow[chosen], *values)

    @property
    def _values(self) -> tuple[Any, Any, Any]:
        return self.figures, self.latency, self.counts


def count(*, now: datetime, most: int = AT_ONCE) -> bool:
    """It counts the newest files that were not counted yet, and tells whether more wait.

    Two at once count nothing twice: the second one's transaction is undone.
    Raises: IntegrityError; what was committed before stays.
    """
    comparisons.begin(now=now)
    waiting = _waiting(most + 1)
    by_file: dict[int, list[Lens]] = defaultdict(list)
    for file, lens in waiting[:most]:
        by_file[file].append(lens)
    files = RowFile.objects.in_bulk(by_file)
    for pk, lenses in by_file.items():
        if pk in files:
            _count_file(files[pk], lenses, now)
    return len(waiting) > most


def _waiting(most: int) -> list[tuple[int, Lens]]:
    has_rows = Exists(RowFile.objects.filter(revision=OuterRef("pk")))
    versions = dict(Revision.objects.filter(has_rows).values_list("pk", "version_id"))
    compared = _compared(versions)
    others = [version for _, version, _, _ in compared]
    in_force = baselines.in_force_of({*versions.values(), *others})
    own = [(revision, version, None, None) for revision, version in versions.items()]
    lenses = [
        (revision, in_force[version].pk, since, until)
        for revision, version, since, until in (*own, *compared)
        if version in in_force
    ]
    if not lenses:
        return []
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [*map(list, zip(*lenses, strict=True)), most])
        found = cursor.fetchall()
    by_pk = {baseline.pk: baseline for baseline in in_force.values()}
    slices = Slice.objects.in_bulk([row[2] for row in found if row[2] is not None])
    return [(row[0], Lens(by_pk[row[1]], slices.get(row[2]))) for row in found]


def _compared(revisions: Collection[int]) -> list[tuple[int, int, datetime, datetime]]:
    """It gives a revision, the version in whose bins it is counted, and from when until when.

    Once each: two revisions of one version are one lens. After a way back to what served long ago
    only the last weeks, else all the files since would be counted again.
    """
    found = Comparison.objects.filter(revision__in=revisions, other__row_files__isnull=False)
    rows = found.annotate(last_at=Max("other__row_files__last_at")).values_list(
        "revision_id", "other__version_id", "created_at", "last_at"
    )
    began: dict[tuple[int, int], datetime] = {}
    ended: dict[tuple[int, int], datetime] = {}
    for revision, version, began_at, last_at in rows:
        key = (revision, version)
        began[key] = min(began_at, began.get(key, began_at))
        ended[key] = max(last_at, ended.get(key, last_at))
    return [
        (*key, max(began[key], ended[key] - MOST_COMPARED) - COMPARED, ended[key] + COMPARED)
        for key in began
    ]


def _count_file(file: RowFile, lenses: Sequence[Lens], now: datetime) -> None:
    try:
        table = _read(file, lenses)
    except Exception as error:
        # One that is gone never comes back, and what is no Parquet never will be.
        if not isinstance(error, FileNotFoundError) and not is_its_own(error):
            raise
        log.exception("The rows of %s cannot be counted", file)
        table = None
    for lens in lenses:
        try:
            _commit(file, lens, table, now)
        except Exception as error:
            if not is_its_own(error):
                raise
            log.exception("The rows of %s cannot be counted by %s", file, lens.baseline)
            _commit(file, lens, None, now)


def _read(file: RowFile, lenses: Sequence[Lens]) -> pa.Table:
    wanted = set(FIXED)
    for lens in lenses:
        wanted |= {column.name for column in lens.layout.columns}
        wanted |= conditions.columns(lens.part.condition) if lens.part else set()
    with pq.ParquetFile(places.rows() / file.path) as parquet:
        names = [
            name
            for name in parquet.schema_arrow.names
            if name in wanted or name.startswith(OUTPUT)  # the score is made of all of them
        ]
        return parquet.read(columns=names, use_threads=False)


@transaction.atomic
def _commit(file: RowFile, lens: Lens, table: pa.Table | None, now: datetime) -> None:
    # First, so that another who does the same waits here, and then is undone.
    Counted.objects.create(row_file=file, baseline=lens.baseline, slice=lens.part)
    if table is None or not table.num_rows:
        return
    chosen = np.ones(table.num_rows, np.bool_)
    if lens.part is not None:
        chosen = conditions.mask(lens.part.condition, table)
    for sums in _sums(table, chosen, lens.layout):
        _add(file, lens, sums, now)


def _sums(table: pa.Table, chosen: npt.NDArray[np.bool_], layout: Layout) -> Iterator[Sums]:
    """It gives the sums of the finest width, a limited number of spans at a time."""
    rows = _Rows(table, chosen)
    at_once = max(SLOTS_AT_ONCE // max(layout.size, 1), 1)
    for first in range(0, rows.spans, at_once):
        yield rows.sums(table, layout, first, min(first + at_once, rows.spans))


class _Rows:
    """The rows of a file that are to be counted, each with its span."""

    def __init__(self, table: pa.Table, chosen: npt.NDArray[np.bool_]) -> None:
        at = _numbers(table["at"].cast(pa.int64())).astype(np.int64)
        shadow = _numbers(table["shadow"].cast(pa.int8())).astype(np.int64)
        self._keys, spans = np.unique(at // FINEST_US * 2 + shadow, return_inverse=True)
        self.spans = len(self._keys)
        self._span = np.where(chosen, spans, -1)
        row = _numbers(table["row"])
        self._status = _numbers(table["status"])
        self._is_answered = (self._status >= 200) & (self._status < 300)
        self._is_row = self._is_answered & (row >= 0)
        # A request's rows stand together; the first of those that were chosen stands for it.
        inside = np.flatnonzero(chosen)
        request = np.cumsum(row <= 0)[inside]
        self._requests = inside[np.unique(request, return_index=True)[1]]
        self._weight = 1.0 / _numbers(table["share"])
        self._latency = histogram.places_of(_numbers(table["latency_us"]))

    def sums(self, table: pa.Table, layout: Layout, first: int, last: int) -> Sums:
        span = np.where((self._span >= first) & (self._span < last), self._span - first, -1)
        size = last - first
        requests = self._requests[span[self._requests] >= 0]
        status = self._status[requests]
        weighed = [
            _weighed(span, requests[held], self._weight, size)
            for held in (
                np.ones(requests.size, np.bool_),
                (status >= 400) & (status < 500),
                (status >= 500) | (status < 100),
            )
        ]
        rows = np.bincount(span[self._is_row & (span >= 0)], minlength=size)
        sums = Sums(
            self._keys[first:last] // 2 * FINEST_US // 1_000_000,
            (self._keys[first:last] % 2).astype(np.bool_),
            np.column_stack([rows, *weighed]),
            self._latencies(span, requests[self._is_answered[requests]], size),
            layout.count(table, span, size),
        )
        return sums.where((weighed[0] > 0) | (rows > 0))

    def _latencies(self, span: Ints, requests: Ints, size: int) -> Ints:
        places = span[requests] * histogram.BINS + self._latency[requests]
        counted = np.bincount(places, self._weight[requests], size * histogram.BINS)
        return np.rint(counted).astype(np.int64).reshape(size, histogram.BINS)


def _weighed(span: Ints, requests: Ints, weight: Floats, size: int) -> Floats:
    return np.bincount(span[requests], weight[requests], size).astype(np.float64)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = column.to_numpy()
    return found


def _added(values: npt.NDArray[Any], places: Ints, size: int) -> npt.NDArray[Any]:
    total = np.zeros((size, values.shape[1]), dtype=values.dtype)
    np.add.at(total, places, values)
    return total


def _add(file: RowFile, lens: Lens, sums: Sums, now: datetime) -> None:
    """It adds the sums to their rows in every tier that still keeps that time."""
    tiers = {}
    for width, age in windows.TALLIES.items():
        wide = sums.wider(width)
        if age < windows.FOREVER:
            wide = wide.where(wide.starts >= (now - age).timestamp())
        for place, start in enumerate(wide.starts.tolist()):
            tiers[width, start, bool(wide.shadow[place])] = (
                wide.figures[place], wide.latency[place], wide.counts[place],
            )  # fmt: skip
    if not tiers:
        return
    keys = sorted(tiers)
    size = len(keys)
    figures = np.array([tiers[key][0] for key in keys])
    columns: list[Any] = [
        [file.revision_id] * size,
        [lens.baseline.pk] * size,
        [lens.part and lens.part.pk] * size,
        [shadow for _, _, shadow in keys],
        [datetime.fromtimestamp(start, UTC) for _, start, _ in keys],
        [width for width, _, _ in keys],
        figures[:, 0].astype(np.int64).tolist(),
        *figures[:, 1:].T.tolist(),
        [histogram.pack(tiers[key][1]) for key in keys],
        [packing.pack(tiers[key][2]) for key in keys],
    ]
    merged: list[tuple[int, bytes, bytes]] = []
    with connection.cursor() as cursor:
        cursor.execute(_ADD, columns)
        for pk, shadow, width, at, bins, counts, is_new in cursor.fetchall():
            if not is_new:
                _, more_bins, more_counts = tiers[width, int(at.timestamp()), shadow]
                merged.append(
                    (
                        pk,
                        histogram.pack(histogram.unpack(bins) + more_bins),
                        packing.pack(packing.read(counts) + more_counts),
                    )
                )
        if merged:
            cursor.execute(_REPLACE, [list(column) for column in zip(*merged, strict=True)])
