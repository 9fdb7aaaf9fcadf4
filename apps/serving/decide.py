"""How many replicas a revision should have. Pure: no clock, no database, no network."""

import math
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from apps.registry.serving_policy import Scaling

# A moment's requests say little: one that comes as another goes would add a replica.
AVERAGED_SECONDS = 3.0


@dataclass(frozen=True)
class Wanted:
    replicas: int
    reason: str  # for people; "" where nothing changes


@dataclass
class Watched:
    """What was seen of one revision lately. In memory only: who starts anew waits a whole window
    before it takes anything away."""

    since: float  # when the watching began
    in_flight: deque[tuple[float, float]] = field(default_factory=deque)
    needed: deque[tuple[float, int]] = field(default_factory=deque)
    requests: int = -1
    active_at: float = 0.0

    def __post_init__(self) -> None:
        self.active_at = self.since

    def see(self, *, at: float, in_flight: int, requests: int) -> None:
        """It adds one look; times are monotonic seconds, `requests` counts up."""
        if in_flight or requests != self.requests:
            self.active_at = at
        self.requests = requests
        self.in_flight.append((at, in_flight))
        _forget(self.in_flight, at - AVERAGED_SECONDS)

    def mean(self) -> float:
        """The requests in flight, averaged over the last seconds."""
        if not self.in_flight:
            return 0.0
        return sum(value for _, value in self.in_flight) / len(self.in_flight)


def decide(
    scaling: Scaling, watched: Watched, *, current: int, may_sleep: bool, at: float, now: datetime
) -> Wanted:
    """It follows the requests in flight: up at once, down after a whole window of less.

    `at` is the same clock as `watched`, `now` the calendar's, for what is scheduled.
    """
    floor = scaling.floor(now)
    mean = watched.mean()
    by_load = math.ceil(round(mean / scaling.in_flight_per_replica, 6))
    needed = min(scaling.max, max(by_load, floor, 1))
    watched.needed.append((at, needed))
    _forget(watched.needed, at - scaling.down_after_seconds)
    load = f"{mean:.1f} requests in flight, {scaling.in_flight_per_replica:g} a replica"
    if current == 0:
        # What is asked of a sleeper is in flight at the doorkeeper, who wakes it.
        return Wanted(floor, f"At least {floor} at this time") if floor else Wanted(0, "")
    if needed > current:
        why = f"At least {floor} at this time" if needed == floor else load
        return Wanted(needed, why)
    if current > scaling.max:
        return Wanted(scaling.max, f"At most {scaling.max}")
    idle = at - watched.active_at
    if may_sleep and floor == 0 and idle >= scaling.idle_seconds:
        return Wanted(0, f"Nobody asked for {idle:.0f} s")
    most = max(replicas for _, replicas in watched.needed)
    if most < current and at - watched.since >= scaling.down_after_seconds:
        words = f"No more than {most} were needed for {scaling.down_after_seconds:g} s"
        return Wanted(most, words)
    return Wanted(current, "")


def _forget(seen: deque[tuple[float, float]] | deque[tuple[float, int]], before: float) -> None:
    # The last one always stays: what was seen then holds until the next look.
    while len(seen) > 1 and seen[0][0] < before:
        seen.popleft()
