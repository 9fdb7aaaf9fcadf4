"""What becomes of a promotion. Pure: no clock, no database, no network.

The same rules judge it when its gates end, when a person answers, when time passes and again
when a rollout would take it up: what was approved must still be what is there.
"""

from datetime import datetime, timedelta

from apps.promotions.lifecycle import Answer, Asked, Decision, GateState, Given, Status


def decide(asked: Asked, now: datetime) -> Decision:
    """It says which status the promotion has from now on, and why."""
    status = asked.status
    if status.is_final and status is not Status.APPROVED:
        return Decision(status, f"It has ended: {status}")

    if asked.digest_now != asked.digest_asked:
        when = "it was approved" if status is Status.APPROVED else "the request was made"
        return Decision(Status.REFUSED, f"The bundle changed after {when}; request again")
    if status is Status.APPROVED:
        return Decision(status, "Approved")

    no = _first_rejection(asked)
    if no is not None:
        who = no.name or "an approver"
        return Decision(Status.REJECTED, f"Rejected by {who}: {no.words}".removesuffix(": "))
    if asked.gates is GateState.FAILED:
        return Decision(Status.REFUSED, asked.gates_reason)
    if asked.gates is GateState.RUNNING:
        # A waiting request never goes back to checking; it only says what it waits for.
        return Decision(status, "Its checks run")
    if asked.rules.approvals == 0:
        return _by_policy(asked)
    return _by_people(asked, now)


def supporters(asked: Asked) -> list[Given]:
    """It lists the approvals that count: one a person, about this bundle, not the requester's."""
    counted: dict[int, Given] = {}
    for given in asked.answers:
        is_own = given.user_id == asked.requester_id
        if given.answer is not Answer.APPROVE or given.digest != asked.digest_asked:
            continue
        if not is_own or asked.rules.requester_may_approve:
            counted.setdefault(given.user_id, given)
    return list(counted.values())


def _by_policy(asked: Asked) -> Decision:
    if asked.gates is GateState.PASSED:
        return Decision(Status.APPROVED, "Approved by the policy: every check passed")
    return Decision(
        Status.REFUSED, f"{asked.gates_reason}; the policy asks nobody who could judge it"
    )


def _by_people(asked: Asked, now: datetime) -> Decision:
    if asked.status is Status.WAITING and now >= asked.requested_at + lifetime(asked):
        hours = f"{asked.rules.expires_after_hours:g}"
        return Decision(Status.EXPIRED, f"Nobody decided within {hours} hours; request again")
    yes = supporters(asked)
    # An answer given while the checks ran would be one about checks that nobody had read yet.
    if asked.status is Status.WAITING and len(yes) >= asked.rules.approvals:
        names = " and ".join(given.name or "an approver" for given in yes)
        return Decision(Status.APPROVED, f"Approved by {names}")
    return Decision(Status.WAITING, _waiting_for(asked, len(yes)))


def lifetime(asked: Asked) -> timedelta:
    return timedelta(hours=asked.rules.expires_after_hours)


def _first_rejection(asked: Asked) -> Given | None:
    return next((given for given in asked.answers if given.answer is Answer.REJECT), None)


def _waiting_for(asked: Asked, have: int) -> str:
    missing = asked.rules.approvals - have
    people = "one person" if missing == 1 else f"{missing} people"
    more = " more" if have else ""
    words = f"Waiting for the approval of {people}{more}"
    if asked.gates is GateState.UNCLEAR:
        return f"{words}, who must also judge what no check could: {asked.gates_reason}"
    return words
