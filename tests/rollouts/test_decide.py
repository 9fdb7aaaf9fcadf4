"""Whatever people, metrics, replicas and backends do, a rollout keeps its promises."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apps.rollouts.decide import decide, percent
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


class RolloutUnderWeather(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.a_new_rollout_starts()

    @precondition(lambda self: self.state.phase.is_final)
    @rule()
    def starts_anew(self) -> None:
        self.a_new_rollout_starts()

    def a_new_rollout_starts(self) -> None:
        self.plan = replace(PLAN, prepare_until=self.now + timedelta(minutes=5))
        self.state = PREPARING
        self.wish, self.seen = Wish(), replace(WELL, candidate_ready=False)
        self.answers = True
        self.actual = self.ordered = 0
        self.history = [0]

    @rule()
    def tick(self) -> None:
        seen = replace(self.seen, weight=self.actual if self.answers else None)
        before = self.state
        decision = decide(self.plan, before, self.wish, seen, self.now)
        assert decision.reason
        assert decide(self.plan, before, self.wish, seen, self.now) == decision
        self.it_is_only_moved_by_what_was_seen(before, seen, decision)
        self.state, self.ordered = decision.state, decision.weight
        self.history.append(decision.weight)

    def it_is_only_moved_by_what_was_seen(
        self, before: State, seen: Seen, decision: Decision
    ) -> None:
        climbs = decision.weight > self.ordered
        if climbs:
            assert not self.wish.abort
            assert not self.wish.pause
            assert seen.digest_ok
            assert not seen.candidate_failing
            assert seen.candidate_ready
            assert seen.weight is not None, "silence was taken for a weight"
        if decision.state.step > before.step:
            step = self.plan.steps[before.step]
            assert decision.state.step == before.step + 1
            assert seen.weight == step.weight, "left a step it never reached"
            assert before.reached_at is not None or step.hold == timedelta(0)
            assert seen.verdict is Verdict.PASS or not step.analysis
        if decision.state.phase is Phase.REVERTED and before.phase is not Phase.REVERTED:
            assert before.phase is Phase.REVERTING, "zero was seen before it was ordered"
            assert seen.weight == 0, "silence was taken for zero"
        if decision.state.phase is Phase.SUCCEEDED and before.phase is not Phase.SUCCEEDED:
            assert seen.weight == 1000
            assert seen.verdict is Verdict.PASS
        if before.phase is not Phase.PREPARING and seen.verdict is Verdict.FAIL:
            assert decision.weight == 0 or before.phase is Phase.SUCCEEDED

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
        assert set(self.history) <= {0, *(step.weight for step in PLAN.steps)}

    @invariant()
    def once_reverting_no_traffic_ever_returns(self) -> None:
        if self.state.phase in (Phase.REVERTING, Phase.REVERTED):
            assert self.ordered == 0
            assert self.state.cause

    @invariant()
    def weight_only_climbs_until_it_drops_to_zero(self) -> None:
        climbing = [weight for weight in self.history if weight]
        assert climbing == sorted(climbing)

    @invariant()
    def reverted_means_seen_at_zero(self) -> None:
        if self.state.phase is Phase.REVERTED:
            assert self.actual == 0

    @invariant()
    def nothing_is_ordered_while_preparing(self) -> None:
        if self.state.phase is Phase.PREPARING:
            assert self.ordered == 0


RolloutUnderWeather.TestCase.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None
)
TestRolloutUnderWeather = RolloutUnderWeather.TestCase


def test_a_healthy_rollout_finishes() -> None:
    state, actual, now = PREPARING, 0, NOON
    for _ in range(60):
        decision = decide(PLAN, state, Wish(), replace(WELL, weight=actual), now)
        state, actual = decision.state, decision.weight
        now = decision.wake_at or now + timedelta(minutes=1)

    assert state.phase is Phase.SUCCEEDED
