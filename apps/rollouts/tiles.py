"""Turns what the last analysis kept into tiles: figures in words, and one axis each. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.core.templatetags.formats import format_ms, format_percent, format_points

NAMES = {
    "error_rate": "Errors",
    "refused_rate": "Refused or given up",
    "latency_mean": "Latency, mean",
    "latency_p95": "Latency, 95th percentile",
}


@dataclass(frozen=True)
class Shown:
    """One metric: both figures, their difference, and where the policy draws the line."""

    name: str
    verdict: str
    stable: str
    candidate: str
    difference: str
    interval: str  # in words; "" when it is not known
    tolerance: str
    summary: str
    # The same on an axis whose zero is "no difference"; None when there is nothing to draw.
    low: float | None = None
    high: float | None = None
    value: float | None = None
    limit: float | None = None

    @property
    def words(self) -> str:
        inside = f", interval {self.interval}" if self.interval else ""
        return f"{self.name}: {self.difference}{inside}, tolerance {self.tolerance}"


def shown(evidence: Mapping[str, Any]) -> list[Shown]:
    """It gives one tile a metric, in the order in which the analysis kept them."""
    return [_tile(tile) for tile in evidence.get("tiles", ())]


def _tile(tile: Mapping[str, Any]) -> Shown:
    is_ratio = tile.get("unit") == "ms"
    figure = format_ms if is_ratio else format_percent
    shift = 1.0 if is_ratio else 0.0
    difference, interval = tile.get("difference"), tile.get("interval")
    low, high = interval or (None, None)
    return Shown(
        name=NAMES.get(tile["metric"], str(tile["metric"]).replace("_", " ").capitalize()),
        verdict=str(tile.get("verdict", "unclear")),
        stable=figure(tile.get("stable")),
        candidate=figure(tile.get("candidate")),
        difference=_difference(difference, is_ratio=is_ratio),
        interval="" if low is None else f"{_short(low, is_ratio)} to {_short(high, is_ratio)}",
        tolerance=_short(tile.get("tolerance"), is_ratio),
        summary=str(tile.get("summary", "")),
        low=_moved(low, shift),
        high=_moved(high, shift),
        value=_moved(difference, shift),
        limit=_moved(tile.get("tolerance"), shift),
    )


def _moved(value: float | None, shift: float) -> float | None:
    # An interval of latencies may reach e^50 while there are few answers: no axis shows that.
    return None if value is None else min(value - shift, 10.0)


def _difference(value: float | None, *, is_ratio: bool) -> str:
    if value is None:
        return "not known yet"
    if not is_ratio:
        return format_points(value)
    change = value - 1
    if abs(change) < 0.0005:
        return "as quick"
    return f"{format_percent(abs(change))} {'slower' if change > 0 else 'quicker'}"


def _short(value: float | None, is_ratio: bool) -> str:
    if value is None:
        return "\N{EN DASH}"
    if not is_ratio:
        return format_points(value)
    if value > 11:
        return "over 10 times"
    sign = "+" if value >= 1 else "\N{MINUS SIGN}"
    return f"{sign}{format_percent(abs(value - 1))}"
