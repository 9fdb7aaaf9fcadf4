"""`Idempotency-Key`: the same call sent again gets the first one's answer and does nothing."""

from collections.abc import Callable
from datetime import timedelta
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from apps.accounts import services
from apps.accounts.lifecycle import Scope
from apps.accounts.middleware import IdempotencyMiddleware
from apps.accounts.models import IdempotentReply, Token, User
from apps.registry.models import Policy
from tests.factories.accounts import member
from tests.factories.builds import BuildFactory
from tests.factories.registry import PolicyFactory, TeamFactory
from tests.people import bearer


@pytest.fixture
def user(db: None) -> User:
    return member(TeamFactory.create(), username="ada")


@pytest.fixture
def signed(user: User) -> dict[str, str]:
    return bearer(user)


def post(client: Client, path: str, signed: dict[str, str], key: str, body: Any = None) -> Any:
    headers = {**signed, "Idempotency-Key": key}
    return client.post(path, body or {}, content_type="application/json", headers=headers)


def test_the_same_call_again_does_nothing_and_answers_the_same(
    client: Client, signed: dict[str, str]
) -> None:
    version = PolicyFactory.create().model
    build = BuildFactory.create(version__model=version, version__number=3)
    path = f"/api/v1/models/{version.name}/versions/3/builds"

    first = post(client, path, signed, "ci-17")
    again = post(client, path, signed, "ci-17")
    other_key = post(client, path, signed, "ci-18")

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotent-Replay" not in first.headers
    assert again.headers["Idempotent-Replay"] == "true"
    assert other_key.headers.get("Idempotent-Replay") is None
    assert build.version.builds.count() == 2  # the factory's and one new


def test_another_body_under_the_same_key_is_refused(client: Client, signed: dict[str, str]) -> None:
    body = {"name": "one", "scopes": ["read"], "days": 7}
    post(client, "/api/v1/tokens", signed, "k", body)
    other = post(client, "/api/v1/tokens", signed, "k", body | {"name": "two"})
    other_path = post(client, "/api/v1/promotions", signed, "k", body)

    for answer in (other, other_path):
        assert answer.status_code == 409
        assert answer.json() == {
            "code": "idempotency_key_reused",
            "message": "This Idempotency-Key was used for another request",
            "detail": None,
        }
    assert not Token.objects.filter(name="two").exists()


def test_a_new_tokens_key_is_kept_nowhere(client: Client, signed: dict[str, str]) -> None:
    body = {"name": "one", "scopes": ["read"], "days": 7}
    first = post(client, "/api/v1/tokens", signed, "k", body)
    again = post(client, "/api/v1/tokens", signed, "k", body)

    assert first.status_code == 201
    assert first.json()["key"] not in str(list(IdempotentReply.objects.values()))
    assert again.status_code == 409
    assert again.json()["code"] == "answered_once"
    assert Token.objects.filter(name="one").count() == 1


def test_the_key_belongs_to_who_sent_it(client: Client, user: User) -> None:
    other = member(TeamFactory.create(), username="ben")
    body = {"name": "one", "scopes": ["read"], "days": 7}

    for person in (user, other):
        assert post(client, "/api/v1/tokens", bearer(person), "k", body).status_code == 201
    assert Token.objects.filter(name="one").count() == 2


def test_a_revoked_token_is_not_answered_again(client: Client, user: User) -> None:
    model = PolicyFactory.create().model
    BuildFactory.create(version__model=model, version__number=3)
    path = f"/api/v1/models/{model.name}/versions/3/builds"
    signed = bearer(user, Scope.READ, Scope.WRITE)

    assert post(client, path, signed, "k").status_code == 201
    services.revoke_token(token=Token.objects.get(), now=timezone.now())
    assert post(client, path, signed, "k").status_code == 401


def test_one_that_still_runs(client: Client, signed: dict[str, str]) -> None:
    body = {"name": "one", "scopes": ["read"], "days": 7}
    post(client, "/api/v1/tokens", signed, "k", body)
    IdempotentReply.objects.update(status=None)

    answer = post(client, "/api/v1/tokens", signed, "k", body)
    assert (answer.status_code, answer.json()["code"]) == (409, "still_running")

    # Its process was killed: after five minutes the key is free again.
    past = timezone.now() - timedelta(minutes=5, seconds=1)
    IdempotentReply.objects.update(created_at=past)
    assert post(client, "/api/v1/tokens", signed, "k", body).status_code == 201
    assert Token.objects.filter(name="one").count() == 2


def test_an_answer_is_kept_for_a_day(client: Client, signed: dict[str, str]) -> None:
    body = {"name": "one", "scopes": ["read"], "days": 7}
    post(client, "/api/v1/tokens", signed, "k", body)
    IdempotentReply.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))

    assert post(client, "/api/v1/tokens", signed, "k", body).status_code == 201
    assert Token.objects.filter(name="one").count() == 2


def test_a_refusal_is_kept_too(client: Client, signed: dict[str, str]) -> None:
    body = {"name": "", "scopes": ["read"], "days": 7}
    first = post(client, "/api/v1/tokens", signed, "k", body)
    again = post(client, "/api/v1/tokens", signed, "k", body)

    assert (first.status_code, again.status_code) == (400, 400)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"


def test_what_is_not_signed_is_not_kept(client: Client, db: None) -> None:
    for _ in range(2):
        answer = post(client, "/api/v1/tokens", {"Authorization": "Bearer portal_wrong"}, "k")
        assert answer.status_code == 401
    assert not IdempotentReply.objects.exists()


def test_a_route_that_does_not_exist(client: Client, signed: dict[str, str]) -> None:
    for _ in range(2):
        assert post(client, "/api/v1/nothing", signed, "k").status_code == 404


def test_a_key_that_is_too_long(client: Client, signed: dict[str, str]) -> None:
    answer = post(client, "/api/v1/tokens", signed, "k" * 201)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not IdempotentReply.objects.exists()


def test_a_body_that_is_too_large_to_compare(
    client: Client, signed: dict[str, str], settings: Any
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    answer = post(client, "/api/v1/tokens", signed, "k", {"name": "more than ten characters"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert not IdempotentReply.objects.exists()


def test_only_posts_to_the_api_are_meant(client: Client, signed: dict[str, str]) -> None:
    model = PolicyFactory.create().model
    for number in (2, 3):
        answer = client.put(
            f"/api/v1/models/{model.name}/policy",
            "version: 1\n",
            content_type="application/yaml",
            headers={**signed, "Idempotency-Key": "k"},
        )
        assert (answer.status_code, answer.json()["number"]) == (200, number)
    assert Policy.objects.count() == 3
    assert not IdempotentReply.objects.exists()


Answer = Callable[[HttpRequest], HttpResponse]


def through(answer: Answer, user: User, signed: dict[str, str]) -> HttpResponse:
    request = RequestFactory(headers={**signed, "Idempotency-Key": "k"}).post("/api/v1/things")
    request.user = user
    return IdempotencyMiddleware(answer)(request)


@pytest.mark.parametrize("status", [500, 503, 401, 429])
def test_what_may_succeed_later_is_not_kept(
    user: User, signed: dict[str, str], status: int
) -> None:
    answers = iter([JsonResponse({}, status=status), JsonResponse({"made": 1}, status=201)])

    assert through(lambda _: next(answers), user, signed).status_code == status
    assert not IdempotentReply.objects.exists()
    assert through(lambda _: next(answers), user, signed).status_code == 201
    assert through(lambda _: next(answers), user, signed).headers["Idempotent-Replay"] == "true"


def test_an_accident_frees_the_key(user: User, signed: dict[str, str]) -> None:
    def fall(_: HttpRequest) -> HttpResponse:
        raise RuntimeError("fell")

    with pytest.raises(RuntimeError, match="fell"):
        through(fall, user, signed)
    assert not IdempotentReply.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_it_once() -> None:
    user = member(TeamFactory.create(), username="ada")
    signed = bearer(user)
    begun, go_on, ran = Event(), Event(), []
    seen: dict[str, HttpResponse] = {}

    def slow(_: HttpRequest) -> HttpResponse:
        ran.append(1)
        begun.set()
        assert go_on.wait(10)
        return JsonResponse({"made": len(ran)}, status=201)

    def first() -> None:
        try:
            seen["first"] = through(slow, user, signed)
        finally:
            connection.close()

    thread = Thread(target=first)
    thread.start()
    try:
        assert begun.wait(10)
        seen["second"] = through(slow, user, signed)
    finally:
        go_on.set()
        thread.join()
    seen["third"] = through(slow, user, signed)

    assert {name: answer.status_code for name, answer in seen.items()} == {
        "first": 201,
        "second": 409,
        "third": 201,
    }
    assert seen["third"].content == b'{"made": 1}'
    assert ran == [1]


@pytest.mark.django_db(transaction=True)
def test_many_at_once_do_it_once() -> None:
    user = member(TeamFactory.create(), username="ada")
    signed = bearer(user)
    together, statuses = Barrier(4, timeout=10), []

    def call() -> None:
        try:
            together.wait()
            body = {"name": "one", "scopes": ["read"], "days": 7}
            statuses.append(post(Client(), "/api/v1/tokens", signed, "k", body).status_code)
        finally:
            connection.close()

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [201, 409, 409, 409]
    assert Token.objects.filter(name="one").count() == 1
