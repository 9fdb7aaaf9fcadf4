"""Counts what callers saw: answers by version and status, latency, and requests that were lost."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

KEPT_SECONDS = 900
KEPT_EXAMPLES = 5
BINS_PER_FACTOR_E = 50  # a bin is 2 % wide, so a quantile is right to about 1 %


def iso(epoch_seconds: float) -> str:
    """It writes a time as people and machines read it."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds")


class Latencies:
    """It holds durations in bins that grow with the duration, so memory does not grow."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """It counts one duration."""
        self._bins[math.floor(math.log(max(seconds, 1e-6)) * BINS_PER_FACTOR_E)] += 1

    def quantiles_ms(self) -> dict[str, float | None]:
        """It returns the median and the tail in milliseconds, None where nothing was seen."""
        shares = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
        return {name: self._quantile_ms(share) for name, share in shares.items()}

    def _quantile_ms(self, share: float) -> float | None:
        wanted, seen = math.ceil(share * self._bins.total()), 0
        for number in sorted(self._bins):
            seen += self._bins[number]
            if seen >= wanted:
                return round(1000 * math.exp((number + 0.5) / BINS_PER_FACTOR_E), 3)
        return None


@dataclass
class Second:
    """It holds what ended within one second of the clock."""

    at: int
    by_version: Counter[str] = field(default_factory=Counter)
    errors: int = 0


class Tally:
    """It counts each request once, when it ends.

    A request is answered when a model answered it, well or badly, which the header
    x-model-version shows; it is lost when no HTTP answer came, or only one of the gateway's own.
    """

    def __init__(self) -> None:
        self.started_at = time.time()
        self.sent = 0
        self.answered = 0
        self.lost = 0
        self.skipped = 0
        self._ended_at: float | None = None
        self._by_status: Counter[str] = Counter()
        self._by_version: dict[str, Counter[str]] = {}
        self._latency = Latencies()
        self._latency_by_version: dict[str, Latencies] = {}
        self._seconds: deque[Second] = deque(maxlen=KEPT_SECONDS)
        self._first_error_at: dict[str, str] = {}
        self._lost_examples: list[dict[str, Any]] = []
        self._error_examples: dict[str, list[dict[str, Any]]] = {}

    def answer(
        self, request_id: str, status: int, version: str | None, seconds: float, body: bytes
    ) -> None:
        """It counts an HTTP answer; one without a version that is no success is a lost request."""
        self._by_status[str(status)] += 1
        good = 200 <= status < 300
        if version is None and not good:
            text = body[:200].decode("utf-8", "replace")
            self._lose(request_id, status, f"answered by the gateway: {text}")
            return
        version = version or "unknown"
        now = time.time()
        self.answered += 1
        self._by_version.setdefault(version, Counter())[str(status)] += 1
        self._latency.add(seconds)
        self._latency_by_version.setdefault(version, Latencies()).add(seconds)
        second = self._second(now)
        second.by_version[version] += 1
        if not good:
            second.errors += 1
            self._first_error_at.setdefault(version, iso(now))
            examples = self._error_examples.setdefault(version, [])
            if len(examples) < KEPT_EXAMPLES:
                text = body[:200].decode("utf-8", "replace")
                examples.append(self._example(request_id, status, text))

    def no_answer(self, request_id: str, reason: str) -> None:
        """It counts a request that got no HTTP answer at all."""
        self._lose(request_id, None, reason)

    def end(self) -> None:
        """It notes that nothing more will be sent."""
        self._ended_at = time.time()

    def report(self) -> dict[str, Any]:
        """It returns everything seen so far as plain values for JSON."""
        return {
            "started_at": iso(self.started_at),
            "ended_at": iso(self._ended_at) if self._ended_at else None,
            "sent": self.sent,
            "answered": self.answered,
            "in_flight": self.sent - self.answered - self.lost,
            "lost": self.lost,
            "skipped": self.skipped,
            "by_status": dict(self._by_status),
            "by_version": {name: dict(seen) for name, seen in self._by_version.items()},
            "latency_ms": self._latency.quantiles_ms(),
            "by_version_latency_ms": {
                name: seen.quantiles_ms() for name, seen in self._latency_by_version.items()
            },
            "first_error_at": self._first_error_at,
            "error_examples": self._error_examples,
            "lost_examples": self._lost_examples,
            "by_second": _rows(self._seconds),
        }

    def _lose(self, request_id: str, status: int | None, reason: str) -> None:
        self.lost += 1
        self._second(time.time()).errors += 1
        if len(self._lost_examples) < KEPT_EXAMPLES:
            self._lost_examples.append(self._example(request_id, status, reason))

    def _second(self, now: float) -> Second:
        if not self._seconds or self._seconds[-1].at < int(now):
            self._seconds.append(Second(int(now)))
        return self._seconds[-1]

    def _example(self, request_id: str, status: int | None, reason: str) -> dict[str, Any]:
        return {
            "at": iso(time.time()),
            "request_id": request_id,
            "status": status,
            "reason": reason,
        }


def _rows(seconds: Iterable[Second]) -> list[list[Any]]:
    return [[second.at, dict(second.by_version), second.errors] for second in seconds]
