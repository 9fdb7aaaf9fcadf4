"""The words a promotion is told in. Plain values, shared by models, services and decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Status(StrEnum):
    CHECKING = "checking"  # its gates run
    WAITING = "waiting"  # for people
    APPROVED = "approved"  # a rollout may take it up
    REJECTED = "rejected"  # a person said no
    REFUSED = "refused"  # the gates, or a change of what was asked about, said no
    CANCELLED = "cancelled"  # whoever asked took it back
    EXPIRED = "expired"  # nobody answered in time

    @property
    def is_final(self) -> bool:
        """Nothing people do changes it any more."""
        return self not in (Status.CHECKING, Status.WAITING)


NEXT: dict[Status, frozenset[Status]] = {
    Status.CHECKING: frozenset(
        {Status.WAITING, Status.APPROVED, Status.REFUSED, Status.CANCELLED, Status.REJECTED}
    ),
    Status.WAITING: frozenset(
        {Status.APPROVED, Status.REJECTED, Status.REFUSED, Status.CANCELLED, Status.EXPIRED}
    ),
    Status.APPROVED: frozenset({Status.REFUSED}),  # what was approved changed before it was applied
    Status.REJECTED: frozenset(),
    Status.REFUSED: frozenset(),
    Status.CANCELLED: frozenset(),
    Status.EXPIRED: frozenset(),
}


class Answer(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"


@dataclass(frozen=True)
class Given:
    """One person's answer."""

    user_id: int
    answer: Answer
    digest: str  # what they looked at
    name: str = ""  # how the reason calls them
    words: str = ""


@dataclass(frozen=True)
class Rules:
    """The policy's part about people, copied when the request was made."""

    approvals: int  # how many people must say yes; 0: the policy itself approves
    requester_may_approve: bool
    expires_after_hours: float


class GateState(StrEnum):
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Asked:
    """Everything `decide` may look at."""

    status: Status
    rules: Rules
    gates: GateState
    gates_reason: str
    requester_id: int | None
    answers: Sequence[Given]
    digest_asked: str  # of the bundle when the promotion was requested
    digest_now: str
    requested_at: datetime


@dataclass(frozen=True)
class Decision:
    status: Status
    reason: str  # for people: what happened or what is waited for
