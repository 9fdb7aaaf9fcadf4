"""What a rollout does next. Pure: no clock, no database, no network.

Called on every tick with all it may look at. It trusts what was seen, never what was ordered:
a step counts as reached when the backend reports its weight, not when we asked for it.
"""

from dataclasses import replace
from datetime import datetime

from apps.rollouts.lifecycle import Decision, Phase, Plan, Seen, State, Step, Verdict, Wish


def decide(plan: Plan, state: State, wish: Wish, seen: Seen, now: datetime) -> Decision:
    """It says where the rollout stands from now on, and how much traffic it should have."""
    if state.phase is Phase.SUCCEEDED:
        return Decision(state, plan.steps[-1].weight, "All steps passed")
    if state.phase is Phase.REVERTED:
        return Decision(state, 0, _back(state))
    if state.phase is Phase.REVERTING:
        return _going_back(state, seen)

    cause = _cause_to_go_back(plan, state, wish, seen, now)
    if cause:
        # Even where zero is seen: what was ordered a moment ago may only be on its way.
        back = replace(state, phase=Phase.REVERTING, cause=cause, reached_at=None)
        return Decision(back, 0, _going(back), wake_at=now)
    if state.phase is Phase.PREPARING:
        return _preparing(plan, state, wish, seen, now)

    step = plan.steps[state.step]
    if wish.pause:
        # Held time does not count as watched time.
        held = replace(state, phase=Phase.PAUSED, reached_at=None)
        return Decision(held, step.weight, f"Paused by request at {percent(step.weight)}")
    state = replace(state, phase=Phase.PROGRESSING)
    return _at_step(plan, state, step, seen, now)


def percent(weight: int) -> str:
    """It writes thousandths as people read them: 125 is "12.5 %"."""
    return f"{weight / 10:g} %"


def _cause_to_go_back(plan: Plan, state: State, wish: Wish, seen: Seen, now: datetime) -> str:
    if wish.abort:
        return f"Aborted by request: {wish.abort_reason}".removesuffix(": ")
    if not seen.digest_ok:
        return "The bundle changed after it was approved"
    if seen.candidate_failing:
        return f"The candidate's replicas do not stay up: {seen.candidate_failing}"
    if state.phase is Phase.PREPARING:
        late = not seen.candidate_ready and now >= plan.prepare_until
        return "The candidate's replicas were not ready in time" if late else ""
    if seen.verdict is Verdict.FAIL:
        weight = plan.steps[state.step].weight
        return f"The analysis failed at {percent(weight)}: {seen.verdict_reason}"
    return ""


def _going_back(state: State, seen: Seen) -> Decision:
    if seen.weight == 0:
        return Decision(replace(state, phase=Phase.REVERTED), 0, _back(state))
    return Decision(state, 0, _going(state))


def _going(state: State) -> str:
    return f"Going back, no traffic to the candidate. {state.cause}"


def _back(state: State) -> str:
    return f"Rolled back. {state.cause}"


def _preparing(plan: Plan, state: State, wish: Wish, seen: Seen, now: datetime) -> Decision:
    if not seen.candidate_ready:
        return Decision(state, 0, "Waiting for the candidate's replicas to be ready")
    if wish.pause:
        return Decision(state, 0, "Paused by request before traffic moves")
    if seen.weight is None:
        return Decision(state, 0, "Waiting for the serving backend to answer")
    first = plan.steps[0].weight
    started = State(Phase.PROGRESSING, 0)
    return Decision(started, first, f"Moving to {percent(first)}", wake_at=now)


def _at_step(plan: Plan, state: State, step: Step, seen: Seen, now: datetime) -> Decision:
    share = percent(step.weight)
    if seen.weight is None:
        # Not the same as zero: traffic flows as it did, only nobody tells us.
        return Decision(state, step.weight, "Waiting for the serving backend to answer")
    if seen.weight != step.weight:
        unreached = replace(state, reached_at=None)
        return Decision(unreached, step.weight, f"Waiting for traffic to reach {share}")

    state = replace(state, reached_at=state.reached_at or now)
    assert state.reached_at is not None
    good_at = state.reached_at + step.hold
    if now < good_at:
        return Decision(state, step.weight, f"Watching {share} until {good_at:%H:%M:%S} UTC")
    if step.analysis and seen.verdict is not Verdict.PASS:
        return Decision(state, step.weight, f"Waiting at {share}: {seen.verdict_reason}")
    if not seen.candidate_ready:
        return Decision(
            state, step.weight, f"Waiting at {share}: not all replicas of the candidate are ready"
        )
    if state.step + 1 == len(plan.steps):
        return Decision(replace(state, phase=Phase.SUCCEEDED), step.weight, "All steps passed")
    following = plan.steps[state.step + 1].weight
    moved = State(Phase.PROGRESSING, state.step + 1)
    return Decision(moved, following, f"Moving to {percent(following)}", wake_at=now)
