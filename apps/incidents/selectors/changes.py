"""What changed shortly before an incident: the first question of whoever handles it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from apps.audit.models import Event
from apps.core.templatetags.formats import format_rate
from apps.incidents.models import Alert, Incident
from apps.monitoring.selectors import callers
from apps.monitoring.selectors import requests as monitoring

BEFORE = timedelta(hours=24)
NEAR = timedelta(hours=1)
MOST_EVENTS = 50
MUCH = 1.5  # times more or less traffic that is worth a line
LEAST_REQUESTS = 100  # of which shares by caller say something
MOVED = 0.1  # of the requests that are another caller's now
MOST_CALLERS = 3
# What tells of handling, or of looking, changed nothing.
QUIET = ("incident.", "monitor.", "log.", "rollup.", "capture.")


@dataclass(frozen=True)
class Change:
    at: datetime
    words: str
    detail: str
    url: str
    kind: str  # "event", "columns", "traffic" or "callers"


def of(incident: Incident) -> list[Change]:
    """It lists what changed in the day before, the newest first."""
    found = [
        *_events(incident),
        *_columns(incident),
        *_traffic(incident),
        *_callers(incident),
    ]
    return sorted(found, key=lambda change: change.at, reverse=True)


def _events(incident: Incident) -> Iterator[Change]:
    endpoint = incident.endpoint
    rows = Event.objects.filter(
        model_name=endpoint.model.name,
        environment__in=["", endpoint.environment.name],
        team_id=incident.owning_team_id,
        at__gt=incident.opened_at - BEFORE,
        at__lte=incident.opened_at,
    )
    for prefix in QUIET:
        rows = rows.exclude(verb__startswith=prefix)
    for event in rows[:MOST_EVENTS]:
        words = f"{event.verb}: {event.object_label}"
        yield Change(event.at, words, _detail(event), event.url, "event")


def _detail(event: Event) -> str:
    return f"{event.actor_name}: {event.reason}" if event.reason else event.actor_name


def _columns(incident: Incident) -> Iterator[Change]:
    """Columns that callers stopped sending, or send in another form."""
    rows = Alert.objects.filter(
        watch__endpoint=incident.endpoint_id,
        watch__metric__in=["absent_column", "wrong_type", "unseen"],
        opened_at__gt=incident.opened_at - BEFORE,
        opened_at__lte=incident.opened_at + NEAR,
    )
    for alert in rows.select_related("watch").order_by("-rank", "pk")[:10]:
        url = alert.incident.get_absolute_url()
        yield Change(alert.opened_at, "What callers send has changed", alert.words, url, "columns")


def _traffic(incident: Incident) -> Iterator[Change]:
    """The rate of the hour before it began against the same hour of the day before."""
    until = incident.opened_at
    now = _rate(incident, until - NEAR, until)
    before = _rate(incident, until - NEAR - BEFORE, until - BEFORE)
    url = incident.endpoint.get_absolute_url()
    if before and (now > MUCH * before or now < before / MUCH):
        words = f"Traffic: {format_rate(now)} in the hour before, {format_rate(before)} a day ago"
        yield Change(until, words, "", url, "traffic")


def _callers(incident: Incident) -> Iterator[Change]:
    """Callers whose share of the requests in the hour before differs from the day before that."""
    until = incident.opened_at
    now = callers.mix(incident.endpoint, until - NEAR, until)
    before = callers.mix(incident.endpoint, until - NEAR - BEFORE, until - NEAR)
    if min(now.requests, before.requests) < LEAST_REQUESTS:
        return
    names = {*now.shares, *before.shares}
    gaps = {name: now.shares.get(name, 0.0) - before.shares.get(name, 0.0) for name in names}
    moved = sorted(
        (name for name in names if abs(gaps[name]) >= MOVED), key=lambda n: -abs(gaps[n])
    )
    if moved:
        parts = [
            f"{name or 'without a name'} {before.shares.get(name, 0.0):.0%} of the requests,"
            f" now {now.shares.get(name, 0.0):.0%}"
            for name in moved[:MOST_CALLERS]
        ]
        url = incident.endpoint.get_absolute_url()
        yield Change(
            until, "Other callers than in the day before", "; ".join(parts), url, "callers"
        )


def _rate(incident: Incident, since: datetime, until: datetime) -> float:
    sums = monitoring.totals(incident.endpoint, since, until)
    return sum(one.requests for one in sums.values()) / NEAR.total_seconds()
