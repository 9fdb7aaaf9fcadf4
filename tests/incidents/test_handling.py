"""What people do with an incident: each verb once, with its event, or a refusal with no change."""

from datetime import datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from apps.audit.models import Event
from apps.incidents.models import Alert, Incident, Round, Watch
from apps.incidents.services import handling
from apps.incidents.services.handling import IncidentRefused
from apps.notifications.models import Delivery
from tests import people
from tests.factories.incidents import AlertFactory, IncidentFactory
from tests.incidents.stage import stage
from tests.people import Cast


@pytest.fixture
def incident(cast: Cast, now: datetime) -> Incident:
    built = stage(cast, now)
    found = IncidentFactory.create(endpoint=built.endpoint, served=built.stable)
    AlertFactory.create(incident=found)
    return found


def events() -> list[tuple[str, str, str]]:
    rows = Event.objects.filter(verb__startswith="incident.").order_by("pk")
    return list(rows.values_list("verb", "actor_name", "reason"))


def test_acknowledged_by_one(incident: Incident, cast: Cast, now: datetime) -> None:
    handling.acknowledge(incident=incident, actor=cast.operator, now=now)
    with pytest.raises(IncidentRefused) as refused:
        handling.acknowledge(incident=incident, actor=cast.owner, now=now)

    assert refused.value.message == "otto acknowledged it already"
    incident.refresh_from_db()
    assert (incident.state, incident.acknowledged_by, incident.assignee) == (
        "acknowledged",
        cast.operator,
        cast.operator,
    )
    assert events() == [("incident.acknowledged", "otto", "")]


def test_assigned_to_who_may_handle_it(incident: Incident, cast: Cast, now: datetime) -> None:
    given: dict[str, Any] = {"incident": incident, "actor": cast.operator, "now": now}
    handling.assign(to=cast.owner, **given)
    for nobody in (cast.viewer, cast.stranger):
        with pytest.raises(IncidentRefused) as refused:
            handling.assign(to=nobody, **given)
        assert refused.value.code == "cannot_handle"
    incident.refresh_from_db()
    assert incident.assignee == cast.owner
    handling.assign(to=None, **given)
    assert [reason for _, _, reason in events()] == ["to ada", "to nobody"]


def test_resolved_once_and_its_monitor_is_held(
    incident: Incident, cast: Cast, now: datetime
) -> None:
    handling.resolve(incident=incident, actor=cast.operator, reason=" Known ", now=now)
    with pytest.raises(IncidentRefused) as refused:
        handling.resolve(incident=incident, actor=cast.operator, now=now)

    assert refused.value.message == "This incident is resolved, by otto"
    incident.refresh_from_db()
    assert (incident.state, incident.resolved_at, incident.resolved_by) == (
        "resolved",
        now,
        cast.operator,
    )
    assert (Alert.objects.get().closed_at, Watch.objects.get().state) == (now, "held")
    assert events() == [("incident.resolved", "otto", "Known")]
    mails = Delivery.objects.order_by("user__username")
    assert [mail.user.username for mail in mails] == ["ada", "dora"]  # otto knows
    assert "otto resolved it: Known." in mails[0].text


def test_reopened_it_is_as_it_was(incident: Incident, cast: Cast, now: datetime) -> None:
    with pytest.raises(IncidentRefused) as refused:
        handling.reopen(incident=incident, actor=cast.operator, now=now)
    assert refused.value.code == "not_resolved"
    handling.resolve(incident=incident, actor=cast.operator, now=now)
    handling.reopen(incident=incident, actor=cast.owner, reason="Not over", now=now)

    incident.refresh_from_db()
    assert (incident.state, incident.resolved_at, incident.resolved_by) == ("open", None, None)
    assert (Alert.objects.get().closed_at, Watch.objects.get().state) == (None, "firing")


@pytest.mark.parametrize("hours", [0, -1, 31 * 24 + 1])
def test_muted_for_a_time_that_can_be(
    incident: Incident, cast: Cast, now: datetime, hours: int
) -> None:
    given: dict[str, Any] = {"actor": cast.operator, "now": now}
    until = now + timedelta(hours=hours)
    for call in (
        lambda: handling.mute(incident=incident, until=until, **given),
        lambda: handling.mute_watch(watch=Watch.objects.get(), until=until, **given),
    ):
        with pytest.raises(IncidentRefused) as refused:
            call()
        assert refused.value.code == "until_wrong"
    incident.refresh_from_db()
    assert (incident.muted_until, Watch.objects.get().muted_until, events()) == (None, None, [])


def test_a_stale_write_changes_nothing(incident: Incident, cast: Cast, now: datetime) -> None:
    handling.assign(incident=incident, to=cast.owner, actor=cast.operator, now=now, revision=0)
    with pytest.raises(IncidentRefused) as refused:
        handling.resolve(incident=incident, actor=cast.operator, now=now, revision=0)
    assert refused.value.message == "It has changed since: it is at revision 1"
    incident.refresh_from_db()
    assert incident.state == "open"


def test_notes_are_kept_and_say_something(incident: Incident, cast: Cast, now: datetime) -> None:
    handling.note(incident=incident, text=" The table moved ", actor=cast.owner, now=now)
    with pytest.raises(IncidentRefused):
        handling.note(incident=incident, text="  ", actor=cast.owner, now=now)
    assert [note.text for note in incident.notes.all()] == ["The table moved"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("verb", ["resolve", "mute_watch"])
def test_a_round_that_settles_is_waited_for(now: datetime, verb: str) -> None:
    """Or its older view of the monitor would be written over what the person decided."""
    cast = people.cast()
    built = stage(cast, now)
    found = IncidentFactory.create(endpoint=built.endpoint, served=built.stable)
    AlertFactory.create(incident=found)
    Round.objects.create(endpoint=built.endpoint)
    order: list[str] = []

    def handle() -> None:
        if verb == "resolve":
            handling.resolve(incident=found, actor=cast.operator, now=now)
            return
        until, watch = now + timedelta(hours=1), Watch.objects.get()
        handling.mute_watch(watch=watch, until=until, actor=cast.operator, now=now)

    def other() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("set lock_timeout = '50ms'")
            with pytest.raises(OperationalError, match="lock timeout"):
                handle()
            order.append("refused")
        finally:
            connection.close()

    with transaction.atomic():
        Round.objects.select_for_update().get()
        thread = Thread(target=other)
        thread.start()
        thread.join()
    assert order == ["refused"]
    handle()
    watch = Watch.objects.get()
    assert (watch.state == "held", watch.is_muted(now)) == (verb == "resolve", verb != "resolve")
