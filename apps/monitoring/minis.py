"""Geometry of the small distributions in the list of columns, drawn as SVG by the server. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 160, 32
MOST_BARS = 50


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Mini:
    """The reference's bars behind the window's, on one scale."""

    reference: list[Bar]
    window: list[Bar]
    width: int = WIDTH
    height: int = HEIGHT


def of(reference: Sequence[int], window: Sequence[int]) -> Mini | None:
    """It draws both as shares of their own rows; None when neither has any."""
    before, now = _shares(_fewer(reference)), _shares(_fewer(window))
    most = max([*before, *now], default=0.0)
    if most <= 0:
        return None
    pitch = WIDTH / len(before)
    return Mini(
        [_bar(place, share / most, pitch, 0.9) for place, share in enumerate(before)],
        [_bar(place, share / most, pitch, 0.45) for place, share in enumerate(now) if share],
    )


def _fewer(counts: Sequence[int]) -> list[int]:
    """A score has its bins twice, a class each; the picture shows them added."""
    if len(counts) <= MOST_BARS + 2:
        return list(counts)
    half = len(counts) // 2
    return [a + b for a, b in zip(counts[:half], counts[half:], strict=False)]


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts)
    return [count / whole if whole else 0.0 for count in counts]


def _bar(place: int, share: float, pitch: float, fill: float) -> Bar:
    height = round(share * HEIGHT, 1)
    return Bar(
        x=round(place * pitch + pitch * (1 - fill) / 2, 2),
        y=round(HEIGHT - height, 1),
        width=round(pitch * fill, 2),
        height=height,
    )
