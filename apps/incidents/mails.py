"""What people are told about incidents, in words and one picture."""

import logging
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.core.templatetags.formats import format_duration, format_instant
from apps.incidents import figures
from apps.incidents.models import Alert, Incident
from apps.incidents.selectors import incidents as selectors
from apps.monitoring.pictures import png
from apps.notifications.services import tell

log = logging.getLogger(__name__)
MOST_FACTS = 8


def opened(incident: Incident, alerts: Sequence[Alert], now: datetime) -> None:
    """It tells the owners that something is wrong, once."""
    _tell(
        incident,
        "incident.opened",
        "opened",
        f"{_loud(incident)}{incident.title} in {where(incident)}",
        [*_said(alerts), _next(incident)],
        alerts,
        now,
    )


def escalated(incident: Incident, alerts: Sequence[Alert], now: datetime) -> None:
    """It tells them that a warning became critical, once."""
    since = format_duration((now - incident.opened_at).total_seconds())
    _tell(
        incident,
        "incident.escalated",
        "critical",
        f"Now critical: {incident.title} in {where(incident)}",
        [f"Open for {since}, it has become critical.", *_said(alerts), _next(incident)],
        alerts,
        now,
    )


def resolved(incident: Incident, actor: User | None, now: datetime, reason: str = "") -> None:
    """It tells them that it is over, and who or what ended it."""
    lasted = format_duration((now - incident.opened_at).total_seconds())
    by = f"{actor} resolved it" if actor else "It ended by itself: every monitor is right again"
    _tell(
        incident,
        "incident.resolved",
        f"resolved:{now.isoformat()}",
        f"Resolved: {incident.title} in {where(incident)}",
        [f"{by}{f': {reason}' if reason else ''}.".replace("..", "."), f"It was open {lasted}."],
        list(incident.alerts.select_related("watch__served__version")),
        now,
        but=actor,
    )


def digest(user: User, open_: Sequence[Incident], closed: Sequence[Incident], now: datetime) -> int:
    """It lists what is open and what ended within the last day; nothing where there is nothing."""
    if not open_ and not closed:
        return 0
    count = f"{len(open_)} open incident{'' if len(open_) == 1 else 's'}"
    lines = [f"Open: {one.title} in {where(one)}, since {format_instant(one.opened_at)}."
             for one in open_[:20]]  # fmt: skip
    lines += [f"Ended: {one.title} in {where(one)}, by {one.resolved_by or 'itself'}."
              for one in closed[:20]]  # fmt: skip
    return tell(
        users=[user],
        kind="incident.digest",
        key=f"incidents:digest:{now:%Y-%m-%d}",
        subject=f"{count}, {len(closed)} ended within a day",
        sentences=lines,
        facts=[],
        link_path="/incidents",
        button="See all incidents",
        now=now,
    )


def where(incident: Incident) -> str:
    endpoint = incident.endpoint
    return f"{endpoint.name} ({endpoint.environment.name})"


def _loud(incident: Incident) -> str:
    return "Critical: " if incident.severity == "critical" else ""


def _said(alerts: Sequence[Alert]) -> list[str]:
    return [f"{alert.words}." for alert in alerts[:3]]


def _next(incident: Incident) -> str:
    if incident.served is None:
        return "It concerns the endpoint as a whole."
    return f"It concerns {incident.served.version}."


def _tell(
    incident: Incident,
    kind: str,
    key: str,
    subject: str,
    sentences: list[str],
    alerts: Sequence[Alert],
    now: datetime,
    but: User | None = None,
) -> None:
    """No mail while it is muted: the digest and the pages still show it."""
    if incident.is_muted(now):
        return
    tell(
        users=[user for user in selectors.owners(incident) if user != but],
        team_id=incident.owning_team_id,
        kind=kind,
        key=f"incident:{incident.pk}:{key}",
        subject=subject,
        sentences=sentences,
        facts=_facts(incident, alerts),
        link_path=incident.get_absolute_url(),
        button="See the incident",
        now=now,
        picture=_picture(incident, alerts, now),
    )


def _facts(incident: Incident, alerts: Sequence[Alert]) -> list[tuple[str, str]]:
    rest = len(alerts) - MOST_FACTS
    return [
        ("Where", where(incident)),
        ("Since", format_instant(incident.opened_at)),
        ("How bad", incident.severity),
        *[(str(alert.watch), alert.words) for alert in alerts[:MOST_FACTS]],
        *([("And", f"{rest} more")] if rest > 0 else []),
    ]


def _picture(incident: Incident, alerts: Sequence[Alert], now: datetime) -> bytes | None:
    """The chart as it is now; a mail without it says the same in words."""
    try:
        with transaction.atomic():  # a query that fails must not take the incident with it
            chart = figures.of(incident, alerts, now)
        return None if chart is None else png(chart["figure"])
    except Exception:
        # A mail without its chart is worth more than none: the words say it all.
        log.exception("No picture for %s", incident)
        return None
