"""What replicas use of processors and memory, and what is in flight at them, as sums. Pure.

A counter of processor time says what was used between two looks at the same process; memory and
requests in flight are what they were at each look. None: nobody could tell, which is not zero.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from apps.monitoring import windows

WIDTH_SECONDS = 60  # of the spans that looks are counted in
# Seconds of width -> how long it is kept, as of rollups.
KEPT = {width: windows.ROLLUPS[width] for width in (WIDTH_SECONDS, 300, 3_600)}
# What was used between looks further apart than this is not spread over what nobody saw.
LONGEST = timedelta(seconds=60)
# A start is known to the second only: what a first moment used would be far too many processors.
SHORTEST = timedelta(seconds=2)


@dataclass(frozen=True)
class Limits:
    """What one replica may use, by the policy in force at a look. None: all there is."""

    processors: float | None = None
    memory_mb: float | None = None
    in_flight: float | None = None  # that it is to have, before there is another one


@dataclass(frozen=True)
class Look:
    """One replica as its backend read it at one moment."""

    at: datetime
    started_at: datetime | None = None  # of its present process
    processor_seconds: float | None = None  # since then
    memory_mb: int | None = None
    in_flight: int | None = None


@dataclass(frozen=True)
class Known:
    """How far a replica was counted: its last look, and from where its processor time goes on."""

    at: datetime | None = None
    started_at: datetime | None = None
    processor_at: datetime | None = None
    processor_seconds: float = 0.0


@dataclass(frozen=True)
class Used:
    """What one look adds to the span in which it was."""

    processor_seconds: float = 0.0
    measured_seconds: float = 0.0  # in which that was used; 0: nobody could tell
    memory_mb: int | None = None
    in_flight: int | None = None

    @property
    def processors(self) -> float | None:
        """How many were busy, in the mean."""
        return self.processor_seconds / self.measured_seconds if self.measured_seconds else None


def count(known: Known, look: Look) -> tuple[Known, Used] | None:
    """It gives how far the replica is counted now, and what the look adds; None: nothing new.

    A look that was counted, or an older one that comes late, is nothing new. Neither is what comes
    within the minute by which a clock was set back: it would be counted beside what is there.
    """
    if known.at is not None and timedelta(0) <= known.at - look.at <= LONGEST:
        return None
    next_known, seconds, measured = _processor(known, look)
    return next_known, Used(seconds, measured, look.memory_mb, look.in_flight)


def _processor(known: Known, look: Look) -> tuple[Known, float, float]:
    here = Known(look.at, look.started_at, look.at, look.processor_seconds or 0.0)
    if look.processor_seconds is None:
        return replace(here, processor_at=None), 0.0, 0.0
    since, before = known.processor_at, known.processor_seconds
    if known.started_at != look.started_at or known.at is None:
        since, before = look.started_at, 0.0  # another process: all that it used is new
    if since is None or abs(look.at - since) > LONGEST:
        return here, 0.0, 0.0
    has_fallen = look.processor_seconds < before
    if has_fallen and known.at is not None and known.at - since >= SHORTEST:
        # So it had at the look before: that time is lost for good. Waiting for the old figure, what
        # is used meanwhile would count as nothing.
        return here, 0.0, 0.0
    if has_fallen or look.at - since < SHORTEST:
        # A child that ends while all are read is missed once, and stands in its parent's time at
        # the next look: counted on from the lower figure, it would count twice.
        return replace(here, processor_at=since, processor_seconds=before), 0.0, 0.0
    return here, look.processor_seconds - before, (look.at - since).total_seconds()
