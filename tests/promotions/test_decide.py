"""Tables of cases, and Hypothesis: whatever people, gates and digests do, no promise is broken."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from apps.promotions.decide import decide
from apps.promotions.lifecycle import (
    NEXT,
    Answer,
    Asked,
    Decision,
    GateState,
    Given,
    Rules,
    Status,
)

NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)
ADA, BEN, GRACE = 1, 2, 3
YES_BEN = Given(BEN, Answer.APPROVE, "d1", "Ben")
YES_GRACE = Given(GRACE, Answer.APPROVE, "d1", "Grace")
WAITING = Asked(
    status=Status.WAITING,
    rules=Rules(approvals=1, requester_may_approve=False, expires_after_hours=24),
    gates=GateState.PASSED,
    gates_reason="Every check passed",
    requester_id=ADA,
    answers=(),
    digest_asked="d1",
    digest_now="d1",
    requested_at=NOON,
)
CHECKING = replace(WAITING, status=Status.CHECKING)
NOBODY = replace(WAITING.rules, approvals=0)
TWO = replace(WAITING.rules, approvals=2)


@pytest.mark.parametrize(
    ("asked", "hours", "expected"),
    [
        (
            replace(CHECKING, gates=GateState.RUNNING),
            0,
            Decision(Status.CHECKING, "Its checks run"),
        ),
        (
            replace(CHECKING, gates=GateState.FAILED, gates_reason="AUC 0.61 is below 0.7"),
            0,
            Decision(Status.REFUSED, "AUC 0.61 is below 0.7"),
        ),
        (CHECKING, 0, Decision(Status.WAITING, "Waiting for the approval of one person")),
        (
            replace(CHECKING, rules=NOBODY),
            0,
            Decision(Status.APPROVED, "Approved by the policy: every check passed"),
        ),
        (
            replace(CHECKING, rules=NOBODY, gates=GateState.UNCLEAR, gates_reason="12 rows"),
            0,
            Decision(Status.REFUSED, "12 rows; the policy asks nobody who could judge it"),
        ),
        (
            replace(CHECKING, gates=GateState.UNCLEAR, gates_reason="12 rows"),
            0,
            Decision(
                Status.WAITING,
                "Waiting for the approval of one person, who must also judge what no check "
                "could: 12 rows",
            ),
        ),
        (
            replace(WAITING, gates=GateState.UNCLEAR, answers=[YES_BEN]),
            0,
            Decision(Status.APPROVED, "Approved by Ben"),
        ),
        (replace(WAITING, answers=[YES_BEN]), 0, Decision(Status.APPROVED, "Approved by Ben")),
        (
            replace(WAITING, answers=[YES_BEN, YES_GRACE], rules=TWO),
            0,
            Decision(Status.APPROVED, "Approved by Ben and Grace"),
        ),
        (
            replace(WAITING, answers=[YES_BEN, YES_BEN], rules=TWO),
            0,
            Decision(Status.WAITING, "Waiting for the approval of one person more"),
        ),
        (
            replace(WAITING, answers=[replace(YES_BEN, user_id=ADA)]),
            0,
            Decision(Status.WAITING, "Waiting for the approval of one person"),
        ),
        (
            replace(
                WAITING,
                answers=[replace(YES_BEN, user_id=ADA, name="Ada")],
                rules=replace(WAITING.rules, requester_may_approve=True),
            ),
            0,
            Decision(Status.APPROVED, "Approved by Ada"),
        ),
        (
            replace(WAITING, answers=[replace(YES_BEN, digest="d0")]),
            0,
            Decision(Status.WAITING, "Waiting for the approval of one person"),
        ),
        (
            replace(
                WAITING,
                answers=[YES_BEN, Given(GRACE, Answer.REJECT, "d1", "Grace", "too risky")],
            ),
            0,
            Decision(Status.REJECTED, "Rejected by Grace: too risky"),
        ),
        (
            replace(WAITING, answers=[Given(GRACE, Answer.REJECT, "d1", "Grace")]),
            0,
            Decision(Status.REJECTED, "Rejected by Grace"),
        ),
        (
            replace(WAITING, answers=[YES_BEN], digest_now="d2"),
            0,
            Decision(
                Status.REFUSED, "The bundle changed after the request was made; request again"
            ),
        ),
        (
            replace(WAITING, status=Status.APPROVED, digest_now="d2"),
            0,
            Decision(Status.REFUSED, "The bundle changed after it was approved; request again"),
        ),
        (replace(WAITING, status=Status.APPROVED), 99, Decision(Status.APPROVED, "Approved")),
        (WAITING, 23.9, Decision(Status.WAITING, "Waiting for the approval of one person")),
        (
            WAITING,
            24,
            Decision(Status.EXPIRED, "Nobody decided within 24 hours; request again"),
        ),
        (CHECKING, 99, Decision(Status.WAITING, "Waiting for the approval of one person")),
        (
            replace(WAITING, status=Status.REJECTED, answers=[YES_BEN]),
            0,
            Decision(Status.REJECTED, "It has ended: rejected"),
        ),
    ],
)
def test_what_becomes_of_it(asked: Asked, hours: float, expected: Decision) -> None:
    assert decide(asked, NOON + timedelta(hours=hours)) == expected


class PromotionUnderWeather(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.asked = replace(CHECKING, status=Status.REFUSED)
        self.approved_by: set[int] = set()
        self.somebody_asks(approvals=1, requester_may=False, requester=ADA)

    @precondition(lambda self: self.asked.status.is_final)
    @rule(
        approvals=st.integers(0, 3),
        requester_may=st.booleans(),
        requester=st.sampled_from([ADA, None]),
    )
    def somebody_asks(self, approvals: int, requester_may: bool, requester: int | None) -> None:
        self.asked = replace(
            CHECKING,
            rules=Rules(approvals, requester_may, 24),
            gates=GateState.RUNNING,
            gates_reason="weather",
            requester_id=requester,
            answers=(),
            digest_now="d1",
            requested_at=self.now,
        )

    @rule()
    def tick(self) -> None:
        before, decision = self.asked, decide(self.asked, self.now)
        assert decision.reason
        assert decide(before, self.now) == decision
        moved = decision.status is not before.status
        if moved:
            assert decision.status in NEXT[before.status]
        if moved and decision.status is Status.APPROVED:
            self.an_approval_was_earned(before)
        if moved and decision.status is Status.EXPIRED:
            assert self.now >= before.requested_at + timedelta(hours=24)
        self.asked = replace(before, status=decision.status)

    def an_approval_was_earned(self, asked: Asked) -> None:
        assert asked.digest_now == asked.digest_asked
        assert asked.gates in (GateState.PASSED, GateState.UNCLEAR)
        assert all(given.answer is Answer.APPROVE for given in asked.answers)
        people = {given.user_id for given in asked.answers if given.digest == asked.digest_asked}
        if not asked.rules.requester_may_approve:
            people.discard(asked.requester_id or 0)
        assert len(people) >= asked.rules.approvals
        if asked.gates is GateState.UNCLEAR:
            assert people, "an unclear check passed by itself"

    @rule(gates=st.sampled_from(GateState))
    def gates_say(self, gates: GateState) -> None:
        self.asked = replace(self.asked, gates=gates)
        self.tick()

    @rule(
        user=st.integers(1, 4),
        answer=st.sampled_from([Answer.APPROVE, Answer.APPROVE, Answer.REJECT]),
        digest=st.sampled_from(["d1", "d1", "d2"]),
    )
    def somebody_answers(self, user: int, answer: Answer, digest: str) -> None:
        given = Given(user, answer, digest, f"user {user}")
        self.asked = replace(self.asked, answers=[*self.asked.answers, given])
        self.tick()

    @rule(digest=st.sampled_from(["d1", "d1", "d2"]))
    def it_is_built_again(self, digest: str) -> None:
        self.asked = replace(self.asked, digest_now=digest)
        self.tick()

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.tick()

    @invariant()
    def what_ended_stays_ended(self) -> None:
        status = self.asked.status
        if status.is_final and status is not Status.APPROVED:
            later = self.now + timedelta(days=999)
            assert decide(self.asked, later).status is status


PromotionUnderWeather.TestCase.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None
)
TestPromotionUnderWeather = PromotionUnderWeather.TestCase
