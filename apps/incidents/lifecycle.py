"""The words of monitors, alerts and incidents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    WARNING = "warning"
    CRITICAL = "critical"


class Verdict(StrEnum):
    """What one window says."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"  # not enough data: neither right nor wrong


class WatchState(StrEnum):
    WAITING = "waiting"  # it never had enough data
    QUIET = "quiet"
    FIRING = "firing"  # it has an open alert
    HELD = "held"  # a person resolved it while it was wrong: it must be right before it fires again


class State(StrEnum):
    """Of an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody is on it
    RESOLVED = "resolved"

    @property
    def is_final(self) -> bool:
        return self is State.RESOLVED


class Action(StrEnum):
    """What becomes of a watch after a reading."""

    FIRE = "fire"
    ESCALATE = "escalate"  # its open alert turns from a warning into a critical one
    KEEP = "keep"
    CLEAR = "clear"


@dataclass(frozen=True)
class Reading:
    """What one monitor saw in one window."""

    until: datetime  # end of the window; one that was read before changes nothing
    verdict: Verdict
    words: str  # "errors 4.1 % of 1,204 requests, from 1 % on"; for UNKNOWN: why
    severity: Severity = Severity.WARNING
    value: float | None = None
    smallest: float | None = None  # the smallest value that so much data could have shown as wrong
    smallest_words: str = ""
    headline: str = ""  # short enough for a subject: "Errors 4.1 %"
    evidence: Mapping[str, Any] = field(default_factory=dict)
    rank: float = 0.0  # which of several columns is named first


@dataclass(frozen=True)
class Past:
    """One earlier window that had enough data."""

    until: datetime
    is_wrong: bool
    is_critical: bool = False


@dataclass(frozen=True)
class Need:
    """In how many of the last windows it must be wrong."""

    times: int = 1
    of: int = 1
    within: timedelta = timedelta(days=400)  # windows that ended longer before the last are void


@dataclass(frozen=True)
class Standing:
    """What is recorded of a watch."""

    state: WatchState = WatchState.WAITING
    severity: Severity | None = None  # of the open alert
    history: tuple[Past, ...] = ()  # oldest first


@dataclass(frozen=True)
class Decision:
    action: Action
    standing: Standing
