"""Each page for who may see it, for who may not, and how many queries the lists take."""

from datetime import datetime, timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import User
from mlops_portal import overview
from tests.factories.monitoring import RollupFactory
from tests.factories.registry import NOON, ModelFactory
from tests.pages.stage import LISTS, Stage, stage
from tests.people import Cast


@pytest.fixture
def built(cast: Cast) -> Stage:
    cache.clear()
    return stage(cast)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_viewer_of_the_team_sees_each(built: Stage, cast: Cast) -> None:
    client = client_of(cast.viewer)
    seen = {page: client.get(address).status_code for page, address in built.pages.items()}
    assert seen == dict.fromkeys(built.pages, 200)


def test_somebody_of_another_team_learns_nothing(built: Stage, cast: Cast) -> None:
    client = client_of(cast.stranger)
    seen = {page: client.get(address).status_code for page, address in built.pages.items()}
    assert seen == dict.fromkeys(built.pages, 404)


def test_nobody_sees_anything_without_signing_in(built: Stage) -> None:
    client = Client()
    for address in (*built.pages.values(), *LISTS, "/tokens", "/mails"):
        answer = client.get(address)
        assert answer.status_code == 302, address
        assert answer.headers["Location"].startswith("/login?next="), address


def test_lists_show_only_ones_own_teams(built: Stage, cast: Cast) -> None:
    name = built.model.name.encode()
    own, other = client_of(cast.viewer), client_of(cast.stranger)
    for address in LISTS:
        shown = own.get(address, follow=True)
        assert shown.status_code == 200, address
        assert name in shown.content, address
        hidden = other.get(address)
        assert hidden.status_code == 200, address
        assert name not in hidden.content, address


def test_more_rows_take_no_more_queries(built: Stage, cast: Cast) -> None:
    client = client_of(cast.viewer)

    def queries(address: str) -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(address)
        return len(asked)

    before = {address: queries(address) for address in LISTS[:-1]}
    for number in range(3):
        stage(cast, f"flight-delay-{number}")
    assert {address: queries(address) for address in LISTS[:-1]} == before


def test_a_live_page_refetches_only_its_part(built: Stage, cast: Cast) -> None:
    client = client_of(cast.viewer)
    for page in ["model", "version", "build", "validation", "promotion", "rollout", "endpoint",
                 "monitoring"]:  # fmt: skip
        whole = client.get(built.pages[page]).content.decode()
        part = client.get(built.pages[page], headers={"HX-Request": "true"}).content.decode()
        assert "<html" in whole, page
        assert "<html" not in part, page
        opening = part.lstrip().split(">", 1)[0]
        assert opening.startswith('<div id="'), page
        assert 'data-live="' in opening, page
        assert opening.split(" data-live")[0] in whole, page


def test_every_page_keeps_to_the_content_security_policy(built: Stage, cast: Cast) -> None:
    client = client_of(cast.admin)
    for address in (*built.pages.values(), *LISTS, "/tokens", "/mails"):
        text = client.get(address, follow=True).content.decode()
        assert " style=" not in text, address
        assert " onclick=" not in text, address
        assert text.count("<script") == text.count("<script src=") + text.count(
            '<script type="application/json"'
        ), address


def test_home_asks_a_fixed_number_of_queries(built: Stage, cast: Cast, now: datetime) -> None:
    ModelFactory.create(name="unserved", team=cast.team)
    with CaptureQueriesContext(connection) as asked:
        seen = overview.of(cast.approver, now)
    assert len(asked) == 10
    assert [row.model.name for row in seen.rows] == ["flight-delay", "unserved"]


def test_home_tells_an_approver_what_waits_and_not_the_requester(
    built: Stage, cast: Cast, now: datetime
) -> None:
    def titles(user: User) -> list[str]:
        return [need.title for need in overview.of(user, now).needs if need.state == "waiting"]

    assert titles(cast.approver) == ["Approve flight-delay v3 for staging?"]
    assert titles(cast.owner) == []
    assert titles(cast.viewer) == []
    assert titles(cast.stranger) == []


def test_home_measures_the_last_minutes(built: Stage, cast: Cast, now: datetime) -> None:
    stable = built.rollout.stable
    RollupFactory.create(revision=stable, at=now - timedelta(minutes=1), requests=600)
    RollupFactory.create(
        revision=stable, at=now - timedelta(seconds=50), requests=600, server_errors=3
    )
    row = overview.of(cast.viewer, now).rows[0]
    assert row.traffic.values[-1] == 1200
    assert row.traffic.values[:-1] == (None,) * 29
    assert row.traffic.rate == 20.0  # 1200 requests in the one minute that was measured
    assert row.traffic.errors == 0.0025


def test_home_filters_and_sorts_by_the_address(built: Stage, cast: Cast, now: datetime) -> None:
    ModelFactory.create(name="another", team=cast.team)

    def names(**asked: str) -> list[str]:
        return [row.model.name for row in overview.of(cast.viewer, now, asked).rows]

    assert names() == ["another", "flight-delay"]
    assert names(sort="-model") == ["flight-delay", "another"]
    assert names(sort="-since") == ["flight-delay", "another"]
    assert names(q="DELAY flight") == ["flight-delay"]
    assert names(environment="production") == ["flight-delay"]
    assert names(state="moving") == ["flight-delay"]
    assert names(state="registered") == ["another"]
    assert names(q="nothing") == []


def test_what_served_then_is_answered_from_the_events(built: Stage, cast: Cast) -> None:
    client = client_of(cast.viewer)
    page = built.pages["endpoint"]
    text = client.get(page, {"at": f"{NOON + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"}).content
    assert b"was served by:" in text
    assert b"v1 100 %" in text
    before = client.get(page, {"at": f"{NOON - timedelta(hours=2):%Y-%m-%dT%H:%M:%S}"}).content
    assert b"Nothing served flight-delay in production at 2030-01-07 10:00:00 UTC" in before
