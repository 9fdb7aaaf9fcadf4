"""Whatever people, metrics, replicas and backends do, a rollout keeps its promises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apps.rollouts.decide import decide, percent, share
from apps.rollouts.lifecycle import Decision, Phase, Plan, Seen, State, Step, Verdict, Wish

NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)
PLAN = Plan(
    steps=(
        Step(50, timedelta(minutes=10), analysis=True),
        Step(500, timedelta(minutes=30), analysis=False),
        Step(1000, timedelta(0), analysis=True),
    ),
    prepare_until=NOON + timedelta(minutes=5),
)
WELL = Seen(
    weight=0,
    candidate_ready=True,
    candidate_failing="",
    verdict=Verdict.PASS,
    verdict_reason="errors 0.1 % against 0.2 %",
    digest_ok=True,
)
PREPARING = State(Phase.PREPARING, 0)
AT_FIRST = State(Phase.PROGRESSING, 0, NOON)
AT_SECOND = State(Phase.PROGRESSING, 1, NOON)
AT_LAST = State(Phase.PROGRESSING, 2, NOON)
BAD = replace(WELL, weight=50, verdict=Verdict.FAIL, verdict_reason="errors 8.1 % against 0.2 %")
FEW = replace(WELL, verdict=Verdict.UNCLEAR, verdict_reason="34 of 100 requests")
GOING = "Going back, no traffic to the candidate. "
# First in the dark, then with copies only, then with everything.
QUIET = Plan(
    steps=(
        Step(0, timedelta(minutes=5), analysis=False),
        Step(0, timedelta(minutes=10), analysis=True, shadow=500),
        Step(1000, timedelta(0), analysis=False),
    ),
    prepare_until=NOON + timedelta(minutes=5),
    candidate="v3",
)
COPYING = "Copying 50 % of requests to v3, nobody sees its answers"
DARK = "v3 runs without traffic, so that people can test it"
COPIED = replace(WELL, shadow=500)


@pytest.mark.parametrize(
    ("state", "wish", "seen", "minutes", "phase", "step", "weight", "reason"),
    [
        (PREPARING, Wish(), replace(WELL, candidate_ready=False), 0,
         Phase.PREPARING, 0, 0, "Waiting for the candidate's replicas to be ready"),
        (PREPARING, Wish(), WELL, 0, Phase.PROGRESSING, 0, 50, "Moving to 5 %"),
        (PREPARING, Wish(), replace(WELL, weight=None), 0,
         Phase.PREPARING, 0, 0, "Waiting for the serving backend to answer"),
        (PREPARING, Wish(pause=True), WELL, 0,
         Phase.PREPARING, 0, 0, "Paused by request before traffic moves"),
        (PREPARING, Wish(), replace(WELL, candidate_ready=False), 5,
         Phase.REVERTING, 0, 0, GOING + "The candidate's replicas were not ready in time"),
        (PREPARING, Wish(), replace(WELL, candidate_failing="exit 1: no module"), 0,
         Phase.REVERTING, 0, 0,
         GOING + "The candidate's replicas do not stay up: exit 1: no module"),
        (PREPARING, Wish(abort=True, abort_reason="wrong day"), WELL, 0,
         Phase.REVERTING, 0, 0, GOING + "Aborted by request: wrong day"),
        (AT_FIRST, Wish(), replace(WELL, weight=0), 1,
         Phase.PROGRESSING, 0, 50, "Waiting for traffic to reach 5 %"),
        (AT_FIRST, Wish(), replace(WELL, weight=None), 99,
         Phase.PROGRESSING, 0, 50, "Waiting for the serving backend to answer"),
        (AT_FIRST, Wish(), replace(WELL, weight=50), 1,
         Phase.PROGRESSING, 0, 50, "Watching 5 % until 12:10:00 UTC"),
        (AT_FIRST, Wish(), replace(FEW, weight=50), 10,
         Phase.PROGRESSING, 0, 50, "Waiting at 5 %: 34 of 100 requests"),
        (AT_FIRST, Wish(), replace(WELL, weight=50, candidate_ready=False), 10,
         Phase.PROGRESSING, 0, 50,
         "Waiting at 5 %: not all replicas of the candidate are ready"),
        (AT_FIRST, Wish(), replace(WELL, weight=50), 10,
         Phase.PROGRESSING, 1, 500, "Moving to 50 %"),
        (AT_FIRST, Wish(pause=True), replace(WELL, weight=50), 10,
         Phase.PAUSED, 0, 50, "Paused by request at 5 %"),
        (AT_FIRST, Wish(), BAD, 0, Phase.REVERTING, 0, 0,
         GOING + "The analysis failed at 5 %: errors 8.1 % against 0.2 %"),
        (AT_FIRST, Wish(pause=True), BAD, 0, Phase.REVERTING, 0, 0,
         GOING + "The analysis failed at 5 %: errors 8.1 % against 0.2 %"),
        (AT_FIRST, Wish(), replace(WELL, weight=50, digest_ok=False), 0, Phase.REVERTING, 0, 0,
         GOING + "The bundle changed after it was approved"),
        (AT_SECOND, Wish(), replace(FEW, weight=500), 30,
         Phase.PROGRESSING, 2, 1000, "Moving to 100 %"),
        (AT_LAST, Wish(), replace(WELL, weight=1000), 0,
         Phase.SUCCEEDED, 2, 1000, "All steps passed"),
        (AT_LAST, Wish(abort=True), replace(WELL, weight=1000), 0,
         Phase.REVERTING, 2, 0, GOING + "Aborted by request"),
        (State(Phase.REVERTING, 1, None, "Aborted"), Wish(), replace(WELL, weight=None), 0,
         Phase.REVERTING, 1, 0, GOING + "Aborted"),
        (State(Phase.REVERTING, 1, None, "Aborted"), Wish(), WELL, 0,
         Phase.REVERTED, 1, 0, "Rolled back. Aborted"),
        (State(Phase.SUCCEEDED, 2), Wish(abort=True), BAD, 0,
         Phase.SUCCEEDED, 2, 1000, "All steps passed"),
        (State(Phase.REVERTED, 0, None, "Aborted"), Wish(), WELL, 0,
         Phase.REVERTED, 0, 0, "Rolled back. Aborted"),
    ],
)  # fmt: skip
def test_what_comes_next(
    state: State, wish: Wish, seen: Seen, minutes: int,
    phase: Phase, step: int, weight: int, reason: str,
) -> None:  # fmt: skip
    decision = decide(PLAN, state, wish, seen, NOON + timedelta(minutes=minutes))

    assert (decision.state.phase, decision.state.step) == (phase, step)
    assert (decision.weight, decision.reason) == (weight, reason)


@pytest.mark.parametrize(
    ("state", "wish", "seen", "minutes", "phase", "step", "orders", "reason"),
    [
        (PREPARING, Wish(), WELL, 0, Phase.PROGRESSING, 0, (0, 0), DARK),
        (PREPARING, Wish(), replace(WELL, shadow=None), 0, Phase.PREPARING, 0, (0, 0),
         "Waiting for the serving backend to answer"),
        (AT_FIRST, Wish(), WELL, 1, Phase.PROGRESSING, 0, (0, 0), DARK + ", until 12:05:00 UTC"),
        (AT_FIRST, Wish(pause=True), WELL, 9, Phase.PAUSED, 0, (0, 0), "Paused by request at 0 %"),
        (AT_FIRST, Wish(), replace(WELL, candidate_ready=False), 5, Phase.PROGRESSING, 0, (0, 0),
         "Waiting at 0 %: not all replicas of the candidate are ready"),
        (AT_FIRST, Wish(), FEW, 5, Phase.PROGRESSING, 1, (0, 500), COPYING),
        (AT_SECOND, Wish(), WELL, 10, Phase.PROGRESSING, 1, (0, 500),
         "Waiting for copies to reach 50 % of requests"),
        (AT_SECOND, Wish(), replace(WELL, shadow=None), 10, Phase.PROGRESSING, 1, (0, 500),
         "Waiting for the serving backend to answer"),
        (AT_SECOND, Wish(), COPIED, 9, Phase.PROGRESSING, 1, (0, 500),
         COPYING + "; watching until 12:10:00 UTC"),
        (AT_SECOND, Wish(), replace(FEW, shadow=500), 10, Phase.PROGRESSING, 1, (0, 500),
         "Waiting at 50 % copied: 34 of 100 requests"),
        (AT_SECOND, Wish(pause=True), COPIED, 10, Phase.PAUSED, 1, (0, 500),
         "Paused by request at 50 % copied"),
        (AT_SECOND, Wish(), replace(BAD, weight=0, shadow=500), 1, Phase.REVERTING, 1, (0, 0),
         GOING + "The analysis failed at 50 % copied: errors 8.1 % against 0.2 %"),
        (AT_SECOND, Wish(), COPIED, 10, Phase.PROGRESSING, 2, (1000, 0), "Moving to 100 %"),
        (AT_LAST, Wish(), replace(WELL, weight=1000, shadow=500), 1, Phase.PROGRESSING, 2,
         (1000, 0), "Waiting for copies to reach 0 % of requests"),
        (AT_LAST, Wish(), replace(WELL, weight=1000), 0, Phase.SUCCEEDED, 2, (1000, 0),
         "All steps passed"),
        (State(Phase.REVERTING, 1, None, "Aborted"), Wish(), COPIED, 0, Phase.REVERTING, 1, (0, 0),
         GOING + "Aborted"),
        (State(Phase.REVERTING, 1, None, "Aborted"), Wish(), replace(WELL, shadow=None), 0,
         Phase.REVERTING, 1, (0, 0), GOING + "Aborted"),
        (State(Phase.REVERTING, 1, None, "Aborted"), Wish(), WELL, 0, Phase.REVERTED, 1, (0, 0),
         "Rolled back. Aborted"),
    ],
)  # fmt: skip
def test_what_comes_next_without_callers_seeing_any_of_it(
    state: State, wish: Wish, seen: Seen, minutes: int,
    phase: Phase, step: int, orders: tuple[int, int], reason: str,
) -> None:  # fmt: skip
    decision = decide(QUIET, state, wish, seen, NOON + timedelta(minutes=minutes))

    assert (decision.state.phase, decision.state.step) == (phase, step)
    assert (decision.weight, decision.shadow) == orders
    assert decision.reason == reason


@pytest.mark.parametrize("lost", [replace(COPIED, weight=None), replace(COPIED, shadow=None)])
def test_a_silent_backend_does_not_start_the_watch_of_copies_again(lost: Seen) -> None:
    silent = decide(QUIET, AT_SECOND, Wish(), lost, NOON)

    assert silent.state == AT_SECOND


def test_a_silent_backend_does_not_start_the_watch_again() -> None:
    silent = decide(PLAN, AT_FIRST, Wish(), replace(WELL, weight=None), NOON)

    assert silent.state == AT_FIRST


def test_held_time_is_not_watched_time() -> None:
    there = replace(WELL, weight=50)
    held = decide(PLAN, AT_FIRST, Wish(pause=True), there, NOON + timedelta(minutes=5))
    again = decide(PLAN, held.state, Wish(), there, NOON + timedelta(minutes=60))

    assert held.state == State(Phase.PAUSED, 0, None)
    assert again.state == State(Phase.PROGRESSING, 0, NOON + timedelta(minutes=60))


def test_shares_are_written_as_people_read_them() -> None:
    assert [percent(weight) for weight in (1, 50, 125, 1000)] == [
        "0.1 %", "5 %", "12.5 %", "100 %",
    ]  # fmt: skip
    assert [share(0, 0), share(125, 0), share(0, 500)] == ["0 %", "12.5 %", "50 % copied"]


NOTHING = (0, 0)  # neither traffic nor copies
WHOLE = replace(QUIET, steps=(*QUIET.steps[:2], *PLAN.steps))
COPIES_FIRST = replace(QUIET, steps=QUIET.steps[1:])


class RolloutUnderWeather(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.a_new_rollout_starts(WHOLE)

    @precondition(lambda self: self.state.phase.is_final)
    @rule(plan=st.sampled_from([PLAN, QUIET, WHOLE, COPIES_FIRST]))
    def starts_anew(self, plan: Plan) -> None:
        self.a_new_rollout_starts(plan)

    @initialize(plan=st.sampled_from([PLAN, QUIET, WHOLE, COPIES_FIRST]))
    def starts(self, plan: Plan) -> None:
        self.a_new_rollout_starts(plan)

    def a_new_rollout_starts(self, plan: Plan) -> None:
        self.plan = replace(plan, prepare_until=self.now + timedelta(minutes=5))
        self.state = PREPARING
        self.wish, self.seen = Wish(), replace(WELL, candidate_ready=False)
        self.answers = True
        self.actual = self.ordered = NOTHING
        self.history = [NOTHING]

    @rule()
    def tick(self) -> None:
        weight, shadow = self.actual if self.answers else (None, None)
        seen = replace(self.seen, weight=weight, shadow=shadow)
        before = self.state
        decision = decide(self.plan, before, self.wish, seen, self.now)
        assert decision.reason
        assert decide(self.plan, before, self.wish, seen, self.now) == decision
        self.it_is_only_moved_by_what_was_seen(before, seen, decision)
        self.state, self.ordered = decision.state, (decision.weight, decision.shadow)
        self.history.append(self.ordered)

    def it_is_only_moved_by_what_was_seen(
        self, before: State, seen: Seen, decision: Decision
    ) -> None:
        climbs = (decision.weight, decision.shadow) > self.ordered
        if climbs:
            assert not self.wish.abort
            assert not self.wish.pause
            assert seen.digest_ok
            assert not seen.candidate_failing
            assert seen.candidate_ready
            assert seen.weight is not None, "silence was taken for a weight"
            assert seen.shadow is not None, "silence was taken for copies"
        if decision.state.step > before.step:
            step = self.plan.steps[before.step]
            assert decision.state.step == before.step + 1
            assert (seen.weight, seen.shadow) == (step.weight, step.shadow), "never reached it"
            assert before.reached_at is not None or step.hold == timedelta(0)
            assert seen.verdict is Verdict.PASS or not step.analysis
        if decision.state.phase is Phase.REVERTED and before.phase is not Phase.REVERTED:
            assert before.phase is Phase.REVERTING, "zero was seen before it was ordered"
            assert (seen.weight, seen.shadow) == NOTHING, "silence was taken for zero"
        if decision.state.phase is Phase.SUCCEEDED and before.phase is not Phase.SUCCEEDED:
            assert (seen.weight, seen.shadow) == (1000, 0)
            assert seen.verdict is Verdict.PASS or not self.plan.steps[-1].analysis
        if before.phase is not Phase.PREPARING and seen.verdict is Verdict.FAIL:
            back = (decision.weight, decision.shadow) == NOTHING
            assert back or before.phase is Phase.SUCCEEDED

    @rule()
    def backend_obeys(self) -> None:
        self.actual = self.ordered
        self.tick()

    @rule(answers=st.booleans())
    def backend_comes_or_goes(self, answers: bool) -> None:
        self.answers = answers
        self.tick()

    @rule(minutes=st.integers(1, 60))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.tick()

    @rule(verdict=st.sampled_from([*Verdict, Verdict.PASS, Verdict.PASS]))
    def metrics_change(self, verdict: Verdict) -> None:
        self.seen = replace(self.seen, verdict=verdict)
        self.tick()

    @rule(
        ready=st.sampled_from([True, True, True, False]),
        failing=st.sampled_from(["", "", "", "", "", "exit 1"]),
    )
    def replicas_change(self, ready: bool, failing: str) -> None:
        self.seen = replace(self.seen, candidate_ready=ready, candidate_failing=failing)
        self.tick()

    @rule(ok=st.sampled_from([True] * 7 + [False]))
    def it_is_built_again(self, ok: bool) -> None:
        self.seen = replace(self.seen, digest_ok=ok)
        self.tick()

    @rule(pause=st.booleans())
    def someone_pauses_or_resumes(self, pause: bool) -> None:
        self.wish = replace(self.wish, pause=pause)

    @rule(aborts=st.sampled_from([True, False, False, False]))
    def someone_aborts(self, aborts: bool) -> None:
        self.wish = replace(self.wish, abort=self.wish.abort or aborts)
        self.tick()

    @invariant()
    def only_planned_weights_are_ever_ordered(self) -> None:
        planned = {(step.weight, step.shadow) for step in self.plan.steps}
        assert set(self.history) <= {NOTHING, *planned}

    @invariant()
    def once_reverting_no_traffic_ever_returns(self) -> None:
        if self.state.phase in (Phase.REVERTING, Phase.REVERTED):
            assert self.ordered == NOTHING
            assert self.state.cause

    @invariant()
    def shares_only_climb_until_they_drop_to_zero(self) -> None:
        climbing = [shares for shares in self.history if shares != NOTHING]
        assert climbing == sorted(climbing)

    @invariant()
    def it_never_gets_traffic_and_copies(self) -> None:
        assert 0 in self.ordered

    @invariant()
    def reverted_means_seen_at_zero(self) -> None:
        if self.state.phase is Phase.REVERTED:
            assert self.actual == NOTHING

    @invariant()
    def nothing_is_ordered_while_preparing(self) -> None:
        if self.state.phase is Phase.PREPARING:
            assert self.ordered == NOTHING


RolloutUnderWeather.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None
)
TestRolloutUnderWeather = RolloutUnderWeather.TestCase


@pytest.mark.parametrize("plan", [PLAN, QUIET, WHOLE, COPIES_FIRST])
def test_a_healthy_rollout_finishes(plan: Plan) -> None:
    state, actual, now = PREPARING, NOTHING, NOON
    for _ in range(90):
        seen = replace(WELL, weight=actual[0], shadow=actual[1])
        decision = decide(plan, state, Wish(), seen, now)
        state, actual = decision.state, (decision.weight, decision.shadow)
        now = decision.wake_at or now + timedelta(minutes=1)

    assert state.phase is Phase.SUCCEEDED
