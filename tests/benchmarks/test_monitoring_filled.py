"""The benchmark's tables are as a collector leaves them: coarse spans are sums of fine ones."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.db.models import Sum

from apps.baselines import packing
from apps.monitoring import histogram, windows
from apps.monitoring.models import Rollup, Tally
from benchmarks.monitoring import filled, ours
from benchmarks.monitoring.filled import Spans

START = datetime(2030, 1, 7, 10, 37, tzinfo=UTC)
MINUTES = 150


@pytest.fixture
def spans() -> Spans:
    return filled.drawn(np.random.default_rng(1), START, 60, MINUTES, 20)


def test_requests_have_as_many_latencies(spans: Spans) -> None:
    assert spans.latencies.shape == (MINUTES, histogram.BINS)
    assert (spans.latencies.sum(axis=1) == spans.requests).all()


@pytest.mark.django_db
def test_rollups_of_all_widths_hold_the_same_requests(spans: Spans) -> None:
    [revision] = filled.deployed(1)
    now = START + timedelta(minutes=MINUTES)
    written = filled.write_rollups(revision, spans, now=now)
    assert written == Rollup.objects.count() == MINUTES + 31 + 4 + 1
    for width in (60, 300, 3_600, 86_400):
        rows = Rollup.objects.filter(width_seconds=width)
        assert rows.aggregate(n=Sum("requests"))["n"] == spans.requests.sum()
        bins = sum(histogram.unpack(row.latency_bins) for row in rows)
        assert (bins == spans.latencies.sum(axis=0)).all()


@pytest.mark.django_db
def test_tallies_hold_the_shares_of_the_reference_while_they_are_kept() -> None:
    judge = ours.of_truth()
    [revision] = filled.deployed(1)
    baseline = filled.baseline(revision, judge.facts, START)
    spans = filled.drawn(np.random.default_rng(1), START, 60, MINUTES, 2_000, judge.facts)
    # The first hour's minutes are older than minutes are kept.
    now = START + timedelta(minutes=60) + windows.TALLIES[60]
    filled.write_tallies(revision, baseline, spans, now=now)
    rows = Tally.objects.filter(revision=revision)
    assert rows.filter(width_seconds=60).count() == MINUTES - 60
    whole = spans.counts.sum(axis=0)
    for width in (300, 3_600, 86_400):
        found = sum(packing.unpack(row.counts) for row in rows.filter(width_seconds=width))
        assert (found == whole).all()
    assert [one.name for one in judge.judged(whole) if one.is_loud] == []
