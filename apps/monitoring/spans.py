"""The windows of time that people choose, and how long the steps of their charts are. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from apps.monitoring import windows

WINDOWS = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "1y": timedelta(days=365),
}
WORDS = {
    "1h": "1 hour",
    "6h": "6 hours",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "1y": "1 year",
}
LONGEST = timedelta(days=367)
POINTS = 180  # of a chart of requests
STRETCHES = 48  # of a chart of columns, each of which needs rows enough to say something
LATE_SECONDS = 5  # what took longer than this from answer to rollup is seen at the next look
STEPS = (10, 30, 60, 300, 900, 3600, 10_800, 21_600, 86_400)


def step_of_requests(since: datetime, until: datetime, now: datetime) -> int:
    """It gives the seconds of one point in a chart of requests, for about 180 points."""
    return _step((until - since).total_seconds() / POINTS, since, now, windows.ROLLUPS)


def step_of_rows(since: datetime, until: datetime, now: datetime) -> int:
    """It gives the seconds of one stretch in a chart of columns, for about 48 stretches."""
    wanted = max(60.0, (until - since).total_seconds() / STRETCHES)
    return _step(wanted, since, now, windows.TALLIES)


def before(until: datetime, step: int) -> datetime:
    """It gives the last end of a step: the running one would look like a fall."""
    return datetime.fromtimestamp(int(until.timestamp()) // step * step, UTC)


def _step(wanted: float, since: datetime, now: datetime, kept: Mapping[int, timedelta]) -> int:
    step = next((step for step in STEPS if step >= wanted), STEPS[-1])
    return windows.step_for(since, step, windows.oldest(kept, now))[0]
