"""One's own mails to everybody, everybody's to admins."""

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import Team, User
from apps.notifications.models import Delivery, Mute
from tests.factories.accounts import member
from tests.factories.notifications import DeliveryFactory
from tests.factories.registry import TeamFactory
from tests.people import bearer

pytestmark = pytest.mark.django_db


@pytest.fixture
def team() -> Team:
    return TeamFactory.create()


@pytest.fixture
def ada(team: Team) -> User:
    return member(team, Role.DATA_SCIENTIST, username="ada")


@pytest.fixture
def admin(team: Team) -> User:
    return member(team, Role.ADMIN, username="dora")


def subjects(client: Client, user: User) -> set[str]:
    client.force_login(user)
    page = client.get("/mails").context["page"]
    return {mail.subject for mail in page.object_list}


def test_who_sees_which(client: Client, team: Team, ada: User, admin: User) -> None:
    mine = DeliveryFactory.create(user=ada, team=team, subject="for ada")
    elsewhere = TeamFactory.create(name="Elsewhere", slug="elsewhere")
    DeliveryFactory.create(team=elsewhere, subject="of another team's model")
    theirs = DeliveryFactory.create(user=admin, subject="for dora")

    assert subjects(client, ada) == {"for ada"}
    assert client.get(f"/mails/{mine.pk}").status_code == 200
    assert client.get(f"/mails/{theirs.pk}").status_code == 404
    assert subjects(client, admin) == {"for ada", "for dora"}
    assert client.get(f"/mails/{mine.pk}").status_code == 200


def test_the_api_is_for_admins(client: Client, team: Team, ada: User, admin: User) -> None:
    DeliveryFactory.create(user=ada, team=team, subject="for ada")

    assert client.get("/api/v1/mails", headers=bearer(ada)).status_code == 403
    rows = client.get("/api/v1/mails", headers=bearer(admin)).json()["results"]
    assert [(row["to"], row["subject"], row["status"]) for row in rows] == [
        ("ada@example.com", "for ada", "queued")
    ]
    assert "html" not in rows[0]


def test_a_mail_to_somebody_without_an_address(client: Client, team: Team, admin: User) -> None:
    DeliveryFactory.create(team=team, user__email="")

    rows = client.get("/api/v1/mails", headers=bearer(admin)).json()["results"]
    assert [row["to"] for row in rows] == [""]


def test_a_kind_is_muted_and_heard_again(client: Client, ada: User) -> None:
    DeliveryFactory.create(user=ada, kind="promotion.waiting")
    client.force_login(ada)

    client.post("/mails/mute", {"kind": "promotion.waiting", "stop": "1"})
    assert [(m.user, m.kind) for m in Mute.objects.all()] == [(ada, "promotion.waiting")]
    assert client.get("/mails").context["muted"] == {"promotion.waiting"}
    client.post("/mails/mute", {"kind": "promotion.waiting"})
    assert not Mute.objects.exists()
    assert Delivery.objects.count() == 1


def test_the_picture_of_a_mail_stands_on_its_page(client: Client, ada: User) -> None:
    plain = DeliveryFactory.create(user=ada)
    shown = DeliveryFactory.create(user=ada, picture=b"\x89PNG")
    client.force_login(ada)

    assert '<img src="data:image/png;base64,iVBORw=="' in client.get(f"/mails/{shown.pk}").text
    assert "data:image/png" not in client.get(f"/mails/{plain.pk}").text
