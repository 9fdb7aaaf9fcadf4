"""Fills the tables of the panel as a collector would have left them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.baselines import packing
from apps.baselines.freezing import Facts
from apps.baselines.layout import COUNTERS
from apps.baselines.models import Baseline
from apps.monitoring import histogram, windows
from apps.monitoring.models import Rollup, Tally
from apps.serving.models import Revision
from benchmarks.monitoring import truth
from tests.factories.serving import EndpointFactory, RevisionFactory

Counts = npt.NDArray[np.int64]
AT_ONCE = 500  # rows of one insert
MEDIAN_MS, SPREAD = 12.0, 0.5  # of log-normal latencies


@dataclass(frozen=True)
class Spans:
    """What one revision did in consecutive spans of time."""

    start: datetime
    seconds: int  # of a span
    requests: Counts  # (spans,)
    latencies: Counts  # (spans, histogram.BINS)
    counts: Counts  # (spans, slots of the layout)


def deployed(revisions: int) -> list[Revision]:
    """It makes an endpoint with so many revisions."""
    endpoint = EndpointFactory.create()
    return [RevisionFactory.create(endpoint=endpoint, number=n + 1) for n in range(revisions)]


def baseline(revision: Revision, facts: Facts, at: datetime) -> Baseline:
    """It freezes the bins of a revision's version, as a job would have."""
    return Baseline.objects.create(
        version=revision.version,
        number=1,
        origin="training",
        state="ready",
        rows=truth.REFERENCE_ROWS,
        created_at=at,
        frozen_at=at,
        **facts.fields(),
    )


def drawn(
    rng: np.random.Generator,
    start: datetime,
    seconds: int,
    spans: int,
    a_span: int,
    facts: Facts | None = None,
) -> Spans:
    """It draws spans with about so many requests each, in which nothing drifts."""
    requests = rng.poisson(a_span, spans)
    counts = np.zeros((spans, facts.layout.size if facts else 0), dtype=np.int64)
    if facts is not None:
        for first, last in facts.layout.slices.values():
            end = last + len(COUNTERS) - 2  # below and above count what is in a bin too
            whole = facts.counts[first:end]
            counts[:, first:end] = rng.multinomial(requests, whole / whole.sum())
    return Spans(start, seconds, requests, latencies(rng, requests), counts)


def latencies(rng: np.random.Generator, requests: Counts) -> Counts:
    """It draws the latencies of spans, in the bins of the product."""
    many = histogram.from_us(1000 * MEDIAN_MS * rng.lognormal(0, SPREAD, 200_000))
    drawn: Counts = rng.multinomial(requests, many / many.sum())
    return drawn


def write_tallies(revision: Revision, baseline: Baseline, spans: Spans, *, now: datetime) -> int:
    """It writes all widths that are still kept, and gives the number of rows."""
    written = 0
    for width, kept in windows.TALLIES.items():
        rows = (
            Tally(
                revision=revision, baseline=baseline, at=at, width_seconds=width,
                rows=requests, requests=requests,
                latency_bins=histogram.pack(latency), counts=packing.pack(counts),
            )
            for at, requests, latency, counts in _summed(spans, width, now - kept)
        )  # fmt: skip
        written += _insert(Tally, rows)
    return written


def write_rollups(revision: Revision, spans: Spans, *, now: datetime) -> int:
    """It writes what callers got, in all widths that are still kept and not finer than the spans.

    It gives the number of rows.
    """
    log_ms, written = float(np.log(MEDIAN_MS)), 0
    for width, kept in windows.ROLLUPS.items():
        if width < spans.seconds:
            continue
        rows = (
            Rollup(
                revision=revision, origin=Rollup.From.GATEWAY, at=at, width_seconds=width,
                requests=requests, latency_count=requests,
                log_latency_sum=requests * log_ms,
                log_latency_square_sum=requests * (log_ms**2 + SPREAD**2),
                latency_bins=histogram.pack(latency),
            )
            for at, requests, latency, _ in _summed(spans, width, now - kept)
        )  # fmt: skip
        written += _insert(Rollup, rows)
    return written


def _summed(
    spans: Spans, width: int, since: datetime
) -> Iterator[tuple[datetime, int, Counts, Counts]]:
    """It adds spans up to wider ones, and leaves out those that begin before `since`."""
    first = int(spans.start.timestamp())
    wide = (first + spans.seconds * np.arange(len(spans.requests))) // width
    starts, places = np.unique(wide, return_index=True)
    requests, latencies, counts = (
        np.add.reduceat(part, places, axis=0)
        for part in (spans.requests, spans.latencies, spans.counts)
    )
    for place, start in enumerate(starts.tolist()):
        at = datetime.fromtimestamp(start * width, UTC)
        if at >= since:
            yield at, int(requests[place]), latencies[place], counts[place]


def _insert(model: type[Tally] | type[Rollup], rows: Iterator[Any]) -> int:
    written = 0
    while some := list(islice(rows, AT_ONCE)):
        model._default_manager.bulk_create(some)
        written += len(some)
    return written
