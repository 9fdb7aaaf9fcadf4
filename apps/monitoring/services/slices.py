"""Names parts of an endpoint's rows; what is named is counted from then on, old rows too."""

from datetime import datetime
from typing import Any

from django.db import transaction

from apps.accounts.models import User
from apps.audit import services as audit
from apps.core.errors import Refused
from apps.monitoring import conditions
from apps.monitoring.models import Slice
from apps.monitoring.selectors import slices
from apps.serving.models import Endpoint

MOST_SLICES = 20  # living, of one endpoint: each is counted for every row


class TooManySlices(Refused):
    code = "too_many_slices"


class NameTaken(Refused):
    code = "name_taken"


@transaction.atomic
def create(
    *, endpoint: Endpoint, name: str, condition: list[dict[str, Any]], actor: User, now: datetime
) -> Slice:
    """It names a part of the endpoint's rows.

    Raises: conditions.BadCondition, NameTaken, TooManySlices.
    """
    # Two that make the last one at once would both find room.
    Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    conditions.check(condition, slices.known_columns(endpoint))
    living = Slice.objects.filter(endpoint=endpoint, retired_at=None)
    name = name.strip()
    if not 1 <= len(name) <= 100:
        raise Refused("A slice needs a name of at most 100 characters", "bad_name")
    if living.filter(name=name).exists():
        raise NameTaken(f"There is a slice {name!r} already; retire it first")
    if living.count() >= MOST_SLICES:
        raise TooManySlices(f"{MOST_SLICES} slices are as many as are counted; retire one first")
    made = Slice.objects.create(
        endpoint=endpoint, name=name, condition=condition, created_by=actor, created_at=now
    )
    _record("slice.created", made, actor, now)
    return made


@transaction.atomic
def retire(*, part: Slice, actor: User, now: datetime) -> None:
    """It ends the counting; what was counted stays.

    Raises: Refused when it is retired already.
    """
    if not Slice.objects.filter(pk=part.pk, retired_at=None).update(retired_at=now):
        raise Refused(f"The slice {part.name!r} is retired already", "retired")
    part.refresh_from_db()
    _record("slice.retired", part, actor, now)


def _record(verb: str, part: Slice, actor: User, now: datetime) -> None:
    audit.record(
        verb,
        part,
        actor=actor,
        now=now,
        model_name=part.endpoint.model.name,
        environment=part.endpoint.environment.name,
        evidence={"condition": part.condition},
    )
