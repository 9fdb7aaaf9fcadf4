"""Tokens: shown once, kept as a hash, narrow, mortal."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.accounts import services
from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Token, User
from apps.accounts.services import TokenRefused
from tests.factories.accounts import UserFactory, member
from tests.factories.registry import TeamFactory
from tests.people import bearer

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def user() -> User:
    return member(TeamFactory.create(), Role.DATA_SCIENTIST, username="ada")


def issue(user: User, now: datetime, *scopes: str, lives: timedelta = DAY) -> tuple[Token, str]:
    return services.issue_token(
        user=user, name="ci", scopes=scopes or ("read",), expires_at=now + lives, now=now
    )


def test_only_its_hash_is_kept(user: User, now: datetime) -> None:
    token, key = issue(user, now)

    kept = Token.objects.filter(pk=token.pk).values().get()
    assert key.startswith("portal_")
    assert len(key) == len("portal_") + 43  # 256 bits
    assert kept["digest"] == services.digest_of(key)
    assert kept["prefix"] == key[:12]
    assert not [field for field, value in kept.items() if key[12:] in str(value)]


def test_it_opens_until_it_expires(user: User, now: datetime) -> None:
    _, key = issue(user, now)

    found = services.user_of_key(key, now + DAY - timedelta(seconds=1))
    assert found == user
    assert found.granted_scopes == frozenset({"read"})
    assert services.user_of_key(key, now + DAY) is None


def test_a_revoked_one_opens_nothing(user: User, now: datetime) -> None:
    token, key = issue(user, now)
    services.revoke_token(token=token, now=now)
    services.revoke_token(token=token, now=now + DAY)

    token.refresh_from_db()
    assert token.revoked_at == now
    assert services.user_of_key(key, now) is None


def test_a_person_who_left_takes_the_keys_along(user: User, now: datetime) -> None:
    _, key = issue(user, now)
    User.objects.filter(pk=user.pk).update(is_active=False)

    assert services.user_of_key(key, now) is None


@pytest.mark.parametrize("key", ["", "portal_", "portal_" + "x" * 43, "ключ"])
def test_a_key_that_nobody_was_given(user: User, now: datetime, key: str) -> None:
    issue(user, now)

    assert services.user_of_key(key, now) is None


def test_its_use_is_noted_at_most_once_a_minute(user: User, now: datetime) -> None:
    token, key = issue(user, now)
    for seconds in (1, 30, 61, 62):
        services.user_of_key(key, now + timedelta(seconds=seconds))

    token.refresh_from_db()
    assert token.last_used_at == now + timedelta(seconds=62)
    services.user_of_key(key, now + timedelta(seconds=90))
    token.refresh_from_db()
    assert token.last_used_at == now + timedelta(seconds=62)


@pytest.mark.parametrize(
    ("scopes", "lives", "words"),
    [
        (("read", "root"), DAY, "Scopes must be among read, write, .*; got root"),
        (("read",), timedelta(0), "The expiry must lie in the future and within a year"),
        (("read",), -DAY, "The expiry must lie in the future and within a year"),
        (("read",), timedelta(days=367), "The expiry must lie in the future and within a year"),
    ],
)
def test_what_is_refused(
    user: User, now: datetime, scopes: tuple[str, ...], lives: timedelta, words: str
) -> None:
    with pytest.raises(TokenRefused, match=words) as refused:
        issue(user, now, *scopes, lives=lives)

    assert refused.value.code == "token_refused"
    assert not Token.objects.exists()


def test_one_without_scopes_is_refused(user: User, now: datetime) -> None:
    with pytest.raises(TokenRefused, match="Scopes must be among"):
        services.issue_token(user=user, name="ci", scopes=(), expires_at=now + DAY, now=now)
    assert not Token.objects.exists()


def test_a_token_cannot_mint_more_than_it_has(user: User, now: datetime) -> None:
    user.granted_scopes = frozenset({"admin", "read"})

    with pytest.raises(TokenRefused, match="cannot give more than it has itself"):
        issue(user, now, "read", "write")
    assert not Token.objects.exists()
    token, _ = issue(user, now, "read")
    assert token.scopes == ["read"]


def test_the_api_shows_the_key_once(client: Client, user: User) -> None:
    signed = bearer(user, Scope.ADMIN, Scope.READ)
    made = client.post(
        "/api/v1/tokens",
        {"name": "ci", "scopes": ["read"], "days": 7},
        content_type="application/json",
        headers=signed,
    )
    listed = client.get("/api/v1/tokens", headers=signed)

    assert made.status_code == 201
    key = made.json()["key"]
    assert client.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"}).json() == {
        "username": "ada",
        "email": "ada@example.com",
        "scopes": ["read"],
        "roles": {"flights": ["data_scientist"]},
    }
    assert [row["name"] for row in listed.json()["results"]] == ["ci", "test"]
    assert all("key" not in row for row in listed.json()["results"])
    assert key not in listed.content.decode()
    token = Token.objects.get(name="ci")
    assert token.expires_at - token.created_at == timedelta(days=7)


def test_the_api_refuses_to_mint_more(client: Client, user: User) -> None:
    answer = client.post(
        "/api/v1/tokens",
        {"name": "ci", "scopes": ["write"], "days": 7},
        content_type="application/json",
        headers=bearer(user, Scope.ADMIN),
    )

    assert answer.status_code == 409
    assert answer.json() == {
        "code": "token_refused",
        "message": "A token cannot give more than it has itself",
        "detail": None,
    }
    assert not Token.objects.filter(name="ci").exists()


def test_a_token_without_the_scope_admin_mints_none(client: Client, user: User) -> None:
    answer = client.post(
        "/api/v1/tokens",
        {"name": "ci", "scopes": ["read"], "days": 7},
        content_type="application/json",
        headers=bearer(user, Scope.READ, Scope.WRITE),
    )

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert not Token.objects.filter(name="ci").exists()


def test_only_ones_own_are_revoked(client: Client, user: User) -> None:
    other = UserFactory.create()
    theirs, _ = issue(other, datetime.now(UTC))
    mine, key = issue(user, datetime.now(UTC))
    signed = bearer(user)

    assert client.delete(f"/api/v1/tokens/{theirs.pk}", headers=signed).status_code == 404
    assert client.delete(f"/api/v1/tokens/{mine.pk}", headers=signed).status_code == 204

    theirs.refresh_from_db()
    assert theirs.revoked_at is None
    answer = client.get("/api/v1/me", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json() == {
        "code": "not_authenticated",
        "message": "This token is unknown, expired or revoked",
        "detail": None,
    }


def test_the_page_shows_a_new_key_once(client: Client, user: User) -> None:
    client.force_login(user)
    made = client.post("/tokens", {"name": "laptop", "scopes": ["read", "mlflow"], "days": "30"})
    again = client.get("/tokens")

    key = made.context["key"]
    assert (made.status_code, made.headers["Cache-Control"]) == (200, "no-store")
    assert key in made.content.decode()
    assert key not in again.content.decode()
    assert "laptop" in again.content.decode()
    token = Token.objects.get()
    assert (token.user, token.scopes) == (user, ["mlflow", "read"])

    other = UserFactory.create()
    theirs, _ = issue(other, datetime.now(UTC))
    assert client.post(f"/tokens/{theirs.pk}/revoke").status_code == 404
    assert client.post(f"/tokens/{token.pk}/revoke").headers["Location"] == "/tokens"
    token.refresh_from_db()
    theirs.refresh_from_db()
    assert token.revoked_at is not None
    assert theirs.revoked_at is None
