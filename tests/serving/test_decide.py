"""How many replicas there should be, given what is in flight. Times are seconds on one clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from apps.registry.serving_policy import Scaling, Scheduled
from apps.serving.decide import Wanted, Watched, decide

MONDAY = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)
SUNDAY = datetime(2030, 1, 6, 12, 0, tzinfo=UTC)
OFFICE = Scheduled(at_least=4, start="08:00", end="18:00")
BERLIN = Scheduled(at_least=4, start="08:00", end="18:00", timezone="Europe/Berlin")


def after(seen: list[tuple[float, int]], *, since: float = 0.0) -> Watched:
    """What was watched when so many requests were in flight at these times."""
    watched = Watched(since=since)
    for number, (at, in_flight) in enumerate(seen):
        watched.see(at=at, in_flight=in_flight, requests=number if in_flight else 0)
    return watched


@pytest.mark.parametrize(
    ("scaling", "seen", "current", "now", "expected"),
    [
        # Fifteen in flight, four a replica: four replicas, at once.
        (
            Scaling(min=1, max=8),
            [(10.0, 15)],
            1,
            SUNDAY,
            Wanted(4, "15.0 requests in flight, 4 a replica"),
        ),
        # Only the mean of the last three seconds counts: (16 + 8 + 0) / 3 = 8.
        (
            Scaling(min=1, max=8),
            [(0.0, 99), (8.0, 16), (9.0, 8), (10.0, 0)],
            1,
            SUNDAY,
            Wanted(2, "8.0 requests in flight, 4 a replica"),
        ),
        (
            Scaling(min=1, max=3),
            [(10.0, 90)],
            1,
            SUNDAY,
            Wanted(3, "90.0 requests in flight, 4 a replica"),
        ),
        (Scaling(min=2, max=8), [(10.0, 1)], 2, SUNDAY, Wanted(2, "")),
        (
            Scaling(min=1, max=8, scheduled=[OFFICE]),
            [(10.0, 1)],
            1,
            MONDAY,
            Wanted(4, "At least 4 at this time"),
        ),
        (Scaling(min=1, max=8, scheduled=[OFFICE]), [(10.0, 1)], 1, SUNDAY, Wanted(1, "")),
        # A policy with a lower most counts at once.
        (Scaling(min=1, max=2), [(10.0, 90)], 5, SUNDAY, Wanted(2, "At most 2")),
        # Asleep: what is scheduled wakes it, and the doorkeeper when somebody comes.
        (Scaling(min=0, max=2), [(10.0, 0)], 0, SUNDAY, Wanted(0, "")),
        (Scaling(min=0, max=2), [(10.0, 1)], 0, SUNDAY, Wanted(0, "")),
        (
            Scaling(min=0, max=4, scheduled=[OFFICE]),
            [(10.0, 0)],
            0,
            MONDAY,
            Wanted(4, "At least 4 at this time"),
        ),
    ],
)
def test_replicas_follow_what_is_in_flight(
    scaling: Scaling,
    seen: list[tuple[float, int]],
    current: int,
    now: datetime,
    expected: Wanted,
) -> None:
    watched = after(seen)
    assert decide(scaling, watched, current=current, may_sleep=True, at=10.0, now=now) == expected


def test_it_goes_down_after_a_whole_window_and_only_as_far_as_the_window_needed() -> None:
    scaling = Scaling(min=1, max=8, in_flight_per_replica=1, down_after_seconds=60)
    watched = Watched(since=0.0)
    wanted = []
    for at, in_flight in [(0, 4), (10, 4), (20, 2), (60, 2), (71, 2), (100, 1), (132, 1), (161, 1)]:
        watched.see(at=at, in_flight=in_flight, requests=at)
        found = decide(scaling, watched, current=4, may_sleep=True, at=at, now=SUNDAY)
        wanted.append(found.replicas)
    # Until 71 the window still holds the moment that needed four; until 132 it holds two.
    assert wanted == [4, 4, 4, 4, 2, 2, 1, 1]


def test_who_watches_since_a_moment_ago_takes_nothing_away() -> None:
    scaling = Scaling(min=1, max=8, down_after_seconds=60)
    watched = after([(100.0, 0)], since=100.0)
    assert decide(scaling, watched, current=4, may_sleep=True, at=159.0, now=SUNDAY).replicas == 4
    assert decide(scaling, watched, current=4, may_sleep=True, at=160.0, now=SUNDAY) == Wanted(
        1, "No more than 1 were needed for 60 s"
    )


@pytest.mark.parametrize(
    ("may_sleep", "at", "expected"),
    [
        (True, 39.0, Wanted(1, "")),
        (True, 40.0, Wanted(0, "Nobody asked for 30 s")),
        (False, 40.0, Wanted(1, "")),
    ],
)
def test_it_sleeps_when_nobody_asked_for_long_enough(
    may_sleep: bool, at: float, expected: Wanted
) -> None:
    scaling = Scaling(min=0, max=2, idle_seconds=30, down_after_seconds=1000)
    watched = after([(10.0, 1)])
    found = decide(scaling, watched, current=1, may_sleep=may_sleep, at=at, now=SUNDAY)
    assert found == expected


def test_requests_between_two_looks_keep_it_awake() -> None:
    watched = Watched(since=0.0)
    watched.see(at=10.0, in_flight=0, requests=5)
    watched.see(at=20.0, in_flight=0, requests=6)
    assert watched.active_at == 20.0
    watched.see(at=30.0, in_flight=0, requests=6)
    assert watched.active_at == 20.0


@pytest.mark.parametrize(
    ("entry", "moment", "expected"),
    [
        (OFFICE, "2030-01-07T07:59:59+00:00", False),
        (OFFICE, "2030-01-07T08:00:00+00:00", True),
        (OFFICE, "2030-01-07T17:59:59+00:00", True),
        (OFFICE, "2030-01-07T18:00:00+00:00", False),
        (OFFICE, "2030-01-06T12:00:00+00:00", False),  # a Sunday
        # By the clock of its zone, in summer and in winter.
        (
            OFFICE.model_copy(update={"timezone": "Europe/Berlin"}),
            "2030-01-07T07:00:00+00:00",
            True,
        ),
        (
            OFFICE.model_copy(update={"timezone": "Europe/Berlin"}),
            "2030-07-01T06:00:00+00:00",
            True,
        ),
        # Over midnight: Friday's night reaches into Saturday, Sunday's is not among its days.
        (Scheduled(at_least=1, start="22:00", end="06:00"), "2030-01-12T05:59:00+00:00", True),
        (Scheduled(at_least=1, start="22:00", end="06:00"), "2030-01-07T05:59:00+00:00", False),
        (Scheduled(at_least=1, start="22:00", end="06:00"), "2030-01-07T22:00:00+00:00", True),
    ],
)
def test_schedules_go_by_the_clock_of_their_zone(
    entry: Scheduled, moment: str, expected: bool
) -> None:
    assert entry.covers(datetime.fromisoformat(moment)) is expected
