"""Who is in a team: given, taken, told; and how a new person comes in."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Membership, Team, User
from apps.accounts.selectors import may
from apps.audit.models import Event
from apps.people import services
from apps.people.services import PeopleRefused
from tests.people import Cast, bearer

pytestmark = pytest.mark.django_db


def roles(user: User) -> list[tuple[str, str]]:
    held = Membership.objects.filter(user=user).order_by("team__slug", "role")
    return list(held.values_list("team__slug", "role"))


def told() -> list[tuple[str, str, int | None]]:
    rows = Event.objects.order_by("pk")
    return [(e.verb, e.actor_name, e.team_id) for e in rows]


def test_a_role_is_given_and_taken_once_each(cast: Cast, now: datetime) -> None:
    given: dict[str, Any] = {"team": cast.team, "role": Role.OPERATOR, "actor": cast.admin}
    for _ in range(2):
        services.add_member(username=cast.owner.username, now=now, **given)
    assert ("flights", "operator") in roles(cast.owner)

    services.remove_member(user=cast.owner, now=now, **given)

    assert ("flights", "operator") not in roles(cast.owner)
    assert told() == [
        ("role.granted", "dora", cast.team.pk),
        ("role.revoked", "dora", cast.team.pk),
    ]
    assert Event.objects.order_by("pk")[0].evidence == {
        "person": "ada", "role": "operator", "team": "flights",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "role", "code"),
    [("nobody", Role.VIEWER, "unknown_person")],
)
def test_a_name_that_nobody_has(
    cast: Cast, now: datetime, name: str, role: Role, code: str
) -> None:
    with pytest.raises(PeopleRefused) as refused:
        services.add_member(team=cast.team, username=name, role=role, actor=cast.admin, now=now)
    assert refused.value.code == code
    assert told() == []


def test_the_last_admin_stays(cast: Cast, now: datetime) -> None:
    given: dict[str, Any] = {"team": cast.team, "role": Role.ADMIN, "actor": cast.admin, "now": now}
    with pytest.raises(PeopleRefused) as refused:
        services.remove_member(user=cast.admin, **given)
    assert refused.value.code == "last_admin"
    assert may(cast.admin, "team.manage", cast.team)

    services.add_member(username="ada", **given)
    services.remove_member(user=cast.admin, **given)
    assert not may(cast.admin, "team.manage", cast.team)


def test_a_new_person_chooses_a_password_by_a_link_that_works_once(cast: Cast) -> None:
    client = Client()
    answer = client.post(
        "/api/v1/teams/flights/members",
        {"username": "zoe", "role": "viewer", "email": "zoe@example.com"},
        content_type="application/json",
        headers=bearer(cast.admin),
    )
    assert answer.status_code == 201
    said = answer.json()
    assert (said["username"], said["roles"]) == ("zoe", ["viewer"])
    path = said["welcome_link"].removeprefix("http://testserver")

    browser = Client()
    form = browser.get(path, follow=True)
    chosen = {"new_password1": "a long sentence here", "new_password2": "a long sentence here"}
    done = browser.post(form.request["PATH_INFO"], chosen)

    assert (done.status_code, done.headers["Location"]) == (302, "/")
    assert browser.get("/").status_code == 200  # signed in
    zoe = User.objects.get(username="zoe")
    assert zoe.check_password("a long sentence here")
    assert roles(zoe) == [("flights", "viewer")]
    again = Client().get(path, follow=True)
    assert "was used already" in again.content.decode()


def test_a_lost_link_is_given_anew_but_not_by_another_team(cast: Cast, now: datetime) -> None:
    given: dict[str, Any] = {"username": "zoe", "role": Role.VIEWER, "now": now}
    _, first = services.add(team=cast.team, email="zoe@example.com", actor=cast.admin, **given)
    _, second = services.add(team=cast.team, email="", actor=cast.admin, **given)
    elsewhere = Team.objects.get(slug="elsewhere")
    _, theirs = services.add(team=elsewhere, email="", actor=cast.stranger, **given)

    assert first.startswith("/welcome/")
    assert second.startswith("/welcome/")
    assert theirs == ""


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"username": "nobody", "role": "viewer"}, 409, "unknown_person"),
        ({"username": "a b", "role": "viewer", "email": "a@example.com"}, 409, "name_invalid"),
        ({"username": "ada", "role": "king"}, 400, "invalid"),
        ({"username": "zoe", "role": "viewer", "email": "nowhere"}, 400, "invalid"),
    ],
)
def test_what_is_refused_changes_nothing(
    cast: Cast, body: dict[str, str], status: int, code: str
) -> None:
    before = (Membership.objects.count(), User.objects.count())
    answer = Client().post(
        "/api/v1/teams/flights/members", body, content_type="application/json",
        headers=bearer(cast.admin),
    )  # fmt: skip
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (Membership.objects.count(), User.objects.count()) == before


def test_who_may_not_manage_the_team(cast: Cast) -> None:
    client = Client()
    body = {"username": "grace", "role": "admin"}
    for user, status in ((cast.owner, 403), (cast.stranger, 404)):
        answer = client.post(
            "/api/v1/teams/flights/members", body, content_type="application/json",
            headers=bearer(user),
        )  # fmt: skip
        assert answer.status_code == status
    narrow = bearer(cast.admin, Scope.READ, Scope.WRITE)
    answer = client.delete("/api/v1/teams/flights/members/vera/viewer", headers=narrow)
    assert answer.status_code == 403
    assert ("flights", "viewer") in roles(cast.viewer)


def test_the_page_adds_removes_and_says_what_went_wrong(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.admin)
    page = client.get("/settings").content.decode()
    assert "grace@example.com" in page
    assert "Elsewhere" not in page

    wrong = client.post("/settings/flights/members", {"username": "nobody", "role": "viewer"})
    assert wrong.status_code == 422
    assert "Nobody here is called nobody" in wrong.content.decode()
    new = client.post(
        "/settings/flights/members",
        {"username": "zoe", "role": "approver", "email": "zoe@example.com"},
    )
    assert "http://testserver/welcome/" in new.content.decode()
    assert new.headers["Cache-Control"] == "no-store"
    gone = client.post("/settings/flights/members/zoe/approver/remove", follow=True)
    assert "zoe is no Approver of Flights any more" in gone.content.decode()


def test_a_key_is_told_to_the_teams_of_its_owner(cast: Cast, now: datetime) -> None:
    client = Client()
    made = client.post(
        "/api/v1/tokens", {"name": "ci", "scopes": ["read"], "days": 3},
        content_type="application/json", headers=bearer(cast.owner),
    ).json()  # fmt: skip
    client.delete(f"/api/v1/tokens/{made['id']}", headers=bearer(cast.owner))
    client.delete(f"/api/v1/tokens/{made['id']}", headers=bearer(cast.owner))

    assert told() == [
        ("token.issued", "ada", cast.team.pk),
        ("token.revoked", "ada", cast.team.pk),
    ]
    issued = Event.objects.order_by("pk")[0]
    assert issued.evidence["scopes"] == ["read"]
    assert made["key"] not in str(issued.evidence)
