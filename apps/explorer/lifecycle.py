"""Which states a search and a replay have, and the bounds that both keep."""

from datetime import timedelta
from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({State.DONE, State.FAILED, State.CANCELLED})
UNFINISHED = (State.QUEUED, State.RUNNING)

LONGEST = timedelta(days=31)  # of the log that one search looks through
MOST_ROWS = 100_000
MOST_CONDITIONS = 50
MOST_VALUES = 1_000  # of one "in"
MOST_CHARACTERS = 1_000  # of one value
MOST_WAITING = 5  # unfinished searches of one person, and replays
MOST_REPLAYED = 1_000
KEPT = timedelta(hours=24)
MOST_BYTES = 2_000_000_000  # of all results together
MOST_SPILL_MB = 2_000  # that a search writes beside its memory and removes at its end
REMEMBERED = timedelta(days=31)  # how long a search is listed after its result went
