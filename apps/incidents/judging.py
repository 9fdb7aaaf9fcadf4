"""Holds what was measured against a rule: sums in, a reading out. Pure.

A limit counts as passed only when the interval of what was measured lies beyond it: 3 errors of 40
requests are no proof of more than 1 %.
"""

from datetime import datetime
from functools import cache
from math import sqrt
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from django.template.defaultfilters import pluralize

from apps.core.templatetags.formats import (
    format_duration,
    format_ms,
    format_num,
    format_percent,
    format_rate,
)
from apps.incidents.lifecycle import Reading, Severity, Verdict
from apps.monitoring import histogram
from apps.registry.monitors_policy import FRESHNESS_SECONDS, Rule

Z = 2.576  # two-sided 99 %
QUANTILES = {"latency_p50": 0.50, "latency_p95": 0.95, "latency_p99": 0.99}
SILENCE_TIMES_LONGEST = 2  # of the longest silence of the last days
SILENCE_TIMES_GAP = 20  # of the usual distance of two requests
NOUNS = {"errors": "errors", "rejected": "rejected requests"}
LOWER_IS_BETTER = ("log_loss", "brier", "mae", "rmse", "ece")
Counts = npt.NDArray[np.int64]


class Figure(Protocol):
    """A metric with its interval, as quality tells it."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def wilson(count: int, total: int) -> tuple[float, float]:
    """It gives the Wilson score interval of a share; (0, 1) where there is nothing."""
    if not total:
        return 0.0, 1.0
    share, z2 = count / total, Z * Z
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z / (1 + z2 / total) * sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    # Of nothing the lower end is zero, and not what rounding leaves of it.
    return max(0.0, middle - half) if count else 0.0, min(1.0, middle + half)


def smallest_share(total: int, limit: float) -> float:
    """It gives the smallest share that so many could have proved to be above the limit."""
    low, high = 0, total
    while low < high:
        middle = (low + high) // 2
        if wilson(middle, total)[0] > limit:
            high = middle
        else:
            low = middle + 1
    return low / total if total else 1.0


def too_few(
    rule: Rule, count: int, what: str, until: datetime, *, needs: int | None = None
) -> Reading:
    noun = what.removesuffix("s") if count == 1 else what
    return Reading(
        until,
        Verdict.UNKNOWN,
        f"Not enough data: {count:,} {noun} in {format_duration(rule.window)}, "
        f"it needs {needs or rule.enough:,}",
    )


def unknown(why: str, until: datetime) -> Reading:
    return Reading(until, Verdict.UNKNOWN, why)


def share(rule: Rule, count: int, total: int, until: datetime) -> Reading:
    """Errors or rejected requests."""
    if total < rule.enough:
        return too_few(rule, total, "requests", until)
    limit = rule.at_least or 0.0
    value, low = count / total, wilson(count, total)[0]
    noun, smallest = NOUNS[rule.metric], smallest_share(total, limit)
    return Reading(
        until,
        Verdict.WRONG if low > limit else Verdict.RIGHT,
        f"{noun.capitalize()}: {format_percent(value)} of {total:,} request{pluralize(total)} in "
        f"{format_duration(rule.window)}, limit {format_percent(limit)}",
        Severity(rule.severity),
        value,
        smallest,
        f"{format_percent(smallest)} {noun}",
        f"{noun.capitalize()} {format_percent(value)}",
        {"count": count, "requests": total, "limit": limit, "low": low},
    )


def latency(rule: Rule, bins: Counts, previous: Counts | None, until: datetime) -> Reading:
    """A percentile against a limit in ms, or against the same hours of the previous day."""
    quantile, name = QUANTILES[rule.metric], rule.metric.removeprefix("latency_")
    total = int(bins.sum())
    if total < rule.enough:
        return too_few(rule, total, "answers", until)
    limit, before = rule.at_least, None
    if rule.times_previous is not None:
        known = 0 if previous is None else int(previous.sum())
        before = None if previous is None else histogram.quantile(previous, quantile)
        if before is None or known < rule.enough:
            return unknown(
                f"Nothing to compare with: {known:,} answer{pluralize(known)} in the same hours of"
                f" the previous day, it needs {rule.enough:,}",
                until,
            )
        limit = max(before * rule.times_previous, before + rule.plus_ms)
    assert limit is not None  # the policy asks for one
    value = histogram.quantile(bins, quantile)
    slower = int(bins[_values() > limit].sum())
    is_wrong = wilson(slower, total)[0] > 1 - quantile
    against = f", {format_ms(before)} a day before" if before is not None else ""
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{name} {format_ms(value)} of {total:,} answer{pluralize(total)} in "
        f"{format_duration(rule.window)}{against}, limit {format_ms(limit)}",
        Severity(rule.severity),
        value,
        limit,
        f"a {name} of {format_ms(limit)}",
        f"{name} {format_ms(value)}" + (f" against {format_ms(before)}" if before else ""),
        {"requests": total, "limit": limit, "previous": before},
    )


@cache
def _values() -> npt.NDArray[np.float64]:
    return np.array([histogram.value_of(place) for place in range(histogram.BINS)])


def silence(
    rule: Rule,
    last_at: datetime,
    longest_seconds: float,
    gap_seconds: float,
    now: datetime,
    until: datetime,
) -> Reading:
    """The time since the last request against what is usual here."""
    seconds = max(0.0, (now - last_at).total_seconds())
    limit = rule.at_least or max(
        FRESHNESS_SECONDS,
        SILENCE_TIMES_LONGEST * longest_seconds,
        SILENCE_TIMES_GAP * gap_seconds,
    )
    return Reading(
        until,
        Verdict.WRONG if seconds >= limit else Verdict.RIGHT,
        f"The last request is {format_duration(round(seconds))} old, usual gap "
        f"{format_duration(gap_seconds)}, limit {format_duration(round(limit))}",
        Severity(rule.severity),
        seconds,
        limit,
        f"{format_duration(round(limit))} without a request",
        f"No request for {format_duration(round(seconds))}",
        {"last_at": last_at.isoformat(), "gap_seconds": gap_seconds, "limit": limit,
         "longest_seconds": longest_seconds},
    )  # fmt: skip


def plain(
    rule: Rule, value: float, words: str, headline: str, until: datetime, unit: str = ""
) -> Reading:
    """A figure against the rule's own limit."""
    is_high = rule.at_least is not None
    limit = rule.at_least if rule.at_least is not None else rule.at_most
    assert limit is not None
    is_wrong = value >= limit if is_high else value <= limit
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{words}, limit {'from' if is_high else 'up to'} {format_num(limit)}{unit}",
        Severity(rule.severity),
        value,
        limit,
        f"{format_num(limit)}{unit}",
        headline,
        {"limit": limit},
    )


def rate(rule: Rule, requests: int, until: datetime) -> Reading:
    value = requests / rule.window
    words = f"{format_rate(value)} in {format_duration(rule.window)}"
    return plain(rule, value, words, f"Traffic {format_rate(value)}", until, "/s")


def dropped(rule: Rule, count: int, until: datetime) -> Reading:
    records = f"{count:,} record{pluralize(count)}"
    words = f"{records} {pluralize(count, 'was,were')} not kept in {format_duration(rule.window)}"
    return plain(rule, count, words, f"Telemetry lost {records}", until)


def saturation(rule: Rule, in_flight: int, room: float, until: datetime) -> Reading:
    """Requests in flight for each that the policy plans for."""
    value = in_flight / room
    words = f"{in_flight} request{pluralize(in_flight)} in flight for room of {format_num(room)}"
    return plain(rule, value, words, f"Saturation {format_percent(value)}", until)


def labels(rule: Rule, came: int, predictions: int, until: datetime) -> Reading:
    if predictions < rule.enough:
        return too_few(rule, predictions, "predictions", until)
    value = came / predictions
    words = f"Labels came for {format_percent(value)} of {predictions:,}"
    words += f" prediction{pluralize(predictions)}"
    return plain(rule, value, words, f"Labels for {format_percent(value)}", until)


def quality(
    rule: Rule,
    name: str,
    figure: Figure | None,
    count: int,
    reference: float | None,
    until: datetime,
) -> Reading:
    """A metric against the reference's, or against a limit of its own.

    `count`: labels, or predictions where the metric is an estimate.
    """
    what = "labels" if rule.family == "quality" else "predictions"
    if count < rule.enough:
        return too_few(rule, count, what, until)
    if figure is None or figure.value is None:
        return unknown(f"{name} cannot be told from the {count:,} {what}", until)
    told = f"{name} {figure.value:.3f}"
    if rule.family == "estimated":
        told = f"Estimated {told}"
    if rule.drop is None:
        return plain(rule, figure.value, f"{told} from {count:,} {what}", told, until)
    if reference is None:
        return unknown(f"{told}; the reference has no {name} to compare with", until)
    sign = -1 if name in LOWER_IS_BETTER else 1
    low = figure.low if figure.low is not None else figure.value
    high = figure.high if figure.high is not None else figure.value
    best = high if sign > 0 else low  # the interval's end that is nearest to the reference
    loss = sign * (reference - figure.value)
    is_wrong = loss > rule.drop and sign * (reference - best) > 0
    smallest = max(rule.drop, abs(best - figure.value))
    return Reading(
        until,
        Verdict.WRONG if is_wrong else Verdict.RIGHT,
        f"{told} ({low:.3f} to {high:.3f}) from {count:,} {what}, reference {reference:.3f}, "
        f"tolerance {format_num(rule.drop)}",
        Severity(rule.severity),
        figure.value,
        smallest,
        f"{name} worse by {format_num(smallest)}",
        f"{told} against {reference:.3f}",
        {"count": count, "reference": reference, "low": low, "high": high, "drop": rule.drop},
    )


def facts(reading: Reading) -> dict[str, Any]:
    """A reading as a watch keeps it."""
    return {
        "until": reading.until.isoformat(),
        "verdict": reading.verdict.value,
        "words": reading.words,
        "value": reading.value,
        "smallest_words": reading.smallest_words,
    }
