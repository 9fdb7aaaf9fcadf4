"""/mlflow: the registry, with the panel's people and tokens.

MLflow's own server is reachable only with a secret that this proxy adds. Who asked is decided
here: session or bearer token, `mlflow.read` or `mlflow.write`; and since MLflow knows no people,
what they register is noted as theirs.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import close_old_connections
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts import services as accounts
from apps.accounts.models import User
from apps.accounts.selectors import may
from apps.registry import services as registry
from apps.registry.models import Model

log = logging.getLogger(__name__)
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/mlflow"
DROPPED = frozenset(
    b"connection keep-alive te trailers transfer-encoding upgrade host authorization cookie "
    b"origin referer proxy-authorization x-forwarded-for".split()
)
READING = ("GET", "HEAD")
# Whole addresses: an artifact may be called "search", and to put one is to write.
READING_POST = re.compile(
    PREFIX + r"/((ajax-)?api/[\d.]+/mlflow/([a-z-]+/)+"
    r"(search|get-latest-versions|get-history-bulk)|graphql)"
)
OF_A_MODEL = re.compile(
    PREFIX + r"/(ajax-)?api/[\d.]+/mlflow/(registered-models|model-versions)/.*"
)
NOTED = "/model-versions/create"
MOST_NOTED_BYTES = 1_000_000
MOST_MODEL_BYTES = 1_000_000  # of a call that names a model; artifacts take another way


class MlflowProxy:
    """ASGI: passes /mlflow on to the registry and everything else to the panel."""

    def __init__(self, panel: App) -> None:
        self.panel = panel
        self._client: httpx.AsyncClient | None = None

    @property
    def client(self) -> httpx.AsyncClient:
        if self._client is None:  # made in the loop that uses it
            self._client = httpx.AsyncClient(
                base_url=settings.MLFLOW_URL,
                timeout=httpx.Timeout(60, read=None, connect=3),
                limits=httpx.Limits(max_connections=50),
            )
        return self._client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(PREFIX + "/")):
            await self.panel(scope, receive, send)
            return
        headers = dict(scope["headers"])
        user = await sync_to_async(user_of)(headers)
        if user is None:
            await refuse(send, 401, "not_authenticated", "Sign in, or send a portal token")
            return
        if is_cross_origin(headers):
            await refuse(send, 403, "cross_origin", "Another site's page may not call the registry")
            return
        refusal = await sync_to_async(why_not)(user, scope["method"], path)
        if not refusal and OF_A_MODEL.fullmatch(path) and not only_reads(scope["method"], path):
            body = await small_body(receive)
            receive = again(body)
            refusal = await sync_to_async(whose)(user, body)
        if refusal:
            await refuse(send, 403, "forbidden", refusal)
            return
        await self.forward(scope, receive, send, user)

    async def forward(self, scope: Scope, receive: Receive, send: Send, user: User) -> None:
        has_body = scope["method"] not in READING
        dropped = DROPPED if has_body else DROPPED | {b"content-length"}
        kept = [(k, v) for k, v in scope["headers"] if k.lower() not in dropped]
        if settings.MLFLOW_TOKEN:
            kept.append((b"authorization", f"Bearer {settings.MLFLOW_TOKEN}".encode()))
        path = scope.get("raw_path", scope["path"].encode()).decode("ascii")
        if not settings.MLFLOW_EMBEDDED:
            path = path.removeprefix(PREFIX) or "/"
        url = httpx.URL(path=path, query=scope["query_string"] or None)
        request = self.client.build_request(
            scope["method"], url, headers=kept, content=body_of(receive) if has_body else None
        )
        try:
            response = await self.client.send(request, stream=True)
        except httpx.TransportError as down:
            log.warning("The registry did not answer: %s", down)
            await refuse(send, 503, "unavailable", "The MLflow server does not answer; try again")
            return
        try:
            answer = [(k.lower(), v) for k, v in response.headers.raw if k.lower() not in DROPPED]
            status = response.status_code
            await send({"type": "http.response.start", "status": status, "headers": answer})
            noted = b""
            notes = status == 200 and scope["method"] == "POST" and scope["path"].endswith(NOTED)
            async for chunk in response.aiter_raw():
                if notes and len(noted) < MOST_NOTED_BYTES:
                    noted += chunk
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if notes:
                await sync_to_async(note)(noted, response.headers, user)
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise httpx.WriteError("The caller went away")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def small_body(receive: Receive) -> bytes | None:
    """The whole body; None when it did not come, or is larger than any call that names a model."""
    body = b""
    try:
        async for piece in body_of(receive):
            body += piece
            if len(body) > MOST_MODEL_BYTES:
                return None
    except httpx.WriteError:
        return None
    return body


def again(body: bytes | None) -> Receive:
    """It gives what was read for a check to who reads it next."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    return receive


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """MLflow's own error shape, so that its client shows the words."""
    body = json.dumps({"error_code": code.upper(), "message": message}).encode()
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def user_of(headers: dict[bytes, bytes]) -> User | None:
    close_old_connections()
    scheme, _, key = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return accounts.user_of_key(key.strip(), timezone.now())
    cookie = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
    held = cookie.get(settings.SESSION_COOKIE_NAME)
    if held is None:
        return None
    request = HttpRequest()
    request.session = SessionStore(held.value)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None


def only_reads(method: str, path: str) -> bool:
    return method in READING or (method == "POST" and READING_POST.fullmatch(path) is not None)


def why_not(user: User, method: str, path: str) -> str:
    """It says why this person may not make this call; "" when they may."""
    reads = only_reads(method, path)
    if {".", ".."} & set(path.split("/")):  # what is checked must be what is called
        return "An address may not hold the segments . and .."
    if not may(user, "mlflow.read"):
        return "You have no role in any team; ask an admin"
    if not reads and not may(user, "mlflow.write"):
        return "Writing to the registry needs the role data scientist in a team"
    if not reads and path.rstrip("/").endswith("/registered-models/alias"):
        return "The panel keeps the aliases: promote the version instead"
    if not reads and "/webhooks" in path and not may(user, "team.manage"):
        return "Webhooks are the admins' business"
    return ""


def whose(user: User, body: bytes | None) -> str:
    """It says why this person may not write to the model that the body names; "" when they may.

    A model that the panel does not know yet belongs to nobody, as does one of everybody's.
    """
    try:
        named = json.loads(body or b"{}") if body is not None else None
        if isinstance(named, str):
            named = json.loads(named)  # as MLflow reads it, for its older clients
        if not isinstance(named, dict):
            raise TypeError
        name = named.get("name", "")
    except (ValueError, TypeError, RecursionError):
        return "The body is not a JSON object of at most 1 MB"
    model = Model.objects.select_related("team").filter(name=str(name).replace("\0", "")).first()
    if model is None or model.team.slug == registry.EVERYONE or may(user, "mlflow.write", model):
        return ""
    return f"The model {name} belongs to the team {model.team}; you have no right to write to it"


def is_cross_origin(headers: dict[bytes, bytes]) -> bool:
    """Stands in for CSRF protection, since MLflow sees neither cookie nor origin."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or b"authorization" in headers:
        return False
    return origin.split("://")[-1] != headers.get(b"host", b"").decode("latin-1")


def note(body: bytes, headers: httpx.Headers, user: User) -> None:
    """It remembers who registered the version; MLflow's answer says which one it became."""
    try:
        if headers.get("content-encoding"):
            body = httpx.Response(200, headers=headers, content=body).content
        version = json.loads(body)["model_version"]
        name, number = str(version["name"]), int(version["version"])
    except (ValueError, KeyError, TypeError, httpx.DecodingError):
        log.warning("A registration answer of MLflow could not be read")
        return
    registry.note_submission(name=name, number=number, user=user, now=timezone.now())
