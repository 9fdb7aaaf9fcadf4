"""What was measured, held against a rule: wrong only where chance cannot explain it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from apps.incidents import judging
from apps.incidents.lifecycle import Severity, Verdict
from apps.monitoring import histogram
from apps.registry.monitors_policy import Rule

UNTIL = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)


def rule(metric: str, **more: Any) -> Rule:
    return Rule.model_validate({"name": "mine", "metric": metric, "window": 300, **more})


def took(ms: float, count: int, *, slow: int = 0, slow_ms: float = 0) -> Any:
    latencies = np.concatenate([np.full(count - slow, ms), np.full(slow, slow_ms)])
    return histogram.from_us(latencies * 1000)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # as scipy's binomtest(k, n).proportion_ci(0.99, "wilson") tells
        (0, 0, 0.0, 1.0),
        (0, 100, 0.0, 0.06222),
        (5, 100, 0.01685, 0.13916),
        (100, 100, 0.93778, 1.0),
    ],
)
def test_the_interval_of_a_share(count: int, total: int, low: float, high: float) -> None:
    assert judging.wilson(count, total) == pytest.approx((low, high), abs=2e-5)


@pytest.mark.parametrize(
    ("count", "total", "verdict"),
    [
        (99, 99, Verdict.UNKNOWN),
        (0, 100, Verdict.RIGHT),
        (3, 100, Verdict.RIGHT),  # 3 %, and no proof of more than 1 %
        (5, 100, Verdict.WRONG),
        (101, 10_000, Verdict.RIGHT),
        (150, 10_000, Verdict.WRONG),
    ],
)
def test_errors_are_wrong_beyond_chance(count: int, total: int, verdict: Verdict) -> None:
    assert judging.share(rule("errors", at_least=0.01), count, total, UNTIL).verdict is verdict


def test_one_request_is_one() -> None:
    reading = judging.share(rule("errors", at_least=0.01), 0, 1, UNTIL)
    assert reading.words == "Not enough data: 1 request in 5 min, it needs 100"


def test_errors_in_words() -> None:
    reading = judging.share(rule("errors", at_least=0.01, severity="critical"), 41, 1000, UNTIL)
    assert reading.words == "Errors: 4.1 % of 1,000 requests in 5 min, limit 1 %"
    assert (reading.headline, reading.severity) == ("Errors 4.1 %", Severity.CRITICAL)
    assert (reading.value, reading.smallest) == (0.041, 0.019)
    assert reading.smallest_words == "1.9 % errors"


@pytest.mark.parametrize(("total", "limit"), [(100, 0.01), (1000, 0.05), (31, 0.25)])
def test_the_smallest_share_is_the_first_that_is_wrong(total: int, limit: float) -> None:
    least = round(judging.smallest_share(total, limit) * total)
    given = rule("errors", at_least=limit, enough=1)
    assert judging.share(given, least, total, UNTIL).verdict is Verdict.WRONG
    assert judging.share(given, least - 1, total, UNTIL).verdict is Verdict.RIGHT


LATENCY = {"times_previous": 2, "plus_ms": 20}


@pytest.mark.parametrize(
    ("bins", "previous", "verdict"),
    [
        (took(40, 99), took(10, 1000), Verdict.UNKNOWN),
        (took(40, 1000), took(10, 99), Verdict.UNKNOWN),
        (took(40, 1000), None, Verdict.UNKNOWN),
        (took(19, 1000), took(10, 1000), Verdict.RIGHT),  # less than twice
        (took(29, 1000), took(10, 1000), Verdict.RIGHT),  # twice, and not 20 ms more
        (took(40, 1000), took(10, 1000), Verdict.WRONG),
        (took(150, 1000), took(100, 1000), Verdict.RIGHT),  # 20 ms more, and not twice
        (took(210, 1000), took(100, 1000), Verdict.WRONG),
        (took(10, 1000, slow=60, slow_ms=90), took(10, 1000), Verdict.RIGHT),  # may be chance
        (took(10, 1000, slow=80, slow_ms=90), took(10, 1000), Verdict.WRONG),
    ],
)
def test_latency_against_the_day_before(bins: Any, previous: Any, verdict: Verdict) -> None:
    reading = judging.latency(rule("latency_p95", **LATENCY), bins, previous, UNTIL)
    assert reading.verdict is verdict


def test_latency_in_words() -> None:
    against = judging.latency(rule("latency_p95", **LATENCY), took(100, 500), took(10, 900), UNTIL)
    assert against.words == ("p95 100 ms of 500 answers in 5 min, 10 ms a day before, limit 30 ms")
    assert against.headline == "p95 100 ms against 10 ms"
    absolute = judging.latency(rule("latency_p99", at_least=50), took(100, 500), None, UNTIL)
    assert (absolute.verdict, absolute.headline) == (Verdict.WRONG, "p99 100 ms")
    assert absolute.smallest_words == "a p99 of 50 ms"


@pytest.mark.parametrize(
    ("minutes", "longest", "gap", "at_least", "verdict"),
    [
        (14, 0, 2, None, Verdict.RIGHT),
        (15, 0, 2, None, Verdict.WRONG),
        (119, 3600, 2, None, Verdict.RIGHT),  # nobody asks for an hour each night
        (120, 3600, 2, None, Verdict.WRONG),
        (199, 0, 600, None, Verdict.RIGHT),
        (200, 0, 600, None, Verdict.WRONG),
        (5, 3600, 600, 300, Verdict.WRONG),  # its own limit
        (-5, 0, 2, None, Verdict.RIGHT),  # a clock that runs backwards
    ],
)
def test_silence(
    minutes: int, longest: float, gap: float, at_least: float | None, verdict: Verdict
) -> None:
    given = rule("freshness", at_least=at_least)
    last = UNTIL - timedelta(minutes=minutes)
    assert judging.silence(given, last, longest, gap, UNTIL, UNTIL).verdict is verdict


def test_silence_in_words() -> None:
    reading = judging.silence(rule("freshness"), UNTIL - timedelta(hours=3), 0.0, 2.0, UNTIL, UNTIL)
    assert reading.words == "The last request is 3 h old, usual gap 2 s, limit 15 min"
    assert reading.headline == "No request for 3 h"


@pytest.mark.parametrize(
    ("limit", "requests", "verdict"),
    [
        ({"at_most": 1}, 300, Verdict.WRONG),
        ({"at_most": 1}, 301, Verdict.RIGHT),
        ({"at_least": 1}, 300, Verdict.WRONG),
        ({"at_least": 1}, 299, Verdict.RIGHT),
        ({"at_most": 0}, 0, Verdict.WRONG),
    ],
)
def test_traffic(limit: dict[str, float], requests: int, verdict: Verdict) -> None:
    assert judging.rate(rule("traffic", **limit), requests, UNTIL).verdict is verdict


@dataclass(frozen=True)
class Figure:
    value: float | None
    low: float | None
    high: float | None


@pytest.mark.parametrize(
    ("name", "figure", "labels", "reference", "verdict"),
    [
        ("roc_auc", Figure(0.70, 0.66, 0.74), 199, 0.80, Verdict.UNKNOWN),
        ("roc_auc", None, 200, 0.80, Verdict.UNKNOWN),
        ("roc_auc", Figure(None, None, None), 200, 0.80, Verdict.UNKNOWN),
        ("roc_auc", Figure(0.70, 0.66, 0.74), 200, None, Verdict.UNKNOWN),
        ("roc_auc", Figure(0.70, 0.66, 0.74), 200, 0.80, Verdict.WRONG),
        ("roc_auc", Figure(0.70, 0.58, 0.82), 200, 0.80, Verdict.RIGHT),  # may be chance
        ("roc_auc", Figure(0.76, 0.75, 0.77), 200, 0.80, Verdict.RIGHT),  # within the tolerance
        ("roc_auc", Figure(0.90, 0.85, 0.95), 200, 0.80, Verdict.RIGHT),
        ("mae", Figure(0.90, 0.85, 0.95), 200, 0.80, Verdict.WRONG),  # lower is better
        ("mae", Figure(0.70, 0.66, 0.74), 200, 0.80, Verdict.RIGHT),
    ],
)
def test_quality(
    name: str, figure: Figure | None, labels: int, reference: float | None, verdict: Verdict
) -> None:
    given = rule(f"quality:{name}", drop=0.05, enough=200)
    assert judging.quality(given, name, figure, labels, reference, UNTIL).verdict is verdict
