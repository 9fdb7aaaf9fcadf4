"""Questions about incidents and the people who handle them."""

from datetime import datetime, timedelta

from django.db.models import Q, QuerySet

from apps.accounts.models import User
from apps.accounts.selectors import Caller, may, people_who_may, teams_of
from apps.incidents.decide import Cause
from apps.incidents.lifecycle import State
from apps.incidents.models import Alert, Incident

UNRESOLVED = [State.OPEN.value, State.ACKNOWLEDGED.value]


def with_relations(rows: QuerySet[Incident]) -> QuerySet[Incident]:
    return rows.select_related(
        "endpoint__model",
        "endpoint__environment",
        "served__version__model",
        "served__version__registered_by",
        "assignee",
        "acknowledged_by",
        "resolved_by",
    )


def visible_to(user: Caller) -> QuerySet[Incident]:
    return with_relations(Incident.objects.filter(endpoint__model__team__in=teams_of(user)))


def open_count(user: Caller) -> int:
    """How many incidents of the user's teams wait for an end: the number in the navigation."""
    found = Incident.objects.filter(endpoint__model__team__in=teams_of(user))
    return found.filter(state__in=UNRESOLVED).count()


def open_causes(endpoint_id: int) -> list[tuple[int, Cause]]:
    """The open incidents of an endpoint, the oldest first, with what tells their causes."""
    found = Incident.objects.filter(endpoint=endpoint_id, state__in=UNRESOLVED).order_by("pk")
    return [(incident.pk, cause_of(incident)) for incident in found.prefetch_related("alerts")]


def cause_of(incident: Incident) -> Cause:
    alerts = list(incident.alerts.select_related("watch"))
    return Cause(
        incident.served_id,
        (incident.opened_at, *(alert.opened_at for alert in alerts)),
        frozenset(alert.watch.subject for alert in alerts if alert.watch.subject),
    )


def open_alerts(incident: Incident) -> list[Alert]:
    found = incident.alerts.filter(closed_at=None)
    return list(found.select_related("watch__served__version"))


def owners(incident: Incident) -> list[User]:
    """Who is told: whoever runs the endpoint, who registered the version, who is assigned."""
    told = {user.pk: user for user in people_who_may("rollout.steer", incident)}
    registrant = incident.served.version.registered_by if incident.served else None
    for user in (registrant, incident.assignee):
        if user is not None and may(user, "view", incident):
            told[user.pk] = user
    return list(told.values())


def handlers(incident: Incident) -> QuerySet[User]:
    """Who it may be assigned to."""
    return people_who_may("incident.handle", incident).order_by("username")


def of_a_day(now: datetime) -> QuerySet[Incident]:
    """What is open, and what was resolved within the last day."""
    late = Q(resolved_at__gt=now - timedelta(days=1))
    rows = Incident.objects.filter(Q(state__in=UNRESOLVED) | late)
    return with_relations(rows).order_by("-severity", "pk")
