"""The analysis: few false alarms however often one looks, and harm found after few requests."""

import json
from math import exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apps.monitoring import histogram
from apps.monitoring.sums import Sums
from apps.rollouts.analysis import (
    Analysis,
    Spans,
    Tolerances,
    beta_binomial,
    judge,
    mixture,
    mixture_half_width,
)
from apps.rollouts.analysis import Sums as Summed
from apps.rollouts.lifecycle import Verdict
from tests.rollouts.sums import Simulated, simulated

TOLERANCES = Tolerances(min_requests=100, error_rate_difference=0.005, latency_ratio=1.5)
ALPHA = 0.01


def judged(candidate: Simulated, stable: Simulated | None) -> Analysis:
    return judge(candidate, stable, TOLERANCES, ALPHA)


def verdicts(analysis: Analysis) -> dict[str, Verdict]:
    return {tile.metric: tile.verdict for tile in analysis.tiles}


def test_equal_revisions_pass_when_there_are_enough_requests() -> None:
    analysis = judged(simulated(500, 2), simulated(4500, 18, seed=2))

    assert analysis.verdict is Verdict.PASS
    assert analysis.reason.startswith(
        "errors 0.4 % against 0.4 %; refused or given up 0.0 % against 0.0 %; latency "
    )
    assert (analysis.candidate_requests, analysis.stable_requests) == (500, 4500)


def test_too_few_requests_are_unclear_and_say_how_many_are_needed() -> None:
    analysis = judged(simulated(34), simulated(300, 1))

    assert (analysis.verdict, analysis.reason) == (
        Verdict.UNCLEAR, "34 of 100 requests to the candidate",
    )  # fmt: skip


def test_a_stable_revision_without_requests_is_nothing_to_compare_with() -> None:
    analysis = judged(simulated(300), simulated(5))

    assert (analysis.verdict, analysis.reason) == (
        Verdict.UNCLEAR, "5 of 30 requests to the stable revision",
    )  # fmt: skip


def test_overwhelming_errors_fail_before_there_are_enough_requests_to_pass() -> None:
    analysis = judged(simulated(40, 20), simulated(360, 1))

    assert analysis.verdict is Verdict.FAIL
    assert analysis.reason == "errors 50.0 % against 0.3 %"
    assert verdicts(analysis)["error_rate"] is Verdict.FAIL


def test_no_verdict_is_made_of_a_handful_of_requests() -> None:
    assert judged(simulated(29, 29), simulated(5000, 1)).verdict is Verdict.UNCLEAR


def test_an_estimate_beyond_the_tolerance_waits_until_chance_is_ruled_out() -> None:
    analysis = judged(simulated(100, 2), simulated(900, 2))

    assert analysis.verdict is Verdict.UNCLEAR
    assert analysis.reason == "more requests are needed to tell: errors 2.0 % against 0.2 %"


def test_a_certain_but_small_difference_is_tolerated() -> None:
    analysis = judged(simulated(400_000, 1600), simulated(400_000, 400, seed=2))

    assert verdicts(analysis)["error_rate"] is Verdict.PASS
    error_rate = analysis.tiles[0]
    assert error_rate.difference == pytest.approx(0.003)
    assert error_rate.interval is not None
    assert 0 < error_rate.interval[0] < 0.003 < error_rate.interval[1] < 0.005


def test_twice_as_slow_fails_and_says_both_latencies() -> None:
    analysis = judged(simulated(400, milliseconds=20), simulated(3600, seed=2))

    assert analysis.verdict is Verdict.FAIL
    assert verdicts(analysis) == {
        "error_rate": Verdict.PASS,
        "refused_rate": Verdict.PASS,
        "latency_mean": Verdict.FAIL,
        "latency_p95": Verdict.FAIL,
    }
    mean = analysis.tiles[2]
    assert mean.difference == pytest.approx(2.0, rel=0.1)
    assert mean.interval is not None
    assert mean.interval[0] > 1.5


def test_a_candidate_that_refuses_what_the_stable_one_answers_fails() -> None:
    """Or whose callers give up waiting: both have the same callers, so it is not theirs."""
    candidate, stable = simulated(400), simulated(3600, seed=2)
    candidate.client_errors, stable.client_errors = 40, 36

    analysis = judged(candidate, stable)

    assert analysis.verdict is Verdict.FAIL
    assert analysis.reason == "refused or given up 10.0 % against 1.0 %"
    assert verdicts(analysis)["error_rate"] is Verdict.PASS


def test_callers_whose_mistakes_both_refuse_alike_are_no_reason() -> None:
    candidate, stable = simulated(400), simulated(3600, seed=2)
    candidate.client_errors, stable.client_errors = 80, 720

    assert judged(candidate, stable).verdict is Verdict.PASS


def test_a_slow_slice_that_hides_in_the_mean_is_found() -> None:
    chance = np.random.default_rng(3)
    candidate = Simulated()
    latencies = 10 * np.exp(chance.normal(0, 0.3, 1500))
    latencies[::12] *= 20  # one row in twelve
    candidate.add(latencies, np.zeros(1500, bool))

    analysis = judged(candidate, simulated(13_500, seed=2))

    assert verdicts(analysis)["latency_mean"] is Verdict.PASS
    assert verdicts(analysis)["latency_p95"] is Verdict.FAIL


def test_a_faster_candidate_with_fewer_errors_passes() -> None:
    analysis = judged(simulated(1000, milliseconds=4), simulated(9000, 300, seed=2))

    assert analysis.verdict is Verdict.PASS


def test_without_a_single_answer_the_latency_is_unclear() -> None:
    analysis = judged(simulated(200, 200), simulated(1800, 1800, seed=2))

    assert analysis.verdict is Verdict.UNCLEAR
    assert verdicts(analysis)["latency_mean"] is Verdict.UNCLEAR


@pytest.mark.parametrize(
    ("requests", "errors", "verdict"),
    [
        (0, 0, Verdict.PASS),  # nobody calls yet, and nothing served before
        (10, 0, Verdict.PASS),
        (10, 1, Verdict.UNCLEAR),
        (100, 1, Verdict.UNCLEAR),  # one in a hundred may be chance
        (100, 8, Verdict.FAIL),
        (1000, 4, Verdict.PASS),
    ],
)
def test_a_first_revision_is_judged_by_its_errors_alone(
    requests: int, errors: int, verdict: Verdict
) -> None:
    analysis = judged(simulated(requests, errors, milliseconds=9000), None)

    assert analysis.verdict is verdict
    assert [tile.metric for tile in analysis.tiles] == ["error_rate"]
    assert analysis.stable_requests is None


SHARES = st.floats(0, 1)
TOLERATED = st.builds(
    Tolerances,
    min_requests=st.integers(1, 10**12),
    error_rate_difference=SHARES,
    latency_ratio=st.floats(1, allow_infinity=False),
)
ALPHAS = st.floats(0, 0.5, exclude_min=True, exclude_max=True)
# A few answers of any speed that a bin stands for, each as often as its number says.
ANSWERS = st.lists(st.tuples(st.floats(0.001, 10_000_000), st.integers(0, 10**12)), max_size=4)


@st.composite
def any_sums(draw: st.DrawFn) -> Sums:
    """Any answers and errors that a span may hold: nothing, one, or a million million."""
    errors, refused = draw(st.integers(0, 10**12)), draw(st.integers(0, 10**12))
    made = Sums(requests=errors + refused, server_errors=errors, client_errors=refused)
    for milliseconds, times in draw(ANSWERS):
        made.requests += times
        made.latency_count += times
        made.log_latency_sum += times * log(milliseconds)
        made.log_latency_square_sum += times * log(milliseconds) ** 2
        made.bins += times * histogram.from_us([1000 * milliseconds])
    return made


@settings(deadline=None)
@given(any_sums(), st.none() | any_sums(), TOLERATED, ALPHAS, st.integers(1, 20))
@example(Sums(requests=1), None, Tolerances(100, 1.0, 1.5), ALPHA, 1)
@example(Sums(requests=1), Sums(requests=1), TOLERANCES, 5e-324, 20)
@example(Sums(requests=1 << 30, server_errors=1 << 30), Sums(requests=1), TOLERANCES, ALPHA, 1)
def test_whatever_a_policy_allows_and_callers_get_can_be_judged_and_kept(
    candidate: Sums, stable: Sums | None, tolerances: Tolerances, alpha: float, analyses: int
) -> None:
    analysis = judge(candidate, stable, tolerances, alpha / analyses)

    assert analysis.reason
    json.dumps(analysis.evidence(), allow_nan=False)  # PostgreSQL's JSON holds no infinity


@settings(deadline=None)
@given(any_sums(), any_sums())
def test_an_error_rate_that_is_tolerated_altogether_never_fails(
    candidate: Sums, stable: Sums
) -> None:
    tolerances = Tolerances(1, 1.0, 1.5)

    for other in (None, stable):
        errors = judge(candidate, other, tolerances, ALPHA).tiles[0]
        assert errors.verdict is not Verdict.FAIL


def test_the_evidence_is_plain_json() -> None:
    evidence = judged(simulated(500, 2), simulated(4500, 18, seed=2)).evidence()

    assert evidence["verdict"] == "pass"
    assert [tile["metric"] for tile in evidence["tiles"]] == [
        "error_rate", "refused_rate", "latency_mean", "latency_p95",
    ]  # fmt: skip
    assert {"stable", "candidate", "difference", "interval", "tolerance", "verdict"} <= set(
        evidence["tiles"][0]
    )


def test_the_mixture_is_the_formula_and_its_interval_its_inverse() -> None:
    variance, tau, alpha = 0.002, 0.1, 0.01
    information = 1 / variance
    by_hand = -0.5 * log(1 + tau**2 * information) + information**2 * 0.15**2 * tau**2 / (
        2 * (1 + tau**2 * information)
    )
    assert mixture(0.15, variance, tau) == pytest.approx(by_hand)
    half = mixture_half_width(variance, tau, alpha)
    assert mixture(half, variance, tau) == pytest.approx(log(1 / alpha))


def test_the_beta_binomial_is_a_likelihood_ratio() -> None:
    """Under the null its mean over all outcomes is one: that is what bounds false alarms."""
    from math import comb

    trials, share = 30, 0.1
    mean = sum(
        comb(trials, k) * share**k * (1 - share) ** (trials - k)
        * exp(beta_binomial(k, trials, share, share))
        for k in range(trials + 1)
    )  # fmt: skip

    assert mean == pytest.approx(1.0)


def looks(chance: np.random.Generator, error_rate: float, slower: float) -> tuple[bool, int]:
    """One canary at 10 %, looked at after each 20 of its requests: failed?, after how many."""
    candidate, stable = Simulated(), Simulated()
    for _ in range(50):
        candidate.add(
            slower * 10 * np.exp(chance.normal(0, 0.4, 20)), chance.random(20) < error_rate
        )
        stable.add(10 * np.exp(chance.normal(0, 0.4, 180)), chance.random(180) < 0.004)
        if judged(candidate, stable).verdict is Verdict.FAIL:
            return True, candidate.requests
    return False, candidate.requests


def test_false_alarms_stay_below_what_was_allowed() -> None:
    chance = np.random.default_rng(20300107)

    alarms = sum(looks(chance, 0.004, 1.0)[0] for _ in range(200))

    assert alarms <= 2  # 1 % of 200; every look of all fifty counts


def test_errors_from_a_slice_of_rows_are_found_within_300_requests() -> None:
    chance = np.random.default_rng(20300108)

    found = [looks(chance, 0.08, 1.0) for _ in range(200)]

    assert all(failed for failed, _ in found)
    assert sorted(after for _, after in found)[190] <= 300  # 95 of 100


def test_twice_the_latency_is_found_within_200_requests() -> None:
    chance = np.random.default_rng(20300109)

    found = [looks(chance, 0.004, 2.0) for _ in range(50)]

    assert all(failed and after <= 200 for failed, after in found)


# ---- of other moments --------------------------------------------------------------------------


def spans_of(*medians_ms: float, seed: int = 1) -> list[Simulated]:
    """A span of fifty requests for each of these medians."""
    return [
        simulated(50, milliseconds=median, seed=seed + place)
        for place, median in enumerate(medians_ms)
    ]


def whole(spans: list[Simulated]) -> Simulated:
    summed = Simulated()
    for one in spans:
        summed.requests += one.requests
        summed.latency_count += one.latency_count
        summed.log_latency_sum += one.log_latency_sum
        summed.log_latency_square_sum += one.log_latency_square_sum
        summed.bins = summed.bins + one.bins
    return summed


def after(candidate: list[Simulated], stable: list[Simulated]) -> Analysis:
    return judge(whole(candidate), whole(stable), TOLERANCES, ALPHA, Spans(candidate, stable))


def test_a_busy_machine_is_no_fault_of_who_serves_just_then() -> None:
    """A good candidate was taken back at 100 %: tests beside it slowed down all that ran."""
    stable = spans_of(4, 5, 4, 60, 80, 5, 4, 30, 4, 50, 5, 4, seed=10)
    candidate = spans_of(60, 50, 40, 55)
    assert judged(whole(candidate), whole(stable)).verdict is Verdict.FAIL
    analysis = after(candidate, stable)
    assert analysis.verdict is Verdict.UNCLEAR
    assert analysis.reason.startswith("more time is needed to tell: latency ")
    assert verdicts(analysis)["latency_mean"] is Verdict.UNCLEAR
    assert verdicts(analysis)["latency_p95"] is Verdict.PASS  # the stable one had as slow ones
    calm = after([*candidate, *spans_of(*[4] * 20, seed=40)], stable)
    assert calm.verdict is Verdict.PASS


def test_what_is_slower_than_any_moment_before_fails_after_three_spans() -> None:
    stable = spans_of(10, 11, 10, 9, 10, 12, seed=10)
    candidate = spans_of(50, 51, 52)
    assert after(candidate, stable).verdict is Verdict.FAIL
    early = after(candidate[:2], stable)
    assert early.verdict is Verdict.UNCLEAR
    assert early.tiles[2].interval is None
    assert json.loads(json.dumps(early.evidence(), allow_nan=False))
    assert after(candidate, stable[:2]).verdict is Verdict.UNCLEAR


def test_a_past_of_two_moments_is_judged_by_how_the_candidates_differ() -> None:
    """The stable revision gets no more requests: who waits for its third moment waits for ever."""
    candidate = spans_of(*[50, 51, 52] * 10)
    assert after(candidate[:29], spans_of(10, 11, seed=50)).verdict is Verdict.UNCLEAR
    assert after(candidate, spans_of(10, 11, seed=50)).verdict is Verdict.FAIL


def test_errors_do_not_wait_for_three_spans() -> None:
    candidate = whole(spans_of(10, seed=3))
    candidate.server_errors = 40
    stable = spans_of(10, 10, 10, 10, seed=10)
    analysis = judge(candidate, whole(stable), TOLERANCES, ALPHA, Spans([candidate], stable))
    assert analysis.verdict is Verdict.FAIL
    assert analysis.reason.startswith("errors 80.0 %")


def logs(one: Summed) -> float:
    return one.log_latency_sum


def test_a_burst_of_requests_is_one_moment_among_others() -> None:
    """A burst at 18 ms among moments at 10 took back every candidate, weighed by its answers."""
    stable = spans_of(*[10, 10.5, 9.5] * 4, seed=30)
    burst = simulated(5000, milliseconds=18, seed=3)
    candidate = [*spans_of(*[10, 10.5, 9.5] * 2, seed=60), burst]
    analysis = after(candidate, stable)
    assert analysis.tiles[2].difference == pytest.approx(1.75, abs=0.05)  # over answers
    assert analysis.tiles[2].verdict is Verdict.UNCLEAR
    assert analysis.verdict is Verdict.UNCLEAR


def test_the_variance_of_moments_by_hand() -> None:
    """Without correlation s^2 (1 / n + 1 / m); with it as of an autoregression."""
    one, two, three = (simulated(50, milliseconds=exp(value), spread=0) for value in (1, 2, 3))
    several = Spans([one, two, three], [one, three, two])
    difference, variance = several.difference(logs)
    assert difference == pytest.approx(0, abs=1e-9)
    # Sides 1 2 3 and 1 3 2: squares 2 + 2, products 0 + -1, so r = 0 and s^2 = 4 / 4.
    assert variance == pytest.approx(2 / 3)
    # 1 1 3 3 twice: squares 4 + 4, products 1 - 1 + 1 each.
    halves = Spans([one, one, three, three], [one, one, three, three])
    r = (1 + 1) / 8 * 8 / 6
    of_one = (4 + 2 * (3 * r + 2 * r**2 + r**3)) / 16
    assert halves.difference(logs)[1] == pytest.approx(8 / 6 * 2 * of_one)


def test_spans_of_few_answers_are_one_moment_together() -> None:
    """Of an endpoint that is asked every few seconds none would ever tell."""
    few = [simulated(4, milliseconds=median, seed=median) for median in (90, 95, 80, 99, 85, 91)]
    stable = spans_of(10, 11, 10, 9, seed=10)
    pairs = [whole(few[place : place + 2]) for place in (0, 2, 4)]

    joined = Spans(few, stable).difference(logs)
    assert joined == pytest.approx(Spans(pairs, stable).difference(logs))
    assert Spans(few[:5], stable).difference(logs) == (0.0, inf)
    assert after(few * 6, stable).verdict is Verdict.FAIL


def test_moments_that_differ_by_chance_hardly_ever_fail() -> None:
    """Both the same, each span slower or faster by a factor of about 2; looked at every span."""
    chance = np.random.default_rng(5)
    failed = 0
    for _ in range(200):
        stable = spans_of(
            *(10 * np.exp(chance.normal(0, 0.7, 60))), seed=int(chance.integers(1_000_000))
        )
        candidate = spans_of(
            *(10 * np.exp(chance.normal(0, 0.7, 12))), seed=int(chance.integers(1_000_000))
        )
        failed += any(after(candidate[:n], stable).verdict is Verdict.FAIL for n in range(1, 13))
    assert failed <= 2


def test_a_machine_that_is_busy_for_minutes_seldom_takes_anything_back() -> None:
    """A moment is like the one before: taken as independent, 18 of these 100 failed."""
    chance = np.random.default_rng(11)
    failed = 0
    for _ in range(100):
        stable, candidate = (
            [simulated(50, milliseconds=10 * exp(one), seed=int(chance.integers(1_000_000)))
             for one in _slowly(chance, size)]
            for size in (60, 24)
        )  # fmt: skip
        failed += any(after(candidate[:n], stable).verdict is Verdict.FAIL for n in range(3, 25, 3))
    assert failed <= 8


def _slowly(chance: np.random.Generator, size: int) -> list[float]:
    """An autoregression with a correlation of .95 and a standard deviation of one half."""
    found = [chance.normal(0, 0.5)]
    while len(found) < size:
        found.append(0.95 * found[-1] + chance.normal(0, 0.5 * sqrt(1 - 0.95**2)))
    return found
