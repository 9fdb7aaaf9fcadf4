"""Sums as the monitoring gives them, made of simulated requests."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

GAMMA = 1.0202
BINS = 700


@dataclass
class Simulated:
    requests: int = 0
    client_errors: int = 0
    server_errors: int = 0
    latency_count: int = 0
    log_latency_sum: float = 0.0
    log_latency_square_sum: float = 0.0
    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, latencies_ms: npt.NDArray[np.float64], failed: npt.NDArray[np.bool_]) -> None:
        """It counts requests; what an error took says nothing about speed."""
        logs = np.log(latencies_ms[~failed])
        self.requests += len(latencies_ms)
        self.server_errors += int(failed.sum())
        self.latency_count += len(logs)
        self.log_latency_sum += float(logs.sum())
        self.log_latency_square_sum += float((logs**2).sum())
        places = np.clip((logs / np.log(GAMMA)).astype(int) + 100, 0, BINS - 1)
        self.bins += np.bincount(places, minlength=BINS)

    @property
    def p95_ms(self) -> float | None:
        if not self.latency_count:
            return None
        place = int(np.searchsorted(np.cumsum(self.bins), 0.95 * self.latency_count))
        return float(GAMMA ** (place - 99.5))


def simulated(
    requests: int, errors: int = 0, milliseconds: float = 10.0, spread: float = 0.3, seed: int = 1
) -> Simulated:
    """Exactly so many requests and errors, log-normal latencies around a median."""
    chance = np.random.default_rng(seed)
    made = Simulated()
    failed = np.arange(requests) < errors
    made.add(milliseconds * np.exp(chance.normal(0, spread, requests)), failed)
    return made
