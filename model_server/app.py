"""It answers HTTP requests for one model: health, metadata and inference."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from model_server import __version__
from model_server.answers import dumps
from model_server.batching import Batches, Batching, joins
from model_server.capture import Capture, Record
from model_server.errors import BadRequest, NotAllowed, NotFound, TooLarge, Unsupported
from model_server.formats import Answer, Body, Format, Sent, Served, params, v2
from model_server.formats.scoring import Scoring
from model_server.formats.v1 import V1
from model_server.formats.v2 import V2
from model_server.loading import LoadedModel
from model_server.upstream.remote import Remote

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 16 << 20
MAX_DRAINED_BYTES = 256 << 20
MAX_ID_BYTES = 256
CLIENT_GONE = 499
_JSON, _BINARY = b"application/json", b"application/octet-stream"


@dataclass(frozen=True)
class Identity:
    """It says which revision this process serves."""

    endpoint: str
    environment: str
    revision: str
    version: str
    digest: str
    replica: str


class _Gone(Exception):
    """It says that the caller left before its body was read."""


class _Request:
    """It is what the headers of one request say."""

    def __init__(self, scope: Scope) -> None:
        found: dict[bytes, bytes] = dict(scope["headers"])
        given = found.get(b"x-request-id", b"")
        # A longer id would only serve to bloat logs and captures.
        usable = 0 < len(given) <= MAX_ID_BYTES
        self.id = given if usable else str(uuid.uuid4()).encode()
        self.caller = found.get(b"x-caller", b"")[:MAX_ID_BYTES].decode("latin-1")
        self.shadow = b"x-shadow" in found
        length = found.get(b"content-length", b"")
        self.length = int(length) if length.isdigit() else None
        self.content_type = found.get(b"content-type", b"").decode("latin-1")
        self.encoding = found.get(b"content-encoding", b"").decode("latin-1").lower()
        tensors_after = found.get(b"inference-header-content-length")
        self.header_length = tensors_after.decode("latin-1") if tensors_after is not None else None


class App:
    """It is the ASGI application around one loaded model."""

    def __init__(
        self,
        model: LoadedModel,
        identity: Identity,
        capture: Capture,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        batching: Batching | None = None,
    ) -> None:
        self.model = model
        self._remote = model if isinstance(model, Remote) else None
        self.identity = identity
        self.capture = capture
        self._max_body_bytes = max_body_bytes
        can_batch = batching and self._remote is None and joins(model.card.signature)
        self._batches = Batches(model.call, batching) if batching and can_batch else None
        self.is_draining: Callable[[], bool] = lambda: False
        self.served = 0
        self.in_flight = 0
        self._about = Served(identity.endpoint, identity.version, model.card.predict_fn)
        self._params = model.card.params
        self._headers = [
            (b"x-model-version", identity.version.encode()),
            (b"x-revision", identity.revision.encode()),
        ]
        name = identity.endpoint
        self._inference: dict[str, Format] = {
            f"/v2/models/{name}/infer": V2(),
            f"/v2/models/{name}/versions/{identity.version}/infer": V2(),
            f"/v1/models/{name}:predict": V1(),
            "/invocations": Scoring(),
        }
        model_paths = (f"/v2/models/{name}", f"/v2/models/{name}/versions/{identity.version}")
        self._reading: dict[str, Callable[[], tuple[int, dict[str, Any]]]] = {
            "/ready": self._ready,
            "/stats": self._stats,
            "/ping": self._ready,  # as MLflow's own server calls it, and its client asks
            "/v2": lambda: (
                200,
                {
                    "name": "model_server",
                    "version": __version__,
                    "extensions": v2.EXTENSIONS,
                },
            ),
            "/v2/health/live": lambda: (200, {"live": True}),
            "/v2/health/ready": self._ready,
            f"/v1/models/{name}": lambda: (200, {"name": name, "ready": not self.is_draining()}),
            **{path: lambda: (200, self._metadata()) for path in model_paths},
            **{path + "/ready": self._ready for path in model_paths},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """It answers one request."""
        request = _Request(scope)
        path, method = scope["path"], scope["method"]
        format = self._inference.get(path)
        if format is not None and method == "POST":
            await self._infer(format, request, receive, send)
            return
        status, body = self._read(path, method)
        await self._send(send, request, status, Answer(dumps(body)))

    def _read(self, path: str, method: str) -> tuple[int, dict[str, Any]]:
        if path in self._inference:
            return NotAllowed.status, {"error": f"{path} takes POST"}
        answer = self._reading.get(path)
        if answer is None:
            return NotFound.status, {"error": f"nothing is served at {path}"}
        if method not in ("GET", "HEAD"):
            return NotAllowed.status, {"error": f"{path} takes GET"}
        return answer()

    async def _infer(self, format: Format, request: _Request, receive: Receive, send: Send) -> None:
        at, start = time.time_ns() // 1000, time.perf_counter_ns()
        self.in_flight += 1
        parts: list[bytes] = []
        record, failed = None, ""
        try:
            try:
                await _receive_body(request, receive, parts, self._max_body_bytes)
                body = self._parsed(format, request, b"".join(parts))
                record = body.record
                if self._remote is None:
                    status, answer, failed = await self._answer(format, body.value)
                else:
                    sent = _sent(request, b"".join(parts))
                    status, answer, failed = await self._remote.answer(
                        format, sent, body, request.id, self._about
                    )
            except BadRequest as error:
                answer = Answer(format.error(error.status, _writable(str(error))))
                status, failed = error.status, _named(error)
            except _Gone:
                status, answer = CLIENT_GONE, Answer(b"null")
                failed = "ClientGone: left before its body"
            except Exception as error:  # noqa: BLE001 - uvicorn's own 500 would leave no record
                failed = _named(error)
                status, answer = 500, Answer(format.error(500, f"the server failed: {failed}"))
            self.served += 1
            self.capture.add(
                Record(
                    id=request.id.decode("latin-1"),
                    ts=at,
                    status=status,
                    us=(time.perf_counter_ns() - start) // 1000,
                    format=format.name,
                    caller=request.caller,
                    shadow=request.shadow,
                    request=b"".join(parts) if record is None else record,
                    is_json=record is not None,
                    response=answer.record,
                    error=failed,
                )
            )
            if status != CLIENT_GONE:
                await self._send(send, request, status, answer)
        finally:
            self.in_flight -= 1

    def _parsed(self, format: Format, request: _Request, content: bytes) -> Body:
        if request.encoding not in ("", "identity"):
            raise Unsupported("the body must be sent as it is, without a content-encoding")
        with _Blaming(f"the body cannot be read as {format.name}"):
            return format.read(_sent(request, content), self.model.card.signature)

    async def _answer(self, format: Format, body: Any) -> tuple[int, Answer, str]:
        if not isinstance(body, dict):
            raise BadRequest("the body must be a JSON object")
        # As a 500 it would count against the revision, and a broken client could end a canary.
        with _Blaming(f"the body cannot be read as {format.name}"):
            asked = format.parse(body, self.model.card.signature)
            params.check(self._params, asked.params)
        with _Blaming("the input cannot be read"):
            data = self.model.prepare(asked.payload)
        try:
            if self._batches is None:
                result = self.model.call(data, asked.params)
            else:
                result = await self._batches.call(data, asked.params)
        # A model may raise anything, and one that calls sys.exit() must not stop the server.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            return _model_failed(format, error)
        try:
            return 200, format.render(result, asked, self._about), ""
        except BadRequest:  # it wants an output that the model does not give
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - what a model returns is its own
            return _model_failed(format, error)

    async def _send(self, send: Send, request: _Request, status: int, answer: Answer) -> None:
        length = answer.header_length
        headers = [
            (b"content-type", _JSON if length is None else _BINARY),
            *self._headers,
            (b"x-request-id", request.id),
            (b"content-length", b"%d" % len(answer.content)),
        ]
        if length is not None:
            headers.append((b"inference-header-content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.content})

    def _metadata(self) -> dict[str, Any]:
        if self._remote is not None:
            return self._remote.metadata(self._about)
        return v2.metadata(self.model.card, self._about)

    def _ready(self) -> tuple[int, dict[str, Any]]:
        ready = not self.is_draining()
        return 200 if ready else 503, {
            "ready": ready,
            "digest": self.identity.digest,
            "version": self.identity.version,
            "revision": self.identity.revision,
            "endpoint": self.identity.endpoint,
            "in_flight": self.in_flight,
        }

    def _stats(self) -> tuple[int, dict[str, Any]]:
        return 200, {
            "served": self.served,
            "in_flight": self.in_flight,
            "dropped": self.capture.dropped,
            "written": self.capture.written,
            "unknown_columns": self.model.unknown_columns,
        }


def _sent(request: _Request, content: bytes) -> Sent:
    return Sent(content, request.content_type, request.header_length)


async def _receive_body(
    request: _Request, receive: Receive, parts: list[bytes], most_bytes: int
) -> None:
    """It reads a body; one that is too large to its end as well, keeping only its beginning: a
    caller who still sends would get a closed connection and never the words."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        part = message.get("body", b"")
        size += len(part)
        if size <= most_bytes or not parts:
            parts.append(part)
        elif len(parts) > 1:
            del parts[1:]
        if not message.get("more_body") or size > most_bytes + MAX_DRAINED_BYTES:
            break
    if size > most_bytes:
        raise TooLarge(f"the body is over the limit of {most_bytes} bytes")


def _model_failed(format: Format, error: BaseException) -> tuple[int, Answer, str]:
    failed = _named(error)
    return 500, Answer(format.error(500, f"the model failed: {failed}")), failed


class _Blaming:
    """It makes a caller's mistake of a value that no check foresaw."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, BadRequest):
            raise BadRequest(f"{self._words}: {_named(error)}") from error


def _named(error: BaseException) -> str:
    text = _writable(f"{type(error).__name__}: {error}")
    return text if len(text) <= 500 else text[:497] + "..."


def _writable(text: str) -> str:
    # JSON cannot hold half of a surrogate pair: neither the answer nor the record would be written.
    return text.encode("utf-8", "replace").decode()
