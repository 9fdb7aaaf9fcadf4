"""What people do with incidents and monitors. Each verb writes one event."""

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from apps.accounts.models import User
from apps.accounts.selectors import may
from apps.audit.services import record
from apps.core import live
from apps.core.errors import Refused
from apps.core.templatetags.formats import format_instant
from apps.incidents import mails
from apps.incidents.lifecycle import State, WatchState
from apps.incidents.models import Alert, Incident, IncidentNote, Round, Watch
from apps.incidents.selectors import incidents as selectors

LONGEST_MUTE = timedelta(days=31)


class IncidentRefused(Refused):
    code = "incident_refused"


@transaction.atomic
def acknowledge(
    *, incident: Incident, actor: User, now: datetime, revision: int | None = None
) -> Incident:
    """It says that somebody is on it. Raises: IncidentRefused (already_acknowledged,
    incident_resolved, incident_changed)."""
    held = _unresolved(incident, revision)
    if held.state == State.ACKNOWLEDGED:
        raise IncidentRefused(
            f"{held.acknowledged_by} acknowledged it already", "already_acknowledged"
        )
    held.move(state=State.ACKNOWLEDGED, acknowledged_by=actor, acknowledged_at=now,
              assignee=held.assignee or actor)  # fmt: skip
    return _done(held, "acknowledged", actor, now)


@transaction.atomic
def assign(
    *, incident: Incident, to: User | None, actor: User, now: datetime, revision: int | None = None
) -> Incident:
    """It gives the incident to somebody, or to nobody. Raises: IncidentRefused (cannot_handle,
    incident_resolved, incident_changed)."""
    held = _unresolved(incident, revision)
    if to is not None and not may(to, "incident.handle", held):
        raise IncidentRefused(f"{to} may not handle incidents of this team", "cannot_handle")
    held.move(assignee=to)
    return _done(held, "assigned", actor, now, reason=f"to {to}" if to else "to nobody")


@transaction.atomic
def mute(
    *, incident: Incident, until: datetime | None, actor: User, now: datetime,
    revision: int | None = None,
) -> Incident:  # fmt: skip
    """It stops the mails of one incident until a moment; None: they come again. Raises:
    IncidentRefused (until_wrong, incident_resolved, incident_changed)."""
    _check_until(until, now)
    held = _unresolved(incident, revision)
    held.move(muted_until=until)
    return _done(held, "muted" if until else "unmuted", actor, now, reason=_until(until))


@transaction.atomic
def mute_watch(*, watch: Watch, until: datetime | None, actor: User, now: datetime) -> Watch:
    """It stops a monitor from firing until a moment; it goes on reading. Raises: IncidentRefused
    (until_wrong)."""
    _check_until(until, now)
    # A round that settles meanwhile would make watches that know nothing of it.
    Round.objects.select_for_update().filter(endpoint=watch.endpoint_id).first()
    # All of the monitor's columns and revisions: whoever mutes "drift" means drift.
    rows = Watch.objects.filter(endpoint=watch.endpoint_id, rule=watch.rule)
    rows = rows.filter(subject=watch.subject) if watch.subject else rows
    rows.update(muted_until=until)
    watch.muted_until = until
    record(
        "monitor.muted" if until else "monitor.unmuted",
        watch,
        actor=actor,
        now=now,
        model_name=watch.endpoint.model.name,
        environment=watch.endpoint.environment.name,
        reason=_until(until),
    )
    live.publish(f"endpoint:{watch.endpoint_id}")
    return watch


@transaction.atomic
def resolve(
    *, incident: Incident, actor: User, reason: str = "", now: datetime,
    revision: int | None = None,
) -> Incident:  # fmt: skip
    """It ends an incident. What still is wrong fires again only after it was right. Raises:
    IncidentRefused (incident_resolved, incident_changed)."""
    held = _unresolved(incident, revision)
    alerts = Alert.objects.filter(incident=held, closed_at=None)
    watches = Watch.objects.filter(alerts__in=list(alerts.values_list("pk", flat=True)))
    watches.filter(state=WatchState.FIRING).update(state=WatchState.HELD)
    alerts.update(closed_at=now)
    held.move(state=State.RESOLVED, resolved_at=now, resolved_by=actor)
    mails.resolved(held, actor, now, reason=reason.strip())
    return _done(held, "resolved", actor, now, reason=reason.strip())


@transaction.atomic
def reopen(
    *, incident: Incident, actor: User, reason: str = "", now: datetime,
    revision: int | None = None,
) -> Incident:  # fmt: skip
    """It takes a resolved incident up again, with those of its monitors that were only held.

    Raises: IncidentRefused (not_resolved, incident_changed).
    """
    held = _current(incident, revision)
    if not held.is_final:
        raise IncidentRefused("This incident is open already", "not_resolved")
    for watch in Watch.objects.filter(alerts__incident=held, state=WatchState.HELD).distinct():
        last = watch.alerts.order_by("-pk").first()
        if last is not None and last.incident_id == held.pk:
            Alert.objects.filter(pk=last.pk).update(closed_at=None)
            Watch.objects.filter(pk=watch.pk).update(state=WatchState.FIRING)
    held.move(state=State.OPEN, resolved_at=None, resolved_by=None)
    return _done(held, "reopened", actor, now, reason=reason.strip())


@transaction.atomic
def note(*, incident: Incident, text: str, actor: User, now: datetime) -> IncidentNote:
    """It writes down what somebody found out. Raises: IncidentRefused (note_empty)."""
    if not text.strip():
        raise IncidentRefused("Write what there is to say", "note_empty")
    written = IncidentNote.objects.create(
        incident=incident, author=actor, at=now, text=text.strip()
    )
    _done(incident, "noted", actor, now, reason=text.strip()[:500])
    return written


def _current(incident: Incident, revision: int | None) -> Incident:
    """It holds the row. Raises: IncidentRefused when it is not the one that the caller knew."""
    # First what a round holds while it settles: else it would write over what is written here.
    Round.objects.select_for_update().filter(endpoint=incident.endpoint_id).first()
    Incident.objects.select_for_update().get(pk=incident.pk)
    held = selectors.with_relations(Incident.objects.all()).get(pk=incident.pk)
    if revision is not None and held.revision != revision:
        raise IncidentRefused(
            f"It has changed since: it is at revision {held.revision}", "incident_changed"
        )
    return held


def _unresolved(incident: Incident, revision: int | None) -> Incident:
    held = _current(incident, revision)
    if held.is_final:
        who = held.resolved_by or "itself"
        raise IncidentRefused(f"This incident is resolved, by {who}", "incident_resolved")
    return held


def _check_until(until: datetime | None, now: datetime) -> None:
    if until is not None and not now < until <= now + LONGEST_MUTE:
        raise IncidentRefused("Mute until a moment within the next 31 days", "until_wrong")


def _until(until: datetime | None) -> str:
    return f"until {format_instant(until)}" if until else ""


def _done(
    incident: Incident, verb: str, actor: User, now: datetime, reason: str = "", **evidence: Any
) -> Incident:
    record(
        f"incident.{verb}",
        incident,
        actor=actor,
        now=now,
        model_name=incident.endpoint.model.name,
        environment=incident.endpoint.environment.name,
        reason=reason,
        evidence={"number": incident.number, "title": incident.title, **evidence},
    )
    live.publish(f"incident:{incident.pk}")
    live.publish(f"endpoint:{incident.endpoint_id}")
    live.publish("home:all")
    return incident
