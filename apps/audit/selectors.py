"""Questions to the audit, among them the one nobody else answers: what served at that moment?"""

from datetime import datetime

from django.db.models import Q, QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.audit.models import Event

TRAFFIC = "traffic.changed"


def visible_to(user: Caller) -> QuerySet[Event]:
    """Events of the user's teams, and those that concern everybody."""
    teams = list(teams_of(user).values_list("pk", flat=True))
    return Event.objects.filter(Q(team_id__in=teams) | Q(team_id=None))


def of_object(object_type: str, object_id: int) -> QuerySet[Event]:
    return Event.objects.filter(object_type=object_type, object_id=object_id)


def traffic_at(*, model_name: str, environment: str, at: datetime) -> Event | None:
    """The change of traffic that was in force at `at`; its evidence holds the split."""
    return (
        Event.objects.filter(
            verb=TRAFFIC, model_name=model_name, environment=environment, at__lte=at
        )
        .order_by("-at", "-pk")
        .first()
    )
