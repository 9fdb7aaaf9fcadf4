"""The pages of incidents: for who may see them, for who may not, and what their buttons do."""

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.accounts.models import User
from apps.incidents.models import Incident, Watch
from mlops_portal import overview
from tests.factories.audit import EventFactory
from tests.factories.incidents import AlertFactory, IncidentFactory, IncidentNoteFactory
from tests.incidents.stage import NAME, Stage, stage
from tests.people import Cast

TAB = f"/endpoints/production/{NAME}/incidents"


@pytest.fixture
def built(cast: Cast, now: datetime) -> Stage:
    return stage(cast, now)


@pytest.fixture
def incident(built: Stage, cast: Cast) -> Incident:
    found = IncidentFactory.create(endpoint=built.endpoint, served=built.stable)
    AlertFactory.create(incident=found)
    IncidentNoteFactory.create(incident=found, author=cast.owner)
    return found


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_whole_incident_on_one_page(
    incident: Incident, built: Stage, cast: Cast, now: datetime
) -> None:
    for hours, verb in ((1, "rollout.succeeded"), (25, "policy.changed")):
        EventFactory.create(
            verb=verb, at=now - timedelta(hours=hours), team_id=cast.team.pk, model_name=NAME,
            environment="production",
        )  # fmt: skip
    shown = client_of(cast.operator).get(f"/incidents/{incident.pk}").content.decode()
    for words in (
        "Errors 4.1 %",
        "flight-delay in production",
        "Errors: 4.1 % of 1,000 requests in 5 min, limit 1 %",
        "Nobody has acknowledged it yet.",
        "rollout.succeeded",
        "The upstream table changed",
        f"/api/v1/incidents/{incident.pk}/chart",
        f"/incidents/{incident.pk}/acknowledge",
    ):
        assert words in shown, words
    assert "policy.changed" not in shown  # longer than a day before


def test_a_viewer_sees_and_has_no_buttons(incident: Incident, cast: Cast) -> None:
    client = client_of(cast.viewer)
    for address in ("/incidents", f"/incidents/{incident.pk}", TAB):
        shown = client.get(address)
        assert shown.status_code == 200, address
        assert b"Errors 4.1 %" in shown.content
        assert b"/acknowledge" not in shown.content
        assert b"/mute" not in shown.content


def test_to_a_stranger_nothing_is_there(incident: Incident, cast: Cast) -> None:
    client = client_of(cast.stranger)
    assert client.get(f"/incidents/{incident.pk}").status_code == 404
    assert client.get(TAB).status_code == 404
    assert b"Errors 4.1 %" not in client.get("/incidents").content
    assert b"Errors 4.1 %" not in client.get("/").content


@pytest.mark.parametrize(
    ("verb", "given", "field", "value"),
    [
        ("acknowledge", {}, "state", "acknowledged"),
        ("assign", {"username": "ada"}, "assignee__username", "ada"),
        ("resolve", {"reason": "Known"}, "state", "resolved"),
        ("notes", {"text": "Found it"}, "notes__text", "Found it"),
    ],
)
def test_a_button_does_what_it_says(
    incident: Incident, cast: Cast, verb: str, given: dict[str, str], field: str, value: str
) -> None:
    client = client_of(cast.operator)
    answer = client.post(f"/incidents/{incident.pk}/{verb}", given)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/incidents/{incident.pk}")
    assert Incident.objects.filter(pk=incident.pk, **{field: value}).count() == 1


def test_mute_and_let_go(incident: Incident, cast: Cast) -> None:
    client = client_of(cast.operator)
    for address, row in (
        (f"/incidents/{incident.pk}/mute", incident),
        (f"/endpoints/production/{NAME}/monitors/errors/mute", Watch.objects.get()),
    ):
        before = timezone.now()
        assert client.post(address, {"hours": "8"}).status_code == 302
        row.refresh_from_db()
        assert row.muted_until is not None
        assert timedelta(hours=8) <= row.muted_until - before < timedelta(hours=9)
        assert client.post(address, {"hours": ""}).status_code == 302
        row.refresh_from_db()
        assert row.muted_until is None


def test_the_blind_spots_of_monitors(built: Stage, cast: Cast) -> None:
    built.minute()
    built.minute(requests=40)
    shown = client_of(cast.viewer).get(TAB).content.decode()
    for words in (
        "<code>errors</code>",
        "Not enough data: 40 requests in 1 min, it needs 100",
        "blind now",
        "3 % errors",
        "Nothing is open.",
    ):
        assert words in shown, words


def test_monitors_that_were_not_read_yet(built: Stage, cast: Cast) -> None:
    shown = client_of(cast.viewer).get(TAB).content.decode()
    assert "Not read yet" in shown
    assert "never" in shown


def test_the_list_keeps_its_filter_and_shows_open_ones_first(
    incident: Incident, built: Stage, cast: Cast
) -> None:
    given = {"endpoint": built.endpoint}
    IncidentFactory.create(**given, title="Newest", state="resolved")
    IncidentFactory.create(**given, title="Taken", state="acknowledged")
    IncidentFactory.create(**given, title="Loud", severity="critical")
    client = client_of(cast.viewer)

    def titles(query: str) -> list[str]:
        return [one.title for one in client.get(f"/incidents{query}").context["page"]]

    assert titles("") == ["Loud", "Errors 4.1 %", "Taken", "Newest"]
    assert titles("?state=open") == ["Loud", "Errors 4.1 %"]
    assert titles("?severity=critical") == ["Loud"]
    assert titles(f"?model={NAME}&environment=production&state=resolved") == ["Newest"]
    assert titles("?model=other") == []
    shown = client.get("/incidents?state=open").content.decode()
    assert 'hx-get="/incidents?state=open"' in shown
    assert "No incident is like that" in client.get("/incidents?model=other").content.decode()


def test_without_any_the_list_says_what_is_watched(cast: Cast) -> None:
    shown = client_of(cast.viewer).get("/incidents").content.decode()
    assert "No incident yet" in shown


def test_more_incidents_take_no_more_queries(incident: Incident, built: Stage, cast: Cast) -> None:
    client = client_of(cast.viewer)

    def queries(address: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(address)
        return len(asked)

    addresses = ("/incidents", TAB, "/", f"/incidents/{incident.pk}")
    before = {address: queries(address) for address in addresses}
    for _ in range(3):
        IncidentFactory.create(endpoint=built.endpoint, served=built.stable)
    for number in range(3):
        AlertFactory.create(
            incident=incident,
            watch=Watch.objects.create(
                endpoint=built.endpoint, rule="drift", metric="drift", subject=f"c{number}",
                served=built.stable,
            ),
        )  # fmt: skip
    assert {address: queries(address) for address in addresses} == before


def test_home_and_the_navigation_count_what_is_open(incident: Incident, cast: Cast) -> None:
    (need,) = overview.of(cast.viewer, timezone.now()).needs
    assert (need.state, need.title) == ("open", "Errors 4.1 % in flight-delay in production")
    assert need.text == "Warning; nobody is on it"
    shown = client_of(cast.viewer).get("/models").content.decode()
    assert '<span class="count">1<span class="visually-hidden"> open</span></span>' in shown

    Incident.objects.update(state="acknowledged", assignee=cast.operator)
    assert overview.of(cast.viewer, timezone.now()).needs == ()
    (need,) = overview.of(cast.operator, timezone.now()).needs
    assert need.text == "Warning; assigned to you"
