"""Words of serving. What is wanted and what was seen have different columns and writers."""

from enum import StrEnum


class RevisionWish(StrEnum):
    RUN = "run"
    STOP = "stop"


class RevisionState(StrEnum):
    """What the backend last reported."""

    STARTING = "starting"
    READY = "ready"  # every wanted replica answered /ready with the right digest
    DEGRADED = "degraded"  # some of them
    FAILING = "failing"  # its processes end soon after they start
    ASLEEP = "asleep"  # no replica: the next request starts one and waits for it
    STOPPED = "stopped"
    UNKNOWN = "unknown"  # the backend did not answer


WEIGHT_TOTAL = 1000  # weights are thousandths: 100 = 10 %
# Behind a route's name in the gateway's log: what people try out is no caller's traffic.
TRYING = "!forced"
