"""What a revision did in a span of time, as sums that merge exactly. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from apps.monitoring import histogram

WIDTH_SECONDS = 10  # of the spans that are counted as they happen
WIDTH_US = WIDTH_SECONDS * 1_000_000
Ints = npt.NDArray[np.int64]


@dataclass
class Sums:
    """Latencies are of requests answered 2xx only: what an error took says nothing of speed."""

    requests: int = 0
    client_errors: int = 0  # 4xx
    server_errors: int = 0  # 5xx and no answer
    latency_count: int = 0
    log_latency_sum: float = 0.0  # natural logarithm of milliseconds
    log_latency_square_sum: float = 0.0
    bins: npt.NDArray[np.int64] = field(default_factory=histogram.empty)

    def add(self, other: "Sums") -> None:
        self.requests += other.requests
        self.client_errors += other.client_errors
        self.server_errors += other.server_errors
        self.latency_count += other.latency_count
        self.log_latency_sum += other.log_latency_sum
        self.log_latency_square_sum += other.log_latency_square_sum
        self.bins += other.bins

    @property
    def error_rate(self) -> float | None:
        """The share of requests that we failed; None without requests."""
        return self.server_errors / self.requests if self.requests else None

    @property
    def p50_ms(self) -> float | None:
        return histogram.quantile(self.bins, 0.50)

    @property
    def p90_ms(self) -> float | None:
        return histogram.quantile(self.bins, 0.90)

    @property
    def p95_ms(self) -> float | None:
        return histogram.quantile(self.bins, 0.95)

    @property
    def p99_ms(self) -> float | None:
        return histogram.quantile(self.bins, 0.99)

    @property
    def p999_ms(self) -> float | None:
        return histogram.quantile(self.bins, 0.999)


@dataclass(frozen=True)
class Answers:
    """Requests of one revision, one place each in every array. Status 0: there was no answer."""

    at_us: Ints  # epoch microseconds
    status: Ints
    latency_us: Ints
    shadow: npt.NDArray[np.bool_]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Answers":
        return Answers(
            self.at_us[chosen], self.status[chosen], self.latency_us[chosen], self.shadow[chosen]
        )


def by_span(answers: Answers) -> Iterator[tuple[int, Sums]]:
    """It gives the sums of each span that has requests, with the span's start in epoch seconds.

    In the order of their time.
    """
    if not answers.at_us.size:
        return
    # Sorted once: to look through all of them for each span would take the square of their number.
    order = np.argsort(answers.at_us, kind="stable")
    spans, first = np.unique(answers.at_us[order] // WIDTH_US, return_index=True)
    ends = [*first[1:], order.size]
    for span, start, end in zip(spans, first, ends, strict=True):
        here = order[start:end]
        yield (
            int(span) * WIDTH_SECONDS,
            _sums(answers.status[here], answers.latency_us[here]),
        )


def _sums(status: Ints, latency_us: Ints) -> Sums:
    # No answer takes at least a microsecond; zero is a clock's resolution and has no logarithm.
    answered = np.maximum(latency_us[(status >= 200) & (status < 300)], 1)
    logarithms = np.log(answered / 1000.0)
    return Sums(
        requests=int(status.size),
        client_errors=int(((status >= 400) & (status < 500)).sum()),
        server_errors=int(((status >= 500) | (status < 100)).sum()),
        latency_count=int(answered.size),
        log_latency_sum=float(logarithms.sum()),
        log_latency_square_sum=float((logarithms**2).sum()),
        bins=histogram.from_us(answered),
    )
