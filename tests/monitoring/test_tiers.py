"""Sums stand in every tier: the coarse is the sum of the fine, and charts read the coarsest."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from apps.monitoring import histogram, windows
from apps.monitoring.models import Rollup
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.services import leftovers, rollups
from apps.monitoring.sums import Sums
from apps.serving.models import Endpoint

AT = datetime(2030, 1, 1, tzinfo=UTC)
START = int(AT.timestamp())
DAY = timedelta(days=1)
pytestmark = pytest.mark.django_db


def sums(requests: int, us: int = 2000) -> Sums:
    return Sums(
        requests=requests,
        server_errors=1,
        latency_count=requests - 1,
        log_latency_sum=1.0,
        bins=histogram.from_us(np.full(requests - 1, us)),
    )


def test_coarse_is_the_sum_of_fine(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.get(number=1).pk
    starts = [0, 10, 50, 60, 290, 300, 3_590, 3_600, 86_390, 86_400]
    for at in (starts, starts[::-1], starts[:1]):
        spans = {(pk, START + start): sums(2 + start % 7) for start in at}
        rollups.add(spans, Rollup.From.SERVER)
    for width in windows.ROLLUPS:
        expected: dict[int, Sums] = {}
        for fine in Rollup.objects.filter(width_seconds=10):
            key = int(fine.at.timestamp()) // width * width
            part = expected.setdefault(key, Sums())
            part.add(Sums(fine.requests, fine.client_errors, fine.server_errors))
            part.bins += histogram.unpack(fine.latency_bins)
        rows = Rollup.objects.filter(width_seconds=width)
        assert {int(row.at.timestamp()) for row in rows} == set(expected)
        for row in rows:
            part = expected[int(row.at.timestamp())]
            assert (row.requests, row.server_errors) == (part.requests, part.server_errors)
            assert histogram.unpack(row.latency_bins).tolist() == part.bins.tolist()
    assert Rollup.objects.filter(width_seconds=86_400).count() == 2


def test_each_tier_goes_in_its_time(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.get(number=1).pk
    rollups.add({(pk, START): sums(5)}, Rollup.From.GATEWAY)

    def left() -> list[int]:
        return list(
            Rollup.objects.order_by("width_seconds").values_list("width_seconds", flat=True)
        )

    for days, widths in (
        (2, [10, 60, 300, 3_600, 86_400]),
        (14, [60, 300, 3_600, 86_400]),
        (31, [300, 3_600, 86_400]),
        (400, [3_600, 86_400]),
        (4_000, [86_400]),
    ):
        leftovers.sweep(now=AT + days * DAY)
        assert left() == widths


def test_old_totals_come_from_what_is_left(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.get(number=1).pk
    rollups.add({(pk, START + n * 10): sums(3) for n in range(720)}, Rollup.From.GATEWAY)
    window = (endpoint, AT + timedelta(seconds=3_610), AT + timedelta(seconds=7_000))
    assert selectors.totals(*window, now=AT)[pk].requests == 339 * 3
    later = AT + 40 * DAY
    leftovers.sweep(now=later)
    assert selectors.totals(*window, now=later)[pk].requests == 360 * 3  # the whole hour


def test_a_year_is_drawn_by_days(endpoint: Endpoint) -> None:
    one, two = endpoint.revisions.order_by("number")
    spans = {(one.pk, START + day * 86_400 + 40): sums(1 + day, us=5000) for day in range(1, 365)}
    rollups.add(spans | {(two.pk, START): sums(9, us=1000)}, Rollup.From.GATEWAY)
    later = AT + 365 * DAY
    leftovers.sweep(now=later)
    first, second = selectors.series(endpoint, AT, later, 86_400, now=later)
    assert first.at == [AT + n * DAY for n in range(365)]
    assert first.rate == [0.0, *((1 + day) / 86_400 for day in range(1, 365))]
    assert first.errors == [0.0, *[1 / 86_400] * 364]
    quantiles = (first.p50_ms, first.p90_ms, first.p95_ms, first.p99_ms, first.p999_ms)
    expected = histogram.quantile(histogram.from_us([5000]), 0.5)
    assert all(values == [None, *[expected] * 364] for values in quantiles)
    assert (second.revision, second.rate[0]) == (two, 9 / 86_400)


def test_a_step_that_is_gone_gives_way_to_the_next(endpoint: Endpoint) -> None:
    pk = endpoint.revisions.get(number=1).pk
    rollups.add({(pk, START + n * 10): sums(3) for n in range(120)}, Rollup.From.GATEWAY)
    later = AT + 20 * DAY
    until = AT + timedelta(minutes=20)
    leftovers.sweep(now=later)
    (one,) = selectors.series(endpoint, AT, until, 10, now=later)
    assert one.at == [AT + n * timedelta(minutes=5) for n in range(4)]
    assert one.rate == [0.3] * 4


def test_quantiles_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    matrix = np.array([histogram.from_us(rng.lognormal(9, 1, n)) for n in (0, 1, 2, 99, 1000)])
    shares = [0.5, 0.9, 0.95, 0.99, 0.999, 0.07]
    found = histogram.quantiles(matrix, shares).tolist()
    expected = [[histogram.quantile(row, share) for share in shares] for row in matrix]
    assert all(value != value for value in found[0])
    assert found[1:] == expected[1:]
