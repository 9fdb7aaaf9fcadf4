"""/mlflow: the registry, with the panel's people and tokens.

MLflow's own server is reachable only with a secret that this proxy adds. What passes stands in a
list: MLflow also has addresses that run commands, for whoever comes from loopback. Who asked is
decided here: session or bearer token, `mlflow.read` or `mlflow.write`, in the team that owns what
the call names; and since MLflow knows no people, what they register is noted as theirs.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote

import httpx
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.db import close_old_connections
from django.db.models import CharField, F, Func, Q, Value
from django.db.models.functions import Left
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts import services as accounts
from apps.accounts.models import User
from apps.accounts.selectors import may, teams_of
from apps.registry.models import Model, Version
from apps.registry.services import versions
from mlops_portal.mlflow_addresses import (
    ALIASING,
    CONTROL,
    DELETING_FILES,
    HEX,
    OF_A_MODEL,
    OF_ALL_IN_IT,
    Kind,
    is_crooked,
    kind_of,
    unquoted,
)

log = logging.getLogger(__name__)
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PREFIX = "/mlflow"
PLAIN = "/:@!$&'()*+,;=~"  # what may stand in a path as it is
NAMES_A_RUN = b"x-mlflow-run-id"  # of traces, whose body is not JSON
DROPPED = frozenset(
    b"connection keep-alive te trailers transfer-encoding upgrade host authorization cookie "
    b"origin referer proxy-authorization x-forwarded-for".split()
)
READING = ("GET", "HEAD")
NOTED = "/model-versions/create"
MOST_NOTED_BYTES = 1_000_000
MOST_CALL_BYTES = 4_000_000  # of a call in JSON; files and rows are passed on unread
MOST_IDS = 2_000  # MLflow's own pages ask for 100 at once; a million would stop the panel
MOST_LOGGED = 100
MOST_MAKERS = 10_000
MAKER_SECONDS = 10
ABSENT = (400, 403, 404)  # for what a server does not have, or does not know at all


MODEL_URI = r"(?i:models):/+([\w.-]+)"
# Where a version's source names what it was made of: models:/m-1f, mlflow-artifacts:/7/models/m-1f.
# The second way finds more and costs much more; a version that has its run needs only the first.
LOGGED = Left(
    Func(F("source"), Value("/m-"), Value(-1), function="split_part", output_field=CharField()), 32
)
INSIDE = Func(F("source"), Value(HEX), function="substring", output_field=CharField())


@dataclass(frozen=True)
class Named:
    """What a call names, in the words by which the registry's rows know whose it is."""

    ids: set[str]  # of runs and logged models, without the "m-"
    logged: set[str]  # the logged models among them, with it
    models: set[str]
    experiments: set[str]


class Unclear(Exception):
    """What the call names cannot be told."""


class MlflowProxy:
    """ASGI: passes /mlflow on to the registry and everything else to the panel."""

    def __init__(self, panel: App) -> None:
        self.panel = panel
        self.makers: dict[str, str] = {}  # what was once found never changes
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
        try:
            refusal, receive = await self.check(scope, receive, user)
        except httpx.HTTPError as down:
            await no_answer(send, down)
            return
        if refusal:
            await refuse(send, 403, "forbidden", refusal)
            return
        await self.forward(scope, receive, send, user)

    async def check(self, scope: Scope, receive: Receive, user: User) -> tuple[str, Receive]:
        """It says why the call is refused, "" when it is not, and gives what is left to read.

        Raises: httpx.HTTPError when MLflow must be asked and does not answer.
        """
        call = call_of(scope)
        refusal, kind = await sync_to_async(why_not)(user, call), kind_of(call)
        if refusal or kind not in (Kind.READ, Kind.WRITE, Kind.STREAM):
            return refusal, receive
        body: bytes | None = b""
        if kind is not Kind.STREAM and scope["method"] not in READING:
            body = await small_body(receive)
            receive = again(body)
        try:
            things = await sync_to_async(named)(scope, body)
        except Unclear as why:
            return str(why), receive
        makers = [await self.maker_of(model) for model in things.logged]
        things.ids.update(run for run in makers if run)  # "" is the run of versions without one
        verb = "mlflow.read" if kind is Kind.READ else "mlflow.write"
        return await sync_to_async(whose)(user, verb, things), receive

    async def maker_of(self, logged: str) -> str:
        """The run that made a logged model; "" when none did, or there is no such model.

        Of a version that was registered as runs:/… the panel knows the run, but its files lie with
        the logged model. Raises: httpx.HTTPError.
        """
        if logged not in self.makers:
            prefix = PREFIX if settings.MLFLOW_EMBEDDED else ""
            path = f"{prefix}/api/2.0/mlflow/logged-models/{logged}"
            answer = await self.client.get(path, headers=secret(), timeout=MAKER_SECONDS)
            if answer.status_code in ABSENT:
                return ""  # not remembered: it may be made yet
            model = answer.raise_for_status().json().get("model", {})
            if len(self.makers) >= MOST_MAKERS:
                self.makers.clear()
            self.makers[logged] = model.get("info", {}).get("source_run_id", "")
        return self.makers[logged]

    async def forward(self, scope: Scope, receive: Receive, send: Send, user: User) -> None:
        has_body = scope["method"] not in READING
        dropped = DROPPED if has_body else DROPPED | {b"content-length"}
        kept = [(k, v) for k, v in scope["headers"] if k.lower() not in dropped]
        kept += secret()
        path = scope["path"]
        if not settings.MLFLOW_EMBEDDED:
            path = path.removeprefix(PREFIX) or "/"
        # Spelled anew and not as it came: what is called must be what was checked.
        url = httpx.URL(path=quote(path, safe=PLAIN), query=scope["query_string"] or None)
        request = self.client.build_request(
            scope["method"], url, headers=kept, content=body_of(receive) if has_body else None
        )
        try:
            response = await self.client.send(request, stream=True)
        except httpx.TransportError as down:
            await no_answer(send, down)
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
    """The whole body; None when it did not come, or is larger than any call in JSON."""
    body = bytearray()
    try:
        async for piece in body_of(receive):
            body += piece
            if len(body) > MOST_CALL_BYTES:
                return None
    except httpx.WriteError:
        return None
    return bytes(body)


def again(body: bytes | None) -> Receive:
    """It gives what was read for a check to who reads it next."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    return receive


def secret() -> list[tuple[bytes, bytes]]:
    token = settings.MLFLOW_TOKEN
    return [(b"authorization", f"Bearer {token}".encode())] if token else []


async def no_answer(send: Send, down: httpx.HTTPError) -> None:
    log.warning("The registry did not answer: %s", down)
    await refuse(send, 503, "unavailable", "The MLflow server does not answer; try again")


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


def call_of(scope: Scope) -> str:
    """The call as `addresses` writes it. To ask for the head is to ask for the whole."""
    method = "GET" if scope["method"] == "HEAD" else scope["method"]
    return f"{method} {scope['path'].removeprefix(PREFIX)}"


def why_not(user: User, call: str) -> str:
    """It says why this person may not make this call, whatever it names; "" when they may."""
    if not may(user, "mlflow.read"):
        return "You have no role in any team; ask an admin"
    if is_crooked(call):
        return "An address may not hold empty segments, . or .., file: or characters like ? and #"
    if ALIASING.fullmatch(call):
        return "The panel keeps the aliases: promote the version instead"
    kind = kind_of(call)
    if kind is None:
        # MLflow's own pages look for the assistant each time that they open.
        level = logging.INFO if call.startswith("GET ") else logging.WARNING
        log.log(level, "Not forwarded to MLflow: %r of %s", call, user)
        return "This address is not forwarded to MLflow"
    if kind in (Kind.WRITE, Kind.STREAM) and not may(user, "mlflow.write"):
        return "Writing to the registry needs the role data scientist in a team"
    if kind is Kind.ADMIN and not may(user, "team.manage"):
        return "Webhooks are the admins' business"
    if DELETING_FILES.fullmatch(call) and not re.search(HEX, unquoted(call)[-1]):
        return "Files are deleted by run or by model; this address may hold those of many"
    return ""


def whose(user: User, verb: str, things: Named) -> str:
    """It says why this person may not do the verb to what the call names; "" when they may.

    What the panel does not know yet belongs to nobody, as does what belongs to everybody.
    """
    model = foreign(user, verb, things)
    if model is None:
        return ""
    touch = "read" if verb == "mlflow.read" else "write to"
    return f"The model {model} belongs to the team {model.team}; you have no right to {touch} it"


def named(scope: Scope, body: bytes | None) -> Named:
    """Raises: Unclear."""
    try:
        document = document_of(body)
    except (ValueError, TypeError, RecursionError) as broken:
        raise Unclear("The body is not a JSON object of at most 4 MB") from broken
    call, query = call_of(scope), scope["query_string"].decode("latin-1")
    if call == "POST /graphql" and "\\" in str(document.get("query")):
        raise Unclear("A query may not hold backslashes: they could spell an id that is not seen")
    headers = [v.decode("latin-1") for k, v in scope["headers"] if k.lower() == NAMES_A_RUN]
    said = spelled(" ".join((call, query, *headers, *strings(document))))
    lowered = [text.lower() for text in said]
    ids, logged = in_all(HEX, lowered), in_all("m-" + HEX, lowered)
    if len(ids) > MOST_IDS or len(logged) > MOST_LOGGED:
        raise Unclear(f"The call names over {MOST_IDS} ids or {MOST_LOGGED} models; split it")
    models: list[Any] = []
    if OF_A_MODEL.fullmatch(call):
        models += [document.get(key) for key in ("name", "new_name", "newName")]
        models += [*parse_qs(query).get("name", []), *in_all(MODEL_URI, said)]
    experiments: list[Any] = []
    if OF_ALL_IN_IT.fullmatch(call):
        experiments = [document.get(key) for key in ("experiment_id", "experimentId")]
    return Named(ids, logged, words(models), words(experiments))


def document_of(body: bytes | None) -> dict[str, Any]:
    """The call's JSON, read as MLflow reads it. Raises: ValueError, TypeError, RecursionError."""
    if body is None:
        raise ValueError
    document = json.loads(body or b"{}")
    if isinstance(document, str):
        document = json.loads(document)  # of older clients, which encode twice
    if not isinstance(document, dict):
        raise TypeError
    return document


def strings(value: Any) -> Iterator[str]:
    """Every string of a JSON document, the keys too."""
    left = [value]
    while left:
        held = left.pop()
        if isinstance(held, str):
            yield held
        elif isinstance(held, dict):
            left += [*held, *held.values()]
        elif isinstance(held, list):
            left += held


def spelled(text: str) -> list[str]:
    """The text as MLflow may come to read it; it drops control characters from a path."""
    return [CONTROL.sub("", level) for level in unquoted(text)]


def in_all(pattern: str, texts: list[str]) -> set[str]:
    return {found for text in texts for found in re.findall(pattern, text)}


def words(values: Iterable[Any]) -> set[str]:
    """The values as the database can compare them."""
    return {str(v).replace("\0", "").encode(errors="ignore").decode() for v in values if v}


def foreign(user: User, verb: str, things: Named) -> Model | None:
    """A model that the call touches and for which the user may not do the verb."""
    if not (things.ids or things.models or things.experiments):
        return None
    named = Version.objects.alias(logged=LOGGED, inside=INSIDE).filter(
        Q(run_id__in=things.ids)
        | Q(logged__in=things.ids)
        | Q(run_id="") & Q(inside__in=things.ids)
        | Q(run__experiment_id__in=things.experiments)
    )
    touched = Q(name__in=things.models) | Q(pk__in=named.values("model"))
    others = Model.objects.exclude(team__slug=versions.EVERYONE)
    return (
        others.exclude(team__in=teams_of(user, verb)).filter(touched).select_related("team").first()
    )


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
    versions.note_submission(name=name, number=number, user=user, now=timezone.now())
