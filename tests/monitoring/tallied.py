"""A frozen baseline and tallies of rows, as plain rows that say what their tables say."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from apps.baselines import distances, packing
from apps.baselines.layout import Role, fit, pack64
from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.builds.models import Build
from apps.monitoring import histogram, windows
from apps.monitoring.models import Slice, Tally
from apps.serving.models import Revision

BLOCKS = 10
AIRPORTS = ("JFK", "LGA", "EWR")


def flights(
    seed: int,
    count: int,
    *,
    shift: float = 0.0,
    airports: Sequence[float] = (0.4, 0.3, 0.3),
    missing: float = 0.0,
    new: float = 0.0,
) -> pa.Table:
    """Rows of a model of flights: `shift` of distances in standard deviations, shares of airports,
    and how many delays are missing and how many origins nobody knows."""
    chance = np.random.default_rng(seed)
    distance = chance.normal(1000 + 300 * shift, 300, count)
    origin = chance.choice(AIRPORTS, count, p=airports).astype(object)
    origin[chance.random(count) < new] = "ZRH"
    delay = chance.exponential(12, count)
    empty = chance.random(count) < missing
    return pa.table(
        {
            "in.distance": distance,
            "in.origin": pa.array(origin.tolist(), pa.string()),
            "in.dep_delay": pa.array(delay, mask=empty),
            "in.hour": chance.integers(5, 23, count).astype(float),
            "out.0": chance.beta(2, 5, count),
        }
    )


def freeze(build: Build, table: pa.Table, now: datetime, **changes: Any) -> Baseline:
    """It makes the version's baseline of these rows, in force."""
    roles = {
        name: Role.INPUT if name.startswith("in.") else Role.OUTPUT for name in table.column_names
    }
    layout = fit(table, roles, None)
    blocks = np.arange(table.num_rows) * BLOCKS // table.num_rows
    fields = {
        "number": build.version.baselines.count() + 1,
        "origin": "reference",
        "state": "ready",
        "rows": table.num_rows,
        "layout": layout.as_json(),
        "counts": pack64(layout.count(table)[0]),
        "natural": distances.natural(layout, layout.count(table, blocks, BLOCKS)),
        "created_at": now,
        "frozen_at": now,
    }
    return Baseline.objects.create(version=build.version, build=build, **fields | changes)


def tally(
    revision: Revision,
    baseline: Baseline,
    at: datetime,
    table: pa.Table,
    *,
    part: Slice | None = None,
    widths: Sequence[int] = tuple(windows.TALLIES),
    ms: float = 12.0,
    figures: Mapping[str, float] | None = None,
) -> None:
    """It adds answered rows of one moment to the sums of every width, as the collector does."""
    counts = shape(baseline).layout.count(table)[0]
    latency = histogram.from_us(np.full(table.num_rows, ms * 1000))
    for width in widths:
        row, _ = Tally.objects.get_or_create(
            revision=revision,
            baseline=baseline,
            slice=part,
            at=windows.down(at, width),
            width_seconds=width,
        )
        held = packing.unpack(row.counts) if row.counts else np.zeros_like(counts)
        row.counts = packing.pack(held + counts)
        row.latency_bins = histogram.pack(histogram.unpack(row.latency_bins) + latency)
        row.rows += table.num_rows
        row.requests += (figures or {}).get("requests", table.num_rows)
        row.client_errors += (figures or {}).get("client_errors", 0)
        row.server_errors += (figures or {}).get("server_errors", 0)
        row.save()
