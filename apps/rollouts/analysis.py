"""Is the candidate worse than the stable revision? Pure: sums in, a verdict with figures out.

Every test here may be looked at after every request without raising its rate of false alarms
(anytime-valid): the mixture sequential probability ratio test of Johari, Pekelis and Walsh
("Always Valid Inference", arXiv 1512.04922) for latency, a beta-binomial mixture for errors.
A candidate fails only when a test has decided AND the estimate exceeds the tolerance that the
policy sets: a difference that is certain but small harms nobody.

All of this compares what was served at the same time. With all traffic on the candidate there is
only the stable revision's past, and a busy machine slows down whoever serves just then: latencies
of other moments differ by more than chance within a moment tells. There a span of ten seconds is
one observation, not a request (`Spans`).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import exp, inf, lgamma, log, log1p, sqrt
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from apps.rollouts.lifecycle import Verdict

PRIOR_WEIGHT = 100.0  # strength of the beta prior: as many errors as half an opinion is worth
TAU_LOG_LATENCY = 0.1  # the difference of log means that the mixture expects
TAU_SLOW_SHARE = 0.02  # the same for the share of requests slower than the stable's p95
LEAST_TO_FAIL = 30  # below it a variance is not known well enough to take anything back
LEAST_VARIANCE = 1e-9
LEAST_SPANS = 3  # of either revision, before moments can be told from each other
SPANS_ALONE = 30  # of the candidate, where the stable one's past never had so many
MOST_ALIKE = 0.99  # correlation of a moment with the next
LEAST_IN_SPAN = 5  # answers: where fewer come, neighbouring spans are one moment
SLOW = 0.95
LEAST_ALPHA = 1e-300  # a third of less may be zero, which has no logarithm
LEAST_SHARE = 1e-6  # a beta prior around 0 or 1 would have no mass on the other side
GATES = 4  # errors, refusals, mean latency, slow share: they share the allowed false alarms


class Sums(Protocol):
    """What one revision did in a span of time; sums over spans add up exactly."""

    @property
    def requests(self) -> int: ...
    @property
    def client_errors(self) -> int: ...
    @property
    def server_errors(self) -> int: ...
    @property
    def latency_count(self) -> int: ...
    @property
    def log_latency_sum(self) -> float: ...
    @property
    def log_latency_square_sum(self) -> float: ...
    @property
    def bins(self) -> npt.NDArray[Any]: ...
    @property
    def p95_ms(self) -> float | None: ...


@dataclass(frozen=True)
class Tolerances:
    """The policy's part about the analysis: how much worse the candidate may be."""

    min_requests: int
    error_rate_difference: float
    latency_ratio: float

    @property
    def least_to_fail(self) -> int:
        return min(LEAST_TO_FAIL, self.min_requests)


@dataclass(frozen=True)
class Spans:
    """What two revisions that did not serve at the same time did in each short span of it."""

    candidate: Sequence[Sums]
    stable: Sequence[Sums]

    def difference(self, total: Callable[[Sums], float]) -> tuple[float, float]:
        """It gives the difference of two means over moments, and its variance.

        `total` is what a span adds to the numerator of a mean over answers. Each moment counts
        once, however many answers came in it: a burst is one moment of that load. Moments are
        taken as two stationary first-order autoregressions of the same variance and correlation
        r around means of their own, so that a mean over n of them has the variance
        s^2 (n + 2 sum_k (n - k) r^k) / n^2, k = 1 .. n - 1; `inf` where there are too few to tell.
        """
        here, there = (_moments(side, total) for side in (self.candidate, self.stable))
        if not _tell(len(here), len(there)):
            return 0.0, inf
        sides = [here - here.mean(), there - there.mean()]
        free = len(here) + len(there) - 2
        squares = sum(float(side @ side) for side in sides)
        if not squares:
            return float(here.mean() - there.mean()), 0.0
        products = sum(float(side[1:] @ side[:-1]) for side in sides)
        # As many products are missing as there are sides, and negative ones are chance.
        r = min(max(products / squares * (free + 2) / free, 0.0), MOST_ALIKE)
        variance = squares / free * sum(_variance_of_mean(len(side), r) for side in sides)
        return float(here.mean() - there.mean()), variance


@dataclass(frozen=True)
class Tile:
    """One measure of both revisions, with what it led to."""

    metric: str  # "error_rate", "refused_rate", "latency_mean", "latency_p95"
    unit: str  # of the two figures: "fraction" or "ms"
    stable: float | None
    candidate: float | None
    difference: float | None  # rates: candidate - stable; latencies: candidate / stable
    interval: tuple[float, float] | None  # of the difference; None: not known
    tolerance: float  # what the difference may be at most
    verdict: Verdict
    summary: str  # one phrase with the figures


@dataclass(frozen=True)
class Analysis:
    verdict: Verdict
    reason: str
    tiles: tuple[Tile, ...] = ()
    candidate_requests: int = 0
    stable_requests: int | None = None

    def evidence(self) -> dict[str, Any]:
        """The analysis as it is kept in a row."""
        return asdict(self)


def judge(
    candidate: Sums,
    stable: Sums | None,
    tolerances: Tolerances,
    alpha: float,
    spans: Spans | None = None,
) -> Analysis:
    """It compares what callers got from both revisions since a step was reached.

    `spans`: the same sums by spans, where the two did not serve at the same time.

    `alpha` bounds the probability that a candidate which is as good as the stable revision fails,
    however often this is asked. Failing needs few requests, passing needs `min_requests`.
    """
    level = max(alpha / GATES, LEAST_ALPHA)
    if stable is None:
        tiles: tuple[Tile, ...] = (_absolute_errors(candidate, tolerances, level),)
    else:
        tiles = (
            _errors(candidate, stable, tolerances, level),
            _refused(candidate, stable, tolerances, level),
            _mean_latency(candidate, stable, tolerances, level, spans),
            _slow_share(candidate, stable, tolerances, level, spans),
        )
    verdict, reason = _overall(tiles, candidate, stable, tolerances, spans)
    return Analysis(
        verdict, reason, tiles, candidate.requests, None if stable is None else stable.requests
    )


def _overall(
    tiles: tuple[Tile, ...],
    candidate: Sums,
    stable: Sums | None,
    tolerances: Tolerances,
    spans: Spans | None,
) -> tuple[Verdict, str]:
    failed = [tile.summary for tile in tiles if tile.verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, "; ".join(failed)
    if stable is not None:
        for sums, least, who in (
            (candidate, tolerances.min_requests, "candidate"),
            (stable, tolerances.least_to_fail, "stable revision"),
        ):
            if sums.requests < least:
                return Verdict.UNCLEAR, f"{sums.requests} of {least} requests to the {who}"
    unclear = [tile.summary for tile in tiles if tile.verdict is Verdict.UNCLEAR]
    if unclear:
        needed = "requests are" if spans is None else "time is"
        return Verdict.UNCLEAR, f"more {needed} needed to tell: {'; '.join(unclear)}"
    return Verdict.PASS, "; ".join(tile.summary for tile in tiles)


def _errors(candidate: Sums, stable: Sums, tolerances: Tolerances, alpha: float) -> Tile:
    """Of all server errors, how many fell to the candidate, against its share of the requests."""
    mine, theirs = candidate.server_errors, stable.server_errors
    return _failures("error_rate", "errors", mine, theirs, candidate, stable, tolerances, alpha)


def _refused(candidate: Sums, stable: Sums, tolerances: Tolerances, alpha: float) -> Tile:
    """The same for what was refused, or waited for in vain until the caller hung up.

    Both revisions get requests of the same callers, so a difference is the candidate's doing: an
    input that it needs and nobody sends, or answers that come too late for anybody to read.
    """
    mine, theirs = candidate.client_errors, stable.client_errors
    words = "refused or given up"
    return _failures("refused_rate", words, mine, theirs, candidate, stable, tolerances, alpha)


def _failures(
    metric: str,
    named: str,
    mine: int,
    theirs: int,
    candidate: Sums,
    stable: Sums,
    tolerances: Tolerances,
    alpha: float,
) -> Tile:
    here, there = _share(mine, candidate.requests), _share(theirs, stable.requests)
    tolerance = tolerances.error_rate_difference
    words = f"{named} {_percent(here)} against {_percent(there)}"
    if here is None or there is None:
        return Tile(metric, "fraction", there, here, None, None, tolerance, Verdict.UNCLEAR, words)
    share = candidate.requests / (candidate.requests + stable.requests)
    decided = beta_binomial(mine, mine + theirs, share, share) >= -log(alpha)
    verdict = _three_ways(
        exceeds=here - there > tolerance,
        decided=decided and candidate.requests >= tolerances.least_to_fail,
    )
    interval = _interval(mine, theirs, candidate, stable, alpha) if mine + theirs else None
    return Tile(metric, "fraction", there, here, here - there, interval, tolerance, verdict, words)


def _absolute_errors(candidate: Sums, tolerances: Tolerances, alpha: float) -> Tile:
    """Nothing served before: the candidate's errors against the tolerance itself."""
    tolerance = tolerances.error_rate_difference
    here = _share(candidate.server_errors, candidate.requests)
    if here is None:
        words = "no requests yet, and nothing served before to compare with"
        return Tile(
            "error_rate", "fraction", None, None, None, None, tolerance, Verdict.PASS, words
        )
    base = min(max(tolerance, LEAST_SHARE), 1 - LEAST_SHARE)
    decided = beta_binomial(candidate.server_errors, candidate.requests, base, base) >= -log(alpha)
    verdict = _three_ways(
        exceeds=here > tolerance, decided=decided and candidate.requests >= tolerances.least_to_fail
    )
    words = f"errors {_percent(here)}, at most {_percent(tolerance)} allowed"
    return Tile("error_rate", "fraction", None, here, here, None, tolerance, verdict, words)


def _mean_latency(
    candidate: Sums, stable: Sums, tolerances: Tolerances, alpha: float, spans: Spans | None
) -> Tile:
    """Means of the logarithm, so that the difference is a ratio and one slow answer no outlier."""
    here, there = _log_mean(candidate), _log_mean(stable)
    tolerance = tolerances.latency_ratio
    if here is None or there is None:
        return Tile(
            "latency_mean", "ms", _raised(there), _raised(here), None, None, tolerance,
            Verdict.UNCLEAR, "no answers to compare the latency of",
        )  # fmt: skip
    difference = here - there
    variance = max(
        _log_variance(candidate) / candidate.latency_count
        + _log_variance(stable) / stable.latency_count,
        LEAST_VARIANCE,
    )
    tested = difference
    if spans:
        tested, between = spans.difference(lambda one: one.log_latency_sum)
        variance = max(variance, between)
    decided = tested > 0 and mixture(tested, variance, TAU_LOG_LATENCY) >= -log(alpha)
    verdict = _three_ways(
        exceeds=difference > log(tolerance),
        decided=decided and _enough_answers(candidate, stable, tolerances),
    )
    interval = None
    if variance < inf:
        half = mixture_half_width(variance, TAU_LOG_LATENCY, alpha)
        interval = (exp(max(tested - half, -50.0)), exp(min(tested + half, 50.0)))
    words = f"latency {exp(here):.3g} ms against {exp(there):.3g} ms{_when(spans)}"
    return Tile(
        "latency_mean", "ms", exp(there), exp(here), exp(difference), interval, tolerance,
        verdict, words,
    )  # fmt: skip


def _slow_share(
    candidate: Sums, stable: Sums, tolerances: Tolerances, alpha: float, spans: Spans | None
) -> Tile:
    """A slice of slow rows hides in a mean: the share slower than the stable revision's p95."""
    here, there = candidate.p95_ms, stable.p95_ms
    tolerance = tolerances.latency_ratio
    if not candidate.latency_count or not stable.latency_count or not here or not there:
        return Tile(
            "latency_p95", "ms", there, here, None, None, tolerance, Verdict.UNCLEAR,
            "no answers to compare the slowest of",
        )  # fmt: skip
    cumulated = np.cumsum(stable.bins, dtype=np.float64)
    edge = int(np.searchsorted(cumulated, SLOW * cumulated[-1]))
    slow_here = float(candidate.bins[edge + 1 :].sum())
    slow_there = float(stable.bins[edge + 1 :].sum())
    difference = slow_here / candidate.latency_count - slow_there / stable.latency_count
    pooled = (slow_here + slow_there) / (candidate.latency_count + stable.latency_count)
    variance = max(
        pooled * (1 - pooled) * (1 / candidate.latency_count + 1 / stable.latency_count),
        LEAST_VARIANCE,
    )
    tested = difference
    if spans:
        tested, between = spans.difference(lambda one: float(one.bins[edge + 1 :].sum()))
        variance = max(variance, between)
    decided = tested > 0 and mixture(tested, variance, TAU_SLOW_SHARE) >= -log(alpha)
    verdict = _three_ways(
        exceeds=here / there > tolerance,
        decided=decided and _enough_answers(candidate, stable, tolerances),
    )
    words = f"95th percentile {here:.3g} ms against {there:.3g} ms{_when(spans)}"
    return Tile("latency_p95", "ms", there, here, here / there, None, tolerance, verdict, words)


def mixture(difference: float, variance: float, tau: float) -> float:
    """The log likelihood ratio of a normal mixture N(0, tau^2) over the true difference.

    ln L = -1/2 ln(1 + tau^2 I) + I^2 D^2 tau^2 / (2 (1 + tau^2 I)), I = 1 / variance.
    """
    if variance == inf:
        return 0.0  # nothing is known
    information = 1 / variance
    spread = tau * tau * information
    return -log1p(spread) / 2 + information * difference**2 * spread / (2 * (1 + spread))


def mixture_half_width(variance: float, tau: float, alpha: float) -> float:
    """Half the width of the interval of differences that `mixture` has not excluded."""
    spread = tau * tau / variance
    return sqrt(2 * variance * (1 + spread) / spread * (log(1 / alpha) + log1p(spread) / 2))


def beta_binomial(hits: int, trials: int, center: float, null: float) -> float:
    """The log likelihood ratio of a mixture over the share, against `null`.

    Half of the mixture is Beta(100 c, 100 (1-c)), which finds small differences, half is uniform,
    which finds large ones sooner. A mean of likelihood ratios is one too: nothing is lost.
    """
    near = _log_mixed(hits, trials, PRIOR_WEIGHT * center, PRIOR_WEIGHT * (1 - center))
    anywhere = _log_mixed(hits, trials, 1.0, 1.0)
    mixed = float(np.logaddexp(near, anywhere)) - log(2)
    return mixed - _times_log(hits, null) - _times_log(trials - hits, 1 - null)


def _log_mixed(hits: int, trials: int, a: float, b: float) -> float:
    # The misses first: a small b added to very many trials would be rounded away, down to zero.
    return _log_beta(a + hits, b + (trials - hits)) - _log_beta(a, b)


def _interval(
    hits: int, others: int, candidate: Sums, stable: Sums, alpha: float
) -> tuple[float, float]:
    """Differences of the rates that the test has not excluded, given all failures seen."""
    trials = hits + others
    share = candidate.requests / (candidate.requests + stable.requests)

    def excluded(null: float) -> bool:
        return beta_binomial(hits, trials, share, null) >= -log(alpha)

    low = _border(excluded, inside=hits / trials, outside=0.0)
    high = _border(excluded, inside=hits / trials, outside=1.0)
    differences = [
        trials * (null / candidate.requests - (1 - null) / stable.requests) for null in (low, high)
    ]
    return differences[0], differences[1]


def _border(excluded: Callable[[float], bool], *, inside: float, outside: float) -> float:
    """The likelihood ratio grows on either side of the estimate, so halving finds the border."""
    if inside == outside or not excluded(outside):
        return outside
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return inside


def _three_ways(*, exceeds: bool, decided: bool) -> Verdict:
    """An estimate beyond the tolerance never passes; it fails only when chance is ruled out."""
    if not exceeds:
        return Verdict.PASS
    return Verdict.FAIL if decided else Verdict.UNCLEAR


def _enough_answers(candidate: Sums, stable: Sums, tolerances: Tolerances) -> bool:
    return min(candidate.latency_count, stable.latency_count) >= tolerances.least_to_fail


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _when(spans: Spans | None) -> str:
    return " before" if spans else ""


def _moments(spans: Sequence[Sums], total: Callable[[Sums], float]) -> npt.NDArray[np.float64]:
    """It gives a mean over answers for each moment, in their order."""
    found: list[float] = []
    held, answers = 0.0, 0
    for one in spans:
        held, answers = held + total(one), answers + one.latency_count
        if answers >= LEAST_IN_SPAN:
            found.append(held / answers)
            held, answers = 0.0, 0
    return np.array(found)


def _variance_of_mean(size: int, r: float) -> float:
    """Of a mean over neighbouring values of an AR(1) with variance 1 and correlation r."""
    lags = np.arange(1, size)
    return float(size + 2 * ((size - lags) * r**lags).sum()) / size**2


def _tell(here: int, there: int) -> bool:
    """Whether there are enough moments of both to know how much moments differ."""
    if here < LEAST_SPANS:
        return False
    return there >= LEAST_SPANS or (there > 0 and here >= SPANS_ALONE)


def _log_mean(sums: Sums) -> float | None:
    return sums.log_latency_sum / sums.latency_count if sums.latency_count else None


def _log_variance(sums: Sums) -> float:
    mean = sums.log_latency_sum / sums.latency_count
    return max(sums.log_latency_square_sum / sums.latency_count - mean * mean, 0.0)


def _raised(value: float | None) -> float | None:
    return None if value is None else exp(value)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _times_log(count: int, value: float) -> float:
    if count == 0:
        return 0.0
    return count * log(value) if value > 0 else -inf


def _percent(value: float | None) -> str:
    return "no requests" if value is None else f"{100 * value:.1f} %"
