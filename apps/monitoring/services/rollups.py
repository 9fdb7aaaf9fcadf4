"""Adds sums to the rows that charts and analyses read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from apps.monitoring import histogram, windows
from apps.monitoring.models import Rollup
from apps.monitoring.sums import WIDTH_SECONDS, Sums

KEPT = timedelta(days=14)  # of what is older, nothing is summed any more
# The existing bins come back, with the row locked until the transaction ends; adding them in SQL
# would take apart and rebuild hundreds of numbers a row there.
_ADD = """
insert into monitoring_rollup as kept (
    revision_id, origin, at, width_seconds, requests, client_errors, server_errors,
    latency_count, log_latency_sum, log_latency_square_sum, latency_bins)
select * from unnest(
    %s::bigint[], %s::text[], %s::timestamptz[], %s::int[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::bytea[])
on conflict (revision_id, origin, width_seconds, at) do update set
    requests = kept.requests + excluded.requests,
    client_errors = kept.client_errors + excluded.client_errors,
    server_errors = kept.server_errors + excluded.server_errors,
    latency_count = kept.latency_count + excluded.latency_count,
    log_latency_sum = kept.log_latency_sum + excluded.log_latency_sum,
    log_latency_square_sum = kept.log_latency_square_sum + excluded.log_latency_square_sum
returning id, revision_id, width_seconds, at, latency_bins, (xmax = 0) as is_new
"""
_REPLACE_BINS = """
update monitoring_rollup set latency_bins = merged.bins
from unnest(%s::bigint[], %s::bytea[]) as merged(id, bins)
where monitoring_rollup.id = merged.id
"""

Spans = Mapping[tuple[int, int], Sums]  # (revision, start in epoch seconds)


def add(spans: Spans, origin: Rollup.From) -> None:
    """It adds the sums of each span to its row in every tier. Call it in a transaction."""
    tiers = {
        (revision, width, start): sums
        for width in windows.ROLLUPS
        for (revision, start), sums in _in_tier(spans, width).items()
    }
    # In one order everywhere: two writers that lock rows in different orders wait for ever.
    keys = sorted(tiers)
    if not keys:
        return
    parts = [tiers[key] for key in keys]
    columns: list[Any] = [
        [revision for revision, _, _ in keys],
        [origin.value] * len(keys),
        [datetime.fromtimestamp(start, UTC) for _, _, start in keys],
        [width for _, width, _ in keys],
        [part.requests for part in parts],
        [part.client_errors for part in parts],
        [part.server_errors for part in parts],
        [part.latency_count for part in parts],
        [part.log_latency_sum for part in parts],
        [part.log_latency_square_sum for part in parts],
        [histogram.pack(part.bins) for part in parts],
    ]
    ids, merged = [], []
    with connection.cursor() as cursor:
        cursor.execute(_ADD, columns)
        for pk, revision, width, at, bins, is_new in cursor.fetchall():
            new = tiers[revision, width, int(at.timestamp())]
            if not is_new and new.latency_count:
                ids.append(pk)
                merged.append(histogram.pack(histogram.unpack(bins) + new.bins))
        if ids:
            cursor.execute(_REPLACE_BINS, [ids, merged])


def _in_tier(spans: Spans, width: int) -> Spans:
    if width == WIDTH_SECONDS:
        return spans
    wider: dict[tuple[int, int], Sums] = {}
    for (revision, start), sums in spans.items():
        wider.setdefault((revision, start // width * width), Sums()).add(sums)
    return wider
