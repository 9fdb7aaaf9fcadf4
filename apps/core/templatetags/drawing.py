"""Geometry of the small pictures that the server draws as SVG, without any style attribute.

The strict Content-Security-Policy refuses inline styles, so widths and heights are SVG attributes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SPARK_WIDTH = 120
SPARK_HEIGHT = 28
SPLIT_WIDTH = 1000


@dataclass(frozen=True)
class Slice:
    """It is one part of a split bar, in the SVG's own units."""

    label: str
    share: float  # 0 to 1
    index: int
    x: float
    width: float


@dataclass(frozen=True)
class Interval:
    """It is a difference with its interval and its tolerance, as shares of the drawing's width."""

    low_x: float
    width: float
    value_x: float
    zero_x: float
    tolerance_x: float | None


def spark_lines(values: Sequence[float | None]) -> list[str]:
    """It gives the points of one polyline for each unbroken stretch of values.

    A missing value is a gap: a line drawn across it would show traffic that nobody saw.
    """
    seen = [v for v in values if v is not None and math.isfinite(v)]
    if not seen:
        return []
    low, high = min(seen), max(seen)
    span = high - low
    pad = 3
    step = SPARK_WIDTH / max(1, len(values) - 1)
    lines: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None or not math.isfinite(value):
            lines.append([])
            continue
        share = (value - low) / span if span else 0.5
        y = pad + (1 - share) * (SPARK_HEIGHT - 2 * pad)
        lines[-1].append(f"{place * step:.1f},{y:.1f}")
    # A single point has no length and would not be drawn at all.
    return [" ".join(p if len(p) > 1 else [p[0], p[0]]) for p in lines if p]


def slices(parts: Sequence[Mapping[str, object]]) -> list[Slice]:
    """It lays the parts side by side over the whole bar, in the order given.

    Each part has `label`, `weight` (any scale, also thousandths) and `index` (the revision's
    colour, 0-7).
    """
    weights = [max(0.0, float(str(part["weight"]))) for part in parts]
    total = sum(weights)
    laid: list[Slice] = []
    x = 0.0
    for part, weight in zip(parts, weights, strict=True):
        share = weight / total if total else 0.0
        width = SPLIT_WIDTH * share
        index = int(str(part.get("index", 0))) % 8
        label = str(part["label"])
        laid.append(Slice(label, share, index, round(x, 2), round(width, 2)))
        x += width
    return laid


def interval(
    low: float, high: float, value: float, tolerance: float | None, width: float = 200.0
) -> Interval:
    """It places zero, the interval and the tolerance on one axis that shows all of them."""
    points = [0.0, low, high, value, *([] if tolerance is None else [tolerance])]
    least, most = min(points), max(points)
    margin = (most - least) * 0.08 or 1.0
    least, most = least - margin, most + margin

    def place(number: float) -> float:
        return round((number - least) / (most - least) * width, 1)

    return Interval(
        low_x=place(low),
        width=round(place(high) - place(low), 1),
        value_x=place(value),
        zero_x=place(0.0),
        tolerance_x=None if tolerance is None else place(tolerance),
    )
