"""The part of a policy about monitors: what is watched, and when people are told.

Pure: no database. In force as soon as its edition is.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from apps.registry.serving_policy import Part, Words

MINUTE, HOUR, DAY = 60, 3600, 86_400
SHORTEST_SECONDS, LONGEST_SECONDS = MINUTE, 30 * DAY
UNITS = {"s": 1, "m": MINUTE, "min": MINUTE, "h": HOUR, "d": DAY}
FRESHNESS_SECONDS = 15 * MINUTE

SHARES = ("errors", "rejected")  # of requests
COLUMN_SHARES = (  # of rows
    "missing", "non_finite", "unseen", "wrong_type", "absent_column", "out_of_range",
)  # fmt: skip
COLUMNS = ("drift", *COLUMN_SHARES)
LATENCIES = ("latency_p50", "latency_p95", "latency_p99")
OF_ENDPOINT = ("freshness", "traffic", "labels", "capture_dropped", "saturation")
FAMILIES = ("quality", "estimated")
METRICS = (*COLUMNS, *SHARES, *LATENCIES, *OF_ENDPOINT)
HIGH_ONLY = (*SHARES, "freshness", "capture_dropped", "saturation")  # fewer is never worse
# Without a limit of their own these follow the baseline and the rule of drift.
BY_BASELINE = COLUMNS
# Windows of these end at each look; all others are counted one after the other.
ROLLING = (*COLUMNS, "labels", "freshness", "saturation")

MOMENTARY = ("freshness", "saturation")  # how it is now; the window only tells what is usual

Severity = Literal["warning", "critical"]


def _seconds(given: Any) -> Any:
    """A window as people write it: 900, "900 s", "15 min", "1 h", "1 d"."""
    if isinstance(given, str):
        found = re.fullmatch(r"(\d{1,9})\s*(s|m|min|h|d)", given.strip())
        if not found:
            raise ValueError('write a window like "15 min", "1 h" or "1 d", or as seconds')
        return int(found[1]) * UNITS[found[2]]
    return given


Window = Annotated[
    int,
    Field(ge=SHORTEST_SECONDS, le=LONGEST_SECONDS),
    BeforeValidator(_seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": SHORTEST_SECONDS, "maximum": LONGEST_SECONDS},
                {"type": "string", "pattern": r"^\s*\d{1,9}\s*(s|m|min|h|d)\s*$"},
            ],
            "description": 'seconds, or text like "15 min", "1 h", "1 d"; from 1 min to 30 d',
        }
    ),
]


class For(Part):
    """In how many of the last windows it must be wrong; it ends after as many right ones."""

    times: Annotated[int, Field(ge=1, le=20)] = 1
    of: Annotated[int, Field(ge=1, le=20)] = 1

    @model_validator(mode="after")
    def _fits(self) -> "For":
        if self.times > self.of:
            raise ValueError("`times` must not be more than `of`")
        return self


class Rule(Part):
    """One monitor: it is wrong while its metric, over the window, is past the limit."""

    model_config = ConfigDict(serialize_by_alias=True)  # `for` is a word of Python's

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.:-]{0,59}$")]
    metric: Annotated[str, Field(max_length=60)]
    window: Window = HOUR
    at_least: float | None = Field(default=None, description="wrong from this value upwards")
    at_most: float | None = Field(default=None, description="wrong from this value downwards")
    times_previous: Annotated[float, Field(gt=1, le=1000)] | None = Field(
        default=None, description="latency: wrong from so many times the previous day's"
    )
    plus_ms: Annotated[float, Field(ge=0, le=3_600_000)] = Field(
        default=0, description="latency: and so much above the previous day's"
    )
    drop: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="quality: wrong when worse than the reference by more than this"
    )
    enough: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        default=100, description="requests, rows or labels below which nothing is said"
    )
    severity: Severity = "warning"
    for_: For = Field(default=For(), alias="for")
    columns: Annotated[list[Words], Field(max_length=500)] = Field(
        default=[], description="only these; without: all"
    )
    slice: Words | None = None
    against: Literal["baseline", "previous"] = "baseline"
    mute: bool = Field(default=False, description="watched and shown, and nobody is told")

    @property
    def is_rolling(self) -> bool:
        return self.metric in ROLLING or self.family in FAMILIES

    @property
    def family(self) -> str:
        return self.metric.partition(":")[0]

    @property
    def step_seconds(self) -> int:
        """How far apart the ends of its windows lie."""
        if self.metric in MOMENTARY:
            return MINUTE
        return min(HOUR, max(MINUTE, self.window // 288)) if self.is_rolling else self.window

    @model_validator(mode="after")
    def _holds_together(self) -> "Rule":
        _check_metric(self)
        _check_limits(self)
        if self.columns and self.metric not in COLUMNS:
            raise ValueError(f"{self.metric} has no columns; leave `columns` out")
        if self.slice and self.metric not in COLUMNS and self.family not in FAMILIES:
            raise ValueError(f"{self.metric} cannot be told for a slice; leave `slice` out")
        if self.against == "previous" and self.metric not in COLUMNS:
            raise ValueError("`against: previous` is for drift and data quality")
        return self


def _check_metric(rule: Rule) -> None:
    _, _, name = rule.metric.partition(":")
    is_family = rule.family in FAMILIES and bool(re.fullmatch(r"[a-z][a-z0-9_]*", name))
    if rule.metric not in METRICS and not is_family:
        known = ", ".join((*METRICS, *(f"{family}:<metric>" for family in FAMILIES)))
        raise ValueError(f"there is no metric {rule.metric!r}; there are: {known}")


def _check_limits(rule: Rule) -> None:
    given = [rule.at_least, rule.at_most, rule.times_previous, rule.drop]
    count = sum(limit is not None for limit in given)
    if count > 1:
        raise ValueError("give one limit: at_least, at_most, times_previous or drop")
    if not count and rule.metric not in (*BY_BASELINE, "freshness"):
        raise ValueError(f"{rule.metric} needs a limit: {_limits_of(rule)}")
    if rule.times_previous is not None and rule.metric not in LATENCIES:
        raise ValueError("`times_previous` is for latency")
    if rule.drop is not None and rule.family not in FAMILIES:
        raise ValueError("`drop` is for quality and estimated")
    if rule.at_most is not None and rule.metric in HIGH_ONLY:
        raise ValueError(f"{rule.metric} can only be too high; give `at_least`")
    if rule.at_most is not None and rule.metric in (*COLUMNS, *LATENCIES):
        raise ValueError(f"{rule.metric} can only be too high; give `at_least`")


def _limits_of(rule: Rule) -> str:
    if rule.metric in LATENCIES:
        return "at_least (ms) or times_previous"
    if rule.family in FAMILIES:
        return "drop, at_most or at_least"
    return "at_least" if rule.metric in HIGH_ONLY else "at_least or at_most"


_TWO_OF_THREE = {"times": 2, "of": 3}
_DEFAULTS: list[dict[str, Any]] = [
    {"name": "drift", "metric": "drift", "window": DAY, "enough": 500, "for": _TWO_OF_THREE},
    *(
        {"name": metric.replace("_", "-"), "metric": metric, "window": HOUR, "enough": 500,
         "for": _TWO_OF_THREE}
        for metric in COLUMN_SHARES
    ),
    {"name": "errors", "metric": "errors", "window": 5 * MINUTE, "at_least": 0.01,
     "for": _TWO_OF_THREE},
    {"name": "outage", "metric": "errors", "window": MINUTE, "at_least": 0.25, "enough": 20,
     "severity": "critical", "for": {"times": 2, "of": 2}},
    {"name": "latency-p95", "metric": "latency_p95", "window": 15 * MINUTE, "times_previous": 2,
     "plus_ms": 20, "for": _TWO_OF_THREE},
    {"name": "freshness", "metric": "freshness", "window": 7 * DAY},
    {"name": "quality", "metric": "quality:main", "window": 7 * DAY, "drop": 0.05, "enough": 200},
    {"name": "telemetry", "metric": "capture_dropped", "window": 5 * MINUTE, "at_least": 1},
]  # fmt: skip
DEFAULTS = tuple(Rule.model_validate(rule) for rule in _DEFAULTS)


class Monitors(Part):
    """What is watched on an endpoint. A rule with a default's name takes its place."""

    defaults: bool = Field(default=True, description="the rules that every endpoint has")
    rules: Annotated[list[Rule], Field(max_length=100)] = Field(default=[])

    @model_validator(mode="after")
    def _names_are_one(self) -> "Monitors":
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are named {twice[0]}")
        return self

    @property
    def in_force(self) -> tuple[Rule, ...]:
        own = {rule.name for rule in self.rules}
        kept = DEFAULTS if self.defaults else ()
        return (*(rule for rule in kept if rule.name not in own), *self.rules)


def monitors_of(document: dict[str, Any], environment: str) -> Monitors:
    """The monitors of a checked document; the defaults where it does not know the environment."""
    part = document.get("environments", {}).get(environment, {}).get("monitors", {})
    return Monitors.model_validate(part)
