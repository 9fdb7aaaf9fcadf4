"""The one verb of the audit: record."""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Model as DjangoModel

from apps.accounts.models import User
from apps.audit.models import Event
from apps.core import live

SYSTEM = "portal"


def record(
    verb: str,
    thing: DjangoModel,
    *,
    actor: User | AnonymousUser | None,
    now: datetime,
    model_name: str = "",
    environment: str = "",
    reason: str = "",
    evidence: dict[str, Any] | None = None,
    team_id: int | None = None,
) -> Event:
    """It appends one event, in the transaction of the change that it tells of.

    `team_id`: who may read it, where the thing itself has no owning team.
    """
    person = actor if isinstance(actor, User) else None
    get_url = getattr(thing, "get_absolute_url", None)
    event = Event.objects.create(
        at=now,
        actor=person,
        actor_name=person.get_username() if person else SYSTEM,
        verb=verb,
        object_type=thing._meta.model_name or "",
        object_id=thing.pk,
        object_label=str(thing)[:200],
        url=get_url() if get_url else "",
        team_id=team_id or getattr(thing, "owning_team_id", None),
        model_name=model_name,
        environment=environment,
        reason=reason,
        evidence=evidence or {},
    )
    live.publish("events:all")
    return event
