"""How long questions to the panel's tables take, and what they need of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apps.baselines.freezing import Facts
from apps.monitoring.models import Rollup, Tally
from apps.monitoring.selectors import charts, drift
from apps.serving.models import Revision
from benchmarks.monitoring import filled, ours, truth
from benchmarks.monitoring.aims import OURS, WEEK, YEAR, Drift, Timed
from benchmarks.monitoring.ours import Judge
from benchmarks.monitoring.peers import ROOT

TIMES = 50
HOUR_MINUTES = 60
A_MINUTE = 16_667  # a million predictions in an hour
LONG_MINUTES = 16_667  # of 6,000 predictions each: a hundred million in 11.6 days
LONG_A_MINUTE = 6_000
WEEK_REVISIONS = 5
A_SECOND = 100


@dataclass(frozen=True)
class Window:
    """A window of one revision that drift is asked of."""

    revision: Revision
    since: datetime
    until: datetime


def moment() -> datetime:
    """It gives the end of all windows: as most moments, no whole hour or five minutes.

    A window that begins and ends with a day would be read from one row.
    """
    now = datetime.now(UTC)
    return now.replace(minute=0, second=0, microsecond=0) - timedelta(minutes=23)


def million(judge: Judge, until: datetime, folder: Path) -> Window:
    """It counts a million drawn predictions into tallies, and leaves the rows as Parquet too."""
    since = until - timedelta(minutes=HOUR_MINUTES)
    tables = [truth.window(truth.UNCHANGED, A_MINUTE, minute) for minute in range(HOUR_MINUTES)]
    counts = np.stack([judge.count(ours.as_rows(table)) for table in tables])
    rng = np.random.default_rng([truth.SEED, 2])
    requests = np.full(HOUR_MINUTES, A_MINUTE)
    spans = filled.Spans(since, 60, requests, filled.latencies(rng, requests), counts)
    _write(folder / "window.parquet", [ours.as_held(table) for table in tables])
    _write(folder / "reference.parquet", [ours.as_held(truth.reference())])
    return _deployed(judge.facts, spans, until)


def hundred_million(facts: Facts, until: datetime) -> Window:
    """It fills tallies as eleven and a half days would have."""
    since = until - timedelta(minutes=LONG_MINUTES)
    rng = np.random.default_rng([truth.SEED, 3])
    spans = filled.drawn(rng, since, 60, LONG_MINUTES, LONG_A_MINUTE, facts)
    return _deployed(facts, spans, until)


def drift_of(question: str, window: Window, times: int) -> Timed:
    """It asks for the drift of all columns against the baseline."""
    taken = _timed(lambda: drift.of(window.revision, window.since, window.until), times)
    rows = Tally.objects.filter(revision=window.revision).count()
    return Timed(question, taken, rows)


def alone(window: Window, predictions: int, times: int) -> Drift:
    """It asks for the drift in a process of its own, to see its memory. Raises: RuntimeError."""
    line = [sys.executable, "-m", "benchmarks.monitoring.alone", str(window.revision.pk)]
    line += [window.since.isoformat(), window.until.isoformat(), str(times)]
    done = subprocess.run(
        line, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return Drift(OURS, predictions, found["seconds"], 0.0, found["peak_mb"])


def week(until: datetime, times: int) -> list[Timed]:
    """It asks for seven days by hour of an endpoint with five revisions."""
    revisions = filled.deployed(WEEK_REVISIONS)
    since, rows = until - timedelta(days=7), 0
    for revision in revisions:
        rng = np.random.default_rng([truth.SEED, 4, revision.number])
        spans = filled.drawn(rng, since, 60, 7 * 24 * 60, 60 * A_SECOND // WEEK_REVISIONS)
        rows += filled.write_rollups(revision, spans, now=until)
    return [_chart(WEEK, revisions[0], since, until, 3600, times)]


def year(until: datetime, times: int) -> list[Timed]:
    """It asks for a year by day of an endpoint at a hundred requests a second."""
    [revision] = filled.deployed(1)
    since = until - timedelta(days=365)
    rng = np.random.default_rng([truth.SEED, 5])
    spans = filled.drawn(rng, since, 3600, 365 * 24, 3600 * A_SECOND)
    filled.write_rollups(revision, spans, now=until)
    return [_chart(YEAR, revision, since, until, 86_400, times)]


def _chart(
    question: str, revision: Revision, since: datetime, until: datetime, step: int, times: int
) -> Timed:
    """It has the chart of latencies drawn, which reads all that the other charts read."""
    asked = charts.Asked(since, until, step, step)
    taken = _timed(lambda: charts.of(revision.endpoint, "latency", asked), times)
    return Timed(
        question, taken, Rollup.objects.filter(revision__endpoint=revision.endpoint).count()
    )


def _deployed(facts: Facts, spans: filled.Spans, until: datetime) -> Window:
    [revision] = filled.deployed(1)
    baseline = filled.baseline(revision, facts, spans.start)
    filled.write_tallies(revision, baseline, spans, now=until)
    return Window(revision, spans.start, until)


def _timed(question: Callable[[], object], times: int) -> list[float]:
    """It asks once before, as the page was open, and then so many times; in ms."""
    question()
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        question()
        taken.append(1000 * (time.perf_counter() - start))
    return taken


def _write(path: Path, tables: list[pa.Table]) -> None:
    with pq.ParquetWriter(path, tables[0].schema) as file:
        for table in tables:
            file.write_table(table)
