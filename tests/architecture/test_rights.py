"""Every address asks `may(user, verb, thing)`: walked over all of them, so that none is forgotten.

A new route needs nothing here as long as its parameters have samples below.
"""

import json
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from apps.accounts.lifecycle import VERBS, Scope
from apps.accounts.models import User
from tests.factories.accounts import UserFactory, member
from tests.factories.everything import NAME, Everything, everything
from tests.factories.registry import TeamFactory
from tests.people import bearer

pytestmark = pytest.mark.django_db

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
API = "api/v1/"
# What everybody may open, and why.
OPEN = {
    "health": "load balancers have no account",
    "login": "whoever signs in is not yet signed in",
    "logout": "to leave needs no right",
    "welcome/<uidb64>/<token>": "whoever chooses a first password shows a signed link",
    "webhooks/mlflow": "MLflow signs its calls (tests/registry/test_webhook.py)",
}
# What everybody who is signed in may read: it tells of the product, not of anybody's models.
SIGNED_IN = {API + "schema/": "the description of the API, for whoever has an account"}
# What a viewer may change: only their own.
OWN = {
    "tokens", "tokens/<int:pk>/revoke", "mails/mute", API + "tokens", API + "tokens/<int:pk>",
    # A search is a question of theirs; it changes nothing that others have.
    "endpoints/<slug:environment>/<slug:name>/log", API + "endpoints/<int:pk>/searches",
}  # fmt: skip
# Lists that hold rows for somebody with nothing.
NOT_OF_A_TEAM = {API + "environments", API + "teams", API + "tokens"}

# (first word of the route, parameter) -> the sample that stands for it.
SAMPLES: dict[tuple[str, str], Any] = {
    ("builds", "pk"): lambda rows: rows.build.pk,
    ("endpoints", "column"): lambda rows: "in.distance",
    ("endpoints", "environment"): lambda rows: rows.endpoint.environment.name,
    ("endpoints", "kind"): lambda rows: "traffic",
    ("endpoints", "name"): lambda rows: rows.endpoint.name,
    ("endpoints", "number"): lambda rows: rows.endpoint.stable.number,
    ("endpoints", "pk"): lambda rows: rows.endpoint.pk,
    ("endpoints", "slice_pk"): lambda rows: rows.slice.pk,
    ("endpoints", "request_id"): lambda rows: "asked/again",
    ("endpoints", "monitor"): lambda rows: rows.watch.rule,
    ("incidents", "pk"): lambda rows: rows.incident.pk,
    ("jobs", "pk"): lambda rows: rows.job.pk,
    ("mails", "pk"): lambda rows: rows.mail.pk,
    ("models", "name"): lambda rows: rows.model.name,
    ("models", "number"): lambda rows: rows.version.number,
    ("promotions", "pk"): lambda rows: rows.promotion.pk,
    ("replays", "pk"): lambda rows: rows.replay.pk,
    ("rollouts", "pk"): lambda rows: rows.rollout.pk,
    ("searches", "pk"): lambda rows: rows.search.pk,
    ("settings", "role"): lambda rows: "viewer",
    ("settings", "slug"): lambda rows: rows.team.slug,
    ("settings", "username"): lambda rows: rows.viewer.username,
    ("teams", "role"): lambda rows: "viewer",
    ("teams", "slug"): lambda rows: rows.team.slug,
    ("teams", "username"): lambda rows: rows.viewer.username,
    ("tokens", "pk"): lambda rows: rows.token.pk,
    ("validations", "pk"): lambda rows: rows.validation.pk,
    ("versions", "version_pk"): lambda rows: rows.version.pk,
}
# Routes whose body names the object: what is sent there, since they must read it to know.
BODIES: dict[str, Any] = {
    API + "promotions": lambda rows: {
        "model": rows.model.name,
        "version": rows.version.number,
        "environment": "production",
    },
    API + "rollouts": lambda rows: {"promotion": rows.promotion.pk},
}


def walk(patterns: list[Any], before: str = "") -> Iterator[str]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, before + str(pattern.pattern))
        else:
            assert isinstance(pattern, URLPattern)
            yield before + str(pattern.pattern)


ROUTES = sorted(walk(get_resolver().url_patterns))
GUARDED = [route for route in ROUTES if route not in OPEN]
OF_OBJECTS = [route for route in GUARDED if "<" in route]
LISTS = [route for route in GUARDED if "<" not in route and route not in SIGNED_IN]


@pytest.fixture
def rows() -> Everything:
    return everything()


@pytest.fixture
def stranger(rows: Everything) -> User:
    """Every role, in another team."""
    return member(TeamFactory.create(name="Elsewhere", slug="elsewhere"), username="mallory")


def address(route: str, rows: Everything) -> str:
    first = route.removeprefix(API).partition("/")[0]

    def fill(parameter: re.Match[str]) -> str:
        known = SAMPLES.get((first, parameter[1]))
        if known is None:
            pytest.fail(
                f"The route {route!r} has the parameter {parameter[1]!r}: add"
                f" ({first!r}, {parameter[1]!r}) to SAMPLES in tests/architecture/test_rights.py,"
                " and a row that it names to tests/factories/everything.py"
            )
        return str(known(rows))

    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", fill, route)


def call(
    client: Client, method: str, route: str, rows: Everything, headers: dict[str, str] | None = None
) -> HttpResponse:
    given = {"content_type": "application/json"} if route.startswith(API) else {}
    body = BODIES.get(route, lambda _: {})(rows)
    if method in ("GET", "HEAD"):
        given, body = {}, None
    return getattr(client, method.lower())(  # type: ignore[no-any-return]
        address(route, rows), body, headers=headers, **given
    )


def answers(
    client: Client,
    route: str,
    rows: Everything,
    methods: tuple[str, ...] = METHODS,
    headers: dict[str, str] | None = None,
) -> dict[str, int]:
    """What the route answers to each method that it has."""
    seen = {method: call(client, method, route, rows, headers).status_code for method in methods}
    return {method: status for method, status in seen.items() if status != 405}


def signed_in(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def everything_kept() -> dict[str, list[Any]]:
    """All rows of all our tables, but for when somebody was last seen."""
    ours = [model for model in apps.get_models() if model.__module__.startswith("apps.")]
    return {
        model._meta.label: list(
            model._default_manager.order_by("pk").values_list(
                *(f.attname for f in model._meta.concrete_fields if f.name != "last_used_at")
            )
        )
        for model in ours
    }


def test_the_lists_above_name_only_routes_that_there_are() -> None:
    named = {*OPEN, *SIGNED_IN, *OWN, *NOT_OF_A_TEAM, *BODIES}

    assert named - set(ROUTES) == set()


@pytest.mark.parametrize("route", OF_OBJECTS)
def test_every_sample_is_a_real_object(route: str, rows: Everything) -> None:
    """Otherwise every refusal below would be one of something that is not there."""
    client = signed_in(rows.owner)
    seen = answers(client, route, rows)

    assert seen, f"{route} has no method"
    assert 404 not in seen.values(), f"{route}: {seen}; its sample names nothing"
    assert 403 not in seen.values(), f"{route}: {seen}; who has every role may not"
    assert all(status < 500 for status in seen.values()), f"{route}: {seen}"


@pytest.mark.parametrize("route", GUARDED)
def test_nobody_comes_in_without_signing_in(route: str, rows: Everything) -> None:
    before = everything_kept()
    client = Client(raise_request_exception=False)

    for method in METHODS:
        answer = call(client, method, route, rows)
        if answer.status_code == 405:
            continue
        if route.startswith(API):
            assert answer.status_code == 401, f"{method} {route}"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        else:
            assert answer.status_code == 302, f"{method} {route}"
            assert answer.headers["Location"].startswith("/login?next=/")
    assert everything_kept() == before


@pytest.mark.parametrize("route", [route for route in GUARDED if route not in SIGNED_IN])
def test_every_route_asks(route: str, rows: Everything) -> None:
    """When no verb is in the table nobody may do anything, whoever does not ask still lets in."""
    client = signed_in(UserFactory.create(is_superuser=True))
    before = everything_kept()

    with mock.patch.dict(VERBS, clear=True):
        seen = answers(client, route, rows)

    assert seen, f"{route} has no method"
    assert set(seen.values()) <= {403, 404}, f"{route} does not ask `may`: {seen}"
    assert everything_kept() == before


@pytest.mark.parametrize("route", OF_OBJECTS)
def test_to_a_stranger_nothing_is_there(route: str, rows: Everything, stranger: User) -> None:
    client = signed_in(stranger)
    before = everything_kept()
    seen = answers(client, route, rows)

    assert set(seen.values()) == {404}, f"{route}: {seen}"
    assert everything_kept() == before


@pytest.mark.parametrize("route", sorted(BODIES))
def test_nor_when_the_body_names_it(route: str, rows: Everything, stranger: User) -> None:
    client = signed_in(stranger)
    before = everything_kept()

    assert answers(client, route, rows, ("POST",)) == {"POST": 404}
    assert everything_kept() == before


@pytest.mark.parametrize("route", LISTS)
def test_a_strangers_lists_are_empty(route: str, rows: Everything, stranger: User) -> None:
    mine, theirs = (call(signed_in(user), "GET", route, rows) for user in (rows.owner, stranger))
    if mine.status_code == 405:
        return

    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert NAME not in theirs.content.decode()
    if route.startswith(API) and route not in NOT_OF_A_TEAM:
        listed = json.loads(mine.content)
        if isinstance(listed, dict) and "results" in listed:
            assert listed["results"], f"{route}: add such a row to tests/factories/everything.py"
            assert json.loads(theirs.content)["results"] == []


@pytest.mark.parametrize("route", [route for route in GUARDED if route not in OWN])
def test_a_viewer_changes_nothing(route: str, rows: Everything) -> None:
    client = signed_in(rows.viewer)
    before = everything_kept()
    seen = answers(client, route, rows, ("POST", "PUT", "PATCH", "DELETE"))

    assert set(seen.values()) <= {403}, f"{route}: {seen}"
    assert everything_kept() == before


@pytest.mark.parametrize("route", [route for route in GUARDED if route.startswith(API)])
def test_a_reading_token_changes_nothing(route: str, rows: Everything) -> None:
    client, headers = Client(raise_request_exception=False), bearer(rows.owner, Scope.READ)
    before = everything_kept()
    seen = answers(client, route, rows, ("POST", "PUT", "PATCH", "DELETE"), headers)

    assert set(seen.values()) <= {403}, f"{route}: {seen}"
    assert everything_kept() == before
