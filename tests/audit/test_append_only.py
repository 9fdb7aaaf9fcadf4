from datetime import datetime

import pytest
from django.db import DatabaseError, transaction

from apps.audit.models import Event
from apps.audit.services import record
from tests.people import Cast

pytestmark = pytest.mark.django_db


def test_an_event_can_be_neither_changed_nor_removed(cast: Cast, now: datetime) -> None:
    event = record("team.seen", cast.team, actor=cast.owner, now=now, reason="as it was")

    with pytest.raises(DatabaseError, match="cannot be changed"), transaction.atomic():
        Event.objects.update(reason="rewritten")
    with pytest.raises(DatabaseError, match="cannot be changed"), transaction.atomic():
        event.delete()

    assert [e.reason for e in Event.objects.all()] == ["as it was"]


def test_who_did_it_is_kept_by_name(cast: Cast, now: datetime) -> None:
    by_person = record("team.seen", cast.team, actor=cast.owner, now=now)
    by_product = record("team.seen", cast.team, actor=None, now=now)

    assert (by_person.actor_name, by_product.actor_name) == ("ada", "portal")
    assert by_person.object_label == "Flights"
