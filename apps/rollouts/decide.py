"""What a rollout does next. Pure: no clock, no database, no network.

Called on every tick with all it may look at. It trusts what was seen, never what was ordered:
a step counts as reached when the backend reports its weight and its copies, not when we asked for
them.
"""

from dataclasses import replace
from datetime import datetime

from apps.rollouts.lifecycle import Decision, Phase, Plan, Seen, State, Step, Verdict, Wish


def decide(plan: Plan, state: State, wish: Wish, seen: Seen, now: datetime) -> Decision:
    """It says where the rollout stands from now on, and how much traffic it should have."""
    if state.phase is Phase.SUCCEEDED:
        return _at(plan.steps[-1], state, "All steps passed")
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
        return _at(step, held, f"Paused by request at {share(step.weight, step.shadow)}")
    state = replace(state, phase=Phase.PROGRESSING)
    return _at_step(plan, state, step, seen, now)


def percent(weight: int) -> str:
    """It writes thousandths as people read them: 125 is "12.5 %"."""
    return f"{weight / 10:g} %"


def share(weight: int, shadow: int) -> str:
    """It says what a candidate gets: "5 %", or "50 % copied"."""
    return f"{percent(shadow)} copied" if shadow else percent(weight)


def _at(step: Step, state: State, reason: str, wake_at: datetime | None = None) -> Decision:
    return Decision(state, step.weight, reason, step.shadow, wake_at)


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
        step = plan.steps[state.step]
        return f"The analysis failed at {share(step.weight, step.shadow)}: {seen.verdict_reason}"
    return ""


def _going_back(state: State, seen: Seen) -> Decision:
    if (seen.weight, seen.shadow) == (0, 0):
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
    if seen.weight is None or seen.shadow is None:
        return Decision(state, 0, "Waiting for the serving backend to answer")
    return _to(plan, 0, now)


def _to(plan: Plan, place: int, now: datetime) -> Decision:
    step = plan.steps[place]
    return _at(step, State(Phase.PROGRESSING, place), _moving(plan, step), wake_at=now)


def _moving(plan: Plan, step: Step) -> str:
    if step.shadow:
        return _copying(plan, step)
    if step.weight:
        return f"Moving to {percent(step.weight)}"
    return _running_dark(plan)


def _copying(plan: Plan, step: Step) -> str:
    copied = f"{percent(step.shadow)} of requests"
    return f"Copying {copied} to {plan.candidate}, nobody sees its answers"


def _running_dark(plan: Plan) -> str:
    return f"{plan.candidate} runs without traffic, so that people can test it"


def _watching(plan: Plan, step: Step, until: datetime) -> str:
    if step.shadow:
        return f"{_copying(plan, step)}; watching until {until:%H:%M:%S} UTC"
    if step.weight:
        return f"Watching {percent(step.weight)} until {until:%H:%M:%S} UTC"
    return f"{_running_dark(plan)}, until {until:%H:%M:%S} UTC"


def _not_reached(step: Step, seen: Seen) -> str:
    """What is still to be seen before the step counts as reached; "" when it is."""
    if seen.weight is None or seen.shadow is None:
        # Not the same as zero: traffic flows as it did, only nobody tells us.
        return "Waiting for the serving backend to answer"
    if seen.weight != step.weight:
        return f"Waiting for traffic to reach {percent(step.weight)}"
    if seen.shadow != step.shadow:
        return f"Waiting for copies to reach {percent(step.shadow)} of requests"
    return ""


def _at_step(plan: Plan, state: State, step: Step, seen: Seen, now: datetime) -> Decision:
    if missing := _not_reached(step, seen):
        is_silent = seen.weight is None or seen.shadow is None
        return _at(step, state if is_silent else replace(state, reached_at=None), missing)

    state = replace(state, reached_at=state.reached_at or now)
    assert state.reached_at is not None
    good_at = state.reached_at + step.hold
    where = share(step.weight, step.shadow)
    if now < good_at:
        return _at(step, state, _watching(plan, step, good_at))
    if step.analysis and seen.verdict is not Verdict.PASS:
        return _at(step, state, f"Waiting at {where}: {seen.verdict_reason}")
    if not seen.candidate_ready:
        return _at(step, state, f"Waiting at {where}: not all replicas of the candidate are ready")
    if state.step + 1 == len(plan.steps):
        return _at(step, replace(state, phase=Phase.SUCCEEDED), "All steps passed")
    return _to(plan, state.step + 1, now)
