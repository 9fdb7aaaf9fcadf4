"""The words a rollout is told in. Plain values, shared by models, services and decide."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Phase(StrEnum):
    PREPARING = "preparing"  # the candidate's replicas start; no traffic yet
    PROGRESSING = "progressing"  # walking through the steps
    PAUSED = "paused"  # held where it stands, by a person
    REVERTING = "reverting"  # traffic is on its way back to the stable revision
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"

    @property
    def is_final(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.REVERTED)


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNCLEAR = "unclear"  # too little data, or the metric source did not answer


@dataclass(frozen=True)
class Step:
    weight: int  # thousandths of traffic on the candidate
    hold: timedelta  # how long it must stay good there
    analysis: bool  # whether leaving it needs a passed analysis
    shadow: int = 0  # thousandths of the requests copied to the candidate; its weight is 0 then


@dataclass(frozen=True)
class Plan:
    """What was frozen when the rollout started."""

    steps: tuple[Step, ...]
    prepare_until: datetime  # a candidate that is not ready by then is given up
    candidate: str = "the candidate"  # as people call it: "v3"


@dataclass(frozen=True)
class Wish:
    """What people asked for. Only services write it; only `decide` reads it."""

    pause: bool = False
    abort: bool = False
    abort_reason: str = ""


@dataclass(frozen=True)
class Seen:
    """What the world reports, gathered once per tick by the reconciler."""

    weight: int | None  # thousandths on the candidate; None: the backend did not answer
    candidate_ready: bool
    candidate_failing: str  # why its replicas do not stay up; "" while they may still come
    verdict: Verdict
    verdict_reason: str
    digest_ok: bool  # the bundle is still the one that was approved
    shadow: int | None = 0  # thousandths copied to the candidate; None: nobody could say


@dataclass(frozen=True)
class State:
    """What we have recorded. Changed only by `decide`."""

    phase: Phase
    step: int
    reached_at: datetime | None = None  # when traffic was first seen at this step's weight
    cause: str = ""  # why it goes back; said again when it is back


@dataclass(frozen=True)
class Decision:
    state: State
    weight: int  # thousandths of the traffic that the candidate should have from now on
    reason: str  # shown to people and written to the audit
    shadow: int = 0  # thousandths of the requests to copy to it, whose answers nobody sees
    wake_at: datetime | None = None  # None: the next regular sweep is early enough
