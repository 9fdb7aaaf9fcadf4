"""The part of a policy about serving: how many replicas, with what, and what is kept of requests.

Pure: no database. It is in force as soon as its edition is; a promotion does not freeze it.
"""

from datetime import datetime, time, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WORKDAYS: list[Day] = ["mon", "tue", "wed", "thu", "fri"]
MOST_REPLICAS = 64
LEAST_SHARE = 1e-6  # of requests that are kept


class Part(BaseModel):
    # PostgreSQL's JSON holds neither NaN nor infinity, nor characters that print nothing.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _printable(words: str) -> str:
    if not words.isprintable():
        raise ValueError("only characters that can be seen may stand here")
    return words


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise ValueError(f"there is no time zone {name!r}; write one like Europe/Berlin") from (
            unknown
        )
    return name


Words = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS)]


class Scheduled(Part):
    """At these times there are at least so many replicas, whatever the traffic."""

    at_least: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    days: Annotated[list[Day], Field(min_length=1, max_length=7)] = WORKDAYS
    start: Clock = "08:00"
    end: Clock = Field(default="18:00", description="earlier than start: until the next day")
    timezone: Annotated[str, Field(max_length=60), AfterValidator(_zone)] = "UTC"

    def covers(self, now: datetime) -> bool:
        """It tells whether `now` lies within it, by the clock of its zone."""
        local = now.astimezone(ZoneInfo(self.timezone))
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        today, clock = DAYS[local.weekday()], local.time()
        if start < end:
            return today in self.days and start <= clock < end
        yesterday = DAYS[(local - timedelta(days=1)).weekday()]
        return (today in self.days and clock >= start) or (yesterday in self.days and clock < end)


class Scaling(Part):
    """How many replicas follow the requests in flight."""

    min: Replicas = Field(default=1, description="0: none while nobody asks")
    max: Annotated[int, Field(ge=1, le=MOST_REPLICAS)] = 1
    in_flight_per_replica: Annotated[float, Field(gt=0, le=10_000)] = 4
    down_after_seconds: Annotated[float, Field(ge=0, le=86_400)] = 300
    idle_seconds: Annotated[float, Field(ge=1, le=604_800)] = Field(
        default=600, description="without a request, before the last replica ends (min: 0)"
    )
    scheduled: Annotated[list[Scheduled], Field(max_length=20)] = []

    @model_validator(mode="after")
    def _holds_together(self) -> "Scaling":
        if self.max < self.min:
            raise ValueError("max must be at least min")
        for entry in self.scheduled:
            if entry.at_least > self.max:
                raise ValueError(f"at_least {entry.at_least} is more than max {self.max}")
        return self

    def floor(self, now: datetime) -> int:
        """The fewest replicas that there may be now."""
        return max([self.min, *(one.at_least for one in self.scheduled if one.covers(now))])


class Resources(Part):
    memory_mb: Annotated[int, Field(ge=64, le=4_194_304)] = Field(
        default=4096, description="a replica that takes more is replaced"
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="processes of one replica, each with the model"
    )
    processors: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="that one replica may use at once"
    )


class Limits(Part):
    request_seconds: Annotated[float, Field(gt=0, le=3600)] = 30
    try_seconds: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=10, description="then another replica is asked"
    )
    body_mb: Annotated[float, Field(gt=0, le=1024)] = 16


class Batching(Part):
    """Requests that arrive together are answered by one call of the model."""

    max_rows: Annotated[int, Field(ge=2, le=4096)] = 32
    wait_ms: Annotated[float, Field(ge=0, le=1000)] = 0


def _counts(share: float) -> float:
    # Each row that is kept stands for 1 / share requests.
    if 0 < share < LEAST_SHARE:
        raise ValueError(f"must be 0 or at least {LEAST_SHARE:f}")
    return share


class Capture(Part):
    """What is kept of requests and answers."""

    share: Annotated[float, Field(ge=0, le=1), AfterValidator(_counts)] = Field(
        default=1, description="of the requests; those that failed are always kept"
    )
    redact: Annotated[list[Words], Field(max_length=200)] = Field(
        default=[], description="columns whose values are never written"
    )
    keep_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    keep_gb: Annotated[float, Field(gt=0, le=1_000_000)] | None = None


class Serving(Part):
    scaling: Scaling = Scaling()
    resources: Resources = Resources()
    limits: Limits = Limits()
    batching: Batching | None = None
    capture: Capture = Capture()
    sticky_cookie: bool = Field(
        default=False, description="a cookie keeps browsers on one version while weights grow"
    )
