"""Turns many measurements into the few numbers that are shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """It gives the smallest value that at least `percent` of all values do not exceed.

    Nearest rank, so that every figure shown was really measured. Raises: ValueError when empty.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


@dataclass(frozen=True)
class Shot:
    """One run of the load generator against one server. Latencies in ms."""

    system: str
    model: str
    concurrency: int
    seconds: float
    requests: int  # whole answers with status 200 and the right prediction
    failed: int
    p50: float
    p90: float
    p99: float
    most: float
    server_cpu_seconds: float
    failures: tuple[str, ...] = ()  # the first few, in words
    protocol: str = ""
    generator_cpu_seconds: float = 0.0
    worker_cpu_seconds: tuple[float, ...] = ()  # of each of the server's processes

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def cpu_ms(self) -> float:
        """The servers' processor time for one request."""
        return 1000 * self.server_cpu_seconds / self.requests if self.requests else math.inf


def middle(shots: Sequence[Shot]) -> Shot:
    """It gives the round whose rate is the median; of an even number the lower of the two."""
    return sorted(shots, key=lambda shot: shot.rate)[(len(shots) - 1) // 2]


def median(values: Sequence[float]) -> float:
    """It gives the value in the middle, or the mean of the two. Raises: ValueError when empty."""
    if not values:
        raise ValueError("no values")
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
