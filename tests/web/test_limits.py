"""How large a request may be, before anybody is asked who sends it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as configured
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from mlops_portal import limits
from mlops_portal.asgi import application
from mlops_portal.limits import MOST_BYTES, MOST_UPLOAD_BYTES, BodyLimit
from mlops_portal.mlflow_proxy import MlflowProxy
from tests.factories.accounts import member
from tests.factories.registry import TeamFactory
from tests.people import bearer
from tests.web.loop import run

pytestmark = pytest.mark.django_db
API_UPLOAD = "/api/v1/models/flight-delay/datasets"
PAGE_UPLOAD = "/models/flight-delay/datasets/new"
MIB = 1024**2
WORDS = (
    "The request is larger than 16 MiB; only a data set may be, sent by somebody who is signed in "
    "or has a token"
)


class Sent:
    """A request as the web server gives it, and what came back."""

    def __init__(self, path: str, headers: dict[str, str], body: Iterator[bytes]) -> None:
        self.scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()],
        }  # fmt: skip
        self.status, self.body, self.taken = 0, b"", 0
        self._pieces, self._more = body, True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def receive(self) -> dict[str, Any]:
        if not self._more:
            await asyncio.Event().wait()  # the caller stays until it has its answer
        piece = next(self._pieces, None)
        self._more = piece is not None
        self.taken += len(piece or b"")
        return {"type": "http.request", "body": piece or b"", "more_body": self._more}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert self.status == 0, "answered twice"
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


async def panel(scope: Any, receive: Any, send: Any) -> None:
    """It reads the whole body, as Django does, and counts it."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def post(path: str, size: int, app: Any = None, *, sized: bool = False, **headers: str) -> Sent:
    """It sends so many bytes in pieces; `sized` says before how many there are."""
    pieces = (b"x" * min(MIB, size - at) for at in range(0, size, MIB))
    announced = {"content-length": str(size)} if sized else {}
    sent = Sent(path, {"host": "localhost", **announced, **headers}, pieces)

    async def work() -> None:
        await (app or BodyLimit(panel))(sent.scope, sent.receive, sent.send)

    run(work)
    return sent


@pytest.fixture
def ada() -> User:
    return member(TeamFactory.create(), Role.DATA_SCIENTIST, username="ada")


def session(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    return {"cookie": f"{configured.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"}


@pytest.mark.parametrize("path", ["/login", "/api/v1/models", "/webhooks/mlflow", API_UPLOAD])
@pytest.mark.parametrize("sized", [True, False])
def test_sixteen_megabytes_pass_and_no_more(path: str, sized: bool) -> None:
    fits = post(path, MOST_BYTES, sized=sized)
    refused = post(path, MOST_BYTES + 1, sized=sized)

    assert (fits.status, fits.body) == (299, str(MOST_BYTES).encode())
    assert refused.status == 413
    assert refused.json == {"code": "too_large", "message": WORDS, "detail": None}


def test_what_says_that_it_is_too_large_is_not_read() -> None:
    assert post("/login", MOST_BYTES + 1, sized=True).taken == 0


def test_what_does_not_say_so_is_not_read_to_its_end() -> None:
    sent = post("/login", 5 * MOST_BYTES)

    assert (sent.status, sent.taken) == (413, MOST_BYTES + MIB)


@pytest.mark.parametrize("path", [API_UPLOAD, PAGE_UPLOAD])
@pytest.mark.parametrize("way", [bearer, session])
@pytest.mark.parametrize("sized", [True, False])
def test_a_data_set_of_somebody_known_may_be_large(
    ada: User, path: str, way: Any, sized: bool
) -> None:
    sent = post(path, 2 * MOST_BYTES, sized=sized, **way(ada))

    assert (sent.status, sent.body) == (299, str(2 * MOST_BYTES).encode())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer made-up"},
        {"authorization": "Basic YTpi"},
        {"cookie": "sessionid=made-up"},
    ],
)
def test_to_be_somebody_it_takes_more_than_a_header(headers: dict[str, str]) -> None:
    assert post(API_UPLOAD, 2 * MOST_BYTES, sized=True, **headers).status == 413


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/flight-delay/policy",
        "/api/v1/models/a/b/datasets",
        "/models/flight-delay/datasets",
        f"{API_UPLOAD}/more",
    ],
)
def test_elsewhere_it_does_not_help_to_be_somebody(ada: User, path: str) -> None:
    assert post(path, 2 * MOST_BYTES, sized=True, **bearer(ada)).status == 413


@pytest.mark.parametrize("sized", [True, False])
def test_two_gigabytes_are_the_end(ada: User, sized: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_UPLOAD_BYTES == 2 * 1024**3 + MIB
    monkeypatch.setattr(limits, "MOST_UPLOAD_BYTES", 20 * MIB)

    sent = post(API_UPLOAD, 20 * MIB + 1, sized=sized, **bearer(ada))

    assert sent.status == 413
    assert sent.json["message"] == "The request is larger than 20 MiB"


@pytest.mark.parametrize("sized", [True, False])
def test_django_itself_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sized: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sent = post("/login", 3 * MOST_BYTES, application, sized=sized)

    assert (sent.status, sent.json["code"]) == (413, "too_large")
    assert list(tmp_path.iterdir()) == []


def test_a_small_request_reaches_django() -> None:
    sent = post("/api/v1/models", 10, application)

    assert (sent.status, sent.json["code"]) == (401, "not_authenticated")


def test_the_registry_stands_before_the_limit() -> None:
    http = application.application_mapping["http"]

    assert isinstance(http, MlflowProxy)
    assert isinstance(http.panel, BodyLimit)
