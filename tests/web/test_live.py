"""The websocket: who may listen, to how much, and that news come only after the commit."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings as configured
from django.db import transaction
from django.test import Client

from apps.accounts.models import User
from apps.core import live
from mlops_portal.live import MOST_TOPICS
from tests.factories.accounts import UserFactory
from tests.web.loop import run
from tests.web.page import PageSocket

Work = Callable[[PageSocket], Awaitable[None]]
HELP = {"error": 'send {"subscribe": ["topic:id", ...]}'}


def cookie(user: User) -> tuple[bytes, bytes]:
    client = Client()
    client.force_login(user)
    held = client.cookies[configured.SESSION_COOKIE_NAME].value
    return b"cookie", f"{configured.SESSION_COOKIE_NAME}={held}".encode()


def socket(*headers: tuple[bytes, bytes], origin: str = "") -> PageSocket:
    return PageSocket(*headers, (b"origin", (origin or configured.PUBLIC_URL).encode()))


def listen(user: User, work: Work) -> None:
    """It opens a socket as this person, does the work and closes it."""
    held = cookie(user)

    async def inside() -> None:
        page = socket(held)
        assert await page.connect() == (True, None)
        await work(page)
        await page.disconnect()

    run(inside)


async def announce(topic: str) -> None:
    await sync_to_async(live._send)(topic)


@pytest.fixture
def ada(db: None) -> User:
    return UserFactory.create(username="ada")


@pytest.mark.parametrize(
    "headers", [(), ((b"cookie", b"sessionid=guessed"),), ((b"authorization", b"Bearer x"),)]
)
def test_anonymous_is_closed(db: None, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    async def inside() -> None:
        assert await socket(*headers).connect() == (False, 4401)

    run(inside)


def test_another_sites_page_is_closed(ada: User) -> None:
    held = cookie(ada)

    async def inside() -> None:
        connected, _ = await socket(held, origin="https://evil.example").connect()
        assert not connected

    run(inside)


def test_a_page_hears_what_it_subscribed_to(ada: User) -> None:
    async def work(page: PageSocket) -> None:
        assert await page.ask("rollout:17", "home:all") == {
            "subscribed": ["home:all", "rollout:17"]
        }
        for topic in ("rollout:18", "rollout:17", "home:all"):
            await announce(topic)

        heard = [await page.hear(), await page.hear()]
        assert [(news["topic"], news["kind"], news["id"]) for news in heard] == [
            ("rollout:17", "rollout", "17"),
            ("home:all", "home", "all"),
        ]
        assert heard[1]["revision"] >= heard[0]["revision"] > 1_700_000_000_000
        assert set(heard[0]) == {"topic", "kind", "id", "revision"}  # that, never what
        assert await page.receive_nothing(0.05)

    listen(ada, work)


def test_two_pages_hear_it_both(ada: User) -> None:
    held = cookie(ada)

    async def inside() -> None:
        first, second = socket(held), socket(held)
        for page in (first, second):
            await page.connect()
            await page.ask("rollout:17")
        await announce("rollout:17")
        assert (await first.hear())["topic"] == (await second.hear())["topic"] == "rollout:17"
        await first.disconnect()
        await announce("rollout:17")
        assert (await second.hear())["topic"] == "rollout:17"
        await second.disconnect()

    run(inside)


def test_it_listens_to_so_many_topics_and_no_more(ada: User) -> None:
    async def work(page: PageSocket) -> None:
        most = await page.ask(*(f"job:{n}" for n in range(MOST_TOPICS)))
        assert len(most["subscribed"]) == MOST_TOPICS
        assert await page.ask("job:99") == {"error": f"at most {MOST_TOPICS} topics"}
        assert await page.hear() == most
        await announce("job:99")
        await announce("job:3")
        assert (await page.hear())["topic"] == "job:3"

    listen(ada, work)


def test_a_model_with_a_long_name_is_heard(ada: User) -> None:
    topic = "model:" + "a" * 200

    async def work(page: PageSocket) -> None:
        assert await page.ask(topic) == {"subscribed": [topic]}
        await announce(topic)
        assert (await page.hear())["id"] == "a" * 200

    listen(ada, work)


def test_what_is_no_topic_is_left_out(ada: User) -> None:
    odd = ["job", 7, None, ":", "job:" + "x" * 201, ["job:1"], "j\ud800b:1", "job:\ud800", "job:1"]

    async def work(page: PageSocket) -> None:
        assert await page.ask(*odd, "job:1") == {"subscribed": ["job:1"]}

    listen(ada, work)


@pytest.mark.parametrize(
    "said",
    ["{", "", "[]", "7", "null", "[" * 60_000, '{"subscribe": "job:1"}', '{"publish": ["job:1"]}'],
)
def test_what_it_does_not_understand_closes_nothing(ada: User, said: str) -> None:
    async def work(page: PageSocket) -> None:
        await page.say(said)
        assert await page.hear() == HELP
        await page.say(octets=b"\x00\x01")
        assert await page.hear() == HELP
        assert await page.ask("job:1") == {"subscribed": ["job:1"]}

    listen(ada, work)


@pytest.mark.django_db(transaction=True)
def test_it_is_told_only_after_the_commit() -> None:
    def change(hears_nothing: Callable[[], Any]) -> None:
        with transaction.atomic():
            live.publish("rollout:17")
            assert hears_nothing()

    def undone() -> None:
        with transaction.atomic():
            live.publish("rollout:17")
            transaction.set_rollback(True)

    async def work(page: PageSocket) -> None:
        async def hears_nothing() -> bool:
            nothing: bool = await page.receive_nothing(0.1)
            return nothing

        await page.ask("rollout:17")
        await sync_to_async(undone)()
        assert await hears_nothing()
        await sync_to_async(change)(async_to_sync(hears_nothing))
        assert (await page.hear())["topic"] == "rollout:17"

    listen(UserFactory.create(username="ada"), work)
