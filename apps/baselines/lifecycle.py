"""Words of baselines."""

from enum import StrEnum


class Origin(StrEnum):
    """Where the rows of a baseline came from."""

    REFERENCE = "reference"  # a Dataset registered to compare live data with
    TRAINING = "training"  # a Dataset that the version was trained on
    TRAFFIC = "traffic"  # the first requests that it answered: nobody gave reference data


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"  # frozen: nothing of it changes any more
    FAILED = "failed"  # the reason says what to do

    @property
    def is_final(self) -> bool:
        return self in (State.READY, State.FAILED)
