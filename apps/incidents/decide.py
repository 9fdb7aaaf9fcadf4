"""Whether a monitor fires, goes on or has ended, and which incident an alert belongs to. Pure.

Windows of errors, latency and traffic follow each other without overlap, so that "2 of 3" are
three separate spans of time. Those of drift, data quality and quality are long and end at each
look: there it means three looks, which filters what one look saw by chance at its edge.
"""

from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.incidents.lifecycle import (
    Action,
    Decision,
    Need,
    Past,
    Reading,
    Severity,
    Standing,
    Verdict,
    WatchState,
)

TOGETHER = timedelta(
    minutes=60
)  # alerts that began within it have one cause, until shown otherwise


def decide(standing: Standing, reading: Reading, need: Need, *, is_muted: bool = False) -> Decision:
    """It takes one reading in.

    It fires when `need.times` of the last `need.of` windows were wrong, and clears when the last
    `need.times` were all right. A window without enough data is no window: it neither fires nor
    clears. A muted watch fires nothing; what is open goes on and may clear.
    """
    if reading.verdict is Verdict.UNKNOWN or _is_old(standing, reading):
        return Decision(Action.KEEP, standing)
    history = _recent((*standing.history, _past(reading)), need)
    state = WatchState.QUIET if standing.state is WatchState.WAITING else standing.state
    now = Standing(state, standing.severity, history)
    if state is WatchState.QUIET:
        return _quiet(now, need, is_muted=is_muted)
    if _is_over(history, need):
        action = Action.CLEAR if state is WatchState.FIRING else Action.KEEP
        return Decision(action, Standing(WatchState.QUIET, None, history))
    # Without the last condition it would tell of a milder window, when a mute ends, as critical.
    is_worse = (
        standing.severity is Severity.WARNING
        and _is_critical(history, need)
        and history[-1].is_critical
    )
    if state is WatchState.FIRING and is_worse and not is_muted:
        return Decision(Action.ESCALATE, Standing(state, Severity.CRITICAL, history))
    return Decision(Action.KEEP, now)


def _quiet(now: Standing, need: Need, *, is_muted: bool) -> Decision:
    wrong = sum(past.is_wrong for past in now.history)
    # Without the last condition it would fire at a window that is right again.
    if is_muted or wrong < need.times or not now.history[-1].is_wrong:
        return Decision(Action.KEEP, now)
    severity = Severity.CRITICAL if _is_critical(now.history, need) else Severity.WARNING
    return Decision(Action.FIRE, Standing(WatchState.FIRING, severity, now.history))


def _recent(history: tuple[Past, ...], need: Need) -> tuple[Past, ...]:
    """The windows that count: where data was missing for long, what was before says nothing."""
    last = history[-1].until
    return tuple(past for past in history[-need.of :] if last - past.until <= need.within)


def _past(reading: Reading) -> Past:
    is_wrong = reading.verdict is Verdict.WRONG
    return Past(reading.until, is_wrong, is_wrong and reading.severity is Severity.CRITICAL)


def _is_old(standing: Standing, reading: Reading) -> bool:
    """It was taken in before: a second worker, or a clock that ran backwards."""
    return bool(standing.history) and reading.until <= standing.history[-1].until


def _is_critical(history: tuple[Past, ...], need: Need) -> bool:
    return sum(past.is_critical for past in history) >= need.times


def _is_over(history: tuple[Past, ...], need: Need) -> bool:
    last = history[-need.times :]
    return len(last) == need.times and not any(past.is_wrong for past in last)


@dataclass(frozen=True)
class Cause:
    """What tells one cause from another: of an alert, or of all alerts of an open incident."""

    revision: int | None  # None: the endpoint as a whole
    began_at: tuple[datetime, ...]
    columns: frozenset[str] = frozenset()


def belongs(alert: Cause, incidents: Iterable[tuple[int, Cause]]) -> int | None:
    """It gives the open incident that an alert joins, the oldest that fits; None: a new one.

    They must speak of one revision (or one of them of the endpoint as a whole), and share a column
    or have begun within an hour of each other.
    """
    for key, incident in incidents:
        one_revision = alert.revision == incident.revision or None in (
            alert.revision,
            incident.revision,
        )
        if one_revision and (
            _share(alert.columns, incident.columns) or _near(alert.began_at, incident.began_at)
        ):
            return key
    return None


def _share(one: Set[str], other: Set[str]) -> bool:
    return bool(one & other)


def _near(ones: Iterable[datetime], others: Iterable[datetime]) -> bool:
    begun = tuple(others)
    return any(abs(one - other) <= TOGETHER for one in ones for other in begun)


@dataclass(frozen=True)
class Named:
    """An open alert as a title names it."""

    metric: str
    headline: str  # "Errors 4.1 %"
    column: str = ""
    version: str = ""  # "v3"; "" for the endpoint as a whole
    rank: float = 0.0
    is_critical: bool = False


KINDS = {
    "drift": "Drift",
    "missing": "Missing values",
    "non_finite": "Values that are not finite",
    "unseen": "Unseen values",
    "wrong_type": "Values of the wrong type",
    "absent_column": "Absent columns",
    "out_of_range": "Values out of range",
}
MOST_NAMED = 2
MOST_KINDS = 2


def title(alerts: Iterable[Named]) -> str:
    """It names what is wrong, the worst first: "Drift: distance, dep_delay and 3 more of v3"."""
    kinds: dict[tuple[str, str], list[Named]] = {}
    for alert in sorted(alerts, key=lambda a: (not a.is_critical, not a.headline, -a.rank)):
        kind = (alert.metric if alert.column else alert.headline, alert.version)
        kinds.setdefault(kind, []).append(alert)
    parts = [_part(group) for group in kinds.values()]
    if not parts:
        return "Nothing is wrong any more"
    rest = len(parts) - MOST_KINDS
    words = "; ".join(parts[:MOST_KINDS])
    return f"{words} and {rest} more" if rest > 0 else words


def _part(group: list[Named]) -> str:
    first = group[0]
    of = f" of {first.version}" if first.version else ""
    if not first.column:
        return f"{first.headline}{of}"
    columns = list(dict.fromkeys(a.column for a in sorted(group, key=lambda a: -a.rank)))
    named = ", ".join(columns[:MOST_NAMED])
    more = f" and {len(columns) - MOST_NAMED} more" if len(columns) > MOST_NAMED else ""
    return f"{KINDS.get(first.metric, first.metric)}: {named}{more}{of}"
