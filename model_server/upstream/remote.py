"""It is a model behind a server of its own: a command that this process starts, or an address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from model_server.answers import dumps
from model_server.card import COMMAND, ServingCard, address, is_allowed
from model_server.errors import BadRequest, NotLoadable
from model_server.formats import Answer, Asked, Body, Format, Sent, Served, v2
from model_server.formats.reading import loads
from model_server.loading import LoadedModel, example_payload, is_v2
from model_server.log import event
from model_server.payload import Payload
from model_server.upstream import wire
from model_server.upstream.child import Child, CommandEnded
from model_server.upstream.client import Client, Late, Reply, Target, UpstreamError, target

ALLOWED = "PORTAL_REMOTE_SERVERS"  # set by the panel: "host:port,host:port"
READY = "/v2/health/ready"
READY_SECONDS = 2.0
POLL_SECONDS = 0.05
HUNG_LATE = 3
_JSON, _BINARY = b"application/json", b"application/octet-stream"

Given = tuple[int, Answer, str]


class Remote(LoadedModel):
    """It asks the server behind in V2; V2 requests pass as they are, others are translated."""

    def __init__(self, card: ServingCard, place: Target, name: str, child: Child | None) -> None:
        columns = card.signature.columns if card.signature else ()
        form = wire.ByColumn(columns) if columns else None
        super().__init__(card, card.runtime, self._once, form=form)
        self.remote_card = card
        self.child = child
        self._place = place
        self._infer = f"/v2/models/{name}/infer"
        self._about = f"/v2/models/{name}"
        self._described: dict[str, Any] = {}
        self._client: Client | None = None
        self._late, self._answered = 0, 0.0  # requests that waited in vain; when one did not

    def start(self) -> None:
        """It waits until the server behind is ready. Raises: NotLoadable with its last words."""
        try:
            asyncio.run(self._start())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """It ends the command, if there is one."""
        if self.child is not None:
            self.child.stop()

    def watch(self, ended: Callable[[str, int], None]) -> None:
        """It calls back, from a thread, with words and code when the command ends by itself."""
        child = self.child
        if child is not None:
            child.watch(lambda code: ended(child.described(), code))

    def prepare(self, payload: Payload) -> Any:
        """It checks a payload against the card's signature, without which there is no V2 of it."""
        if self.card.signature is None:
            raise BadRequest(
                "the model's card has no signature, so only V2 is understood here: "
                "send V2 to /v2/models/.../infer"
            )
        return super().prepare(payload)

    def call(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """It asks the server behind and waits for its answer, where no loop runs."""
        return self._once(wire.request(data, params))

    def answer_example(self) -> tuple[int, Any] | None:
        """It asks the card's example: a V2 body as it is, any other by the signature."""
        example = self.remote_card.input_example
        if example is not None and is_v2(example):
            return _rows(example), self._once(dumps(example))
        found = example_payload(self.card)
        if found is None:
            return None
        payload, params = found
        return payload.rows, self.call(self.prepare(payload), params)

    def metadata(self, served: Served) -> dict[str, Any]:
        """It describes the model by its card, or else as the server behind does."""
        found = v2.metadata(self.card, served)
        if self.card.signature is None:
            for side in ("inputs", "outputs"):
                said = self._described.get(side)
                found[side] = said if isinstance(said, list) else []
        return found

    async def answer(
        self, format: Format, sent: Sent, body: Body, request_id: bytes, served: Served
    ) -> Given:
        """It gives status, answer and the error to record. Raises: BadRequest."""
        if not isinstance(body.value, dict):
            raise BadRequest("the body must be a JSON object")
        try:
            if isinstance(format, v2.V2):
                return _passed(format, await self._posted(sent, request_id))
            asked, request = self._translated(format, body.value)
            reply = await self._posted(Sent(request), request_id)
            if reply.status >= 400:
                return _refused(format, reply)
            return 200, format.render(wire.result(reply), asked, served), ""
        except UpstreamError as error:
            if isinstance(error, Late):
                self._suspect()
            words = str(error)
            failed = f"{type(error).__name__}: {words}"
            return error.status, Answer(format.error(error.status, words)), failed

    def _translated(self, format: Format, value: dict[str, Any]) -> tuple[Asked, bytes]:
        try:
            asked = format.parse(value, self.card.signature)
            return asked, wire.request(self.prepare(asked.payload), asked.params)
        except BadRequest:
            raise
        except Exception as error:  # a value that no check foresaw is still the caller's
            named = f"{type(error).__name__}: {error}"
            raise BadRequest(f"the body cannot be read as {format.name}: {named}") from error

    async def _posted(self, sent: Sent, request_id: bytes) -> Reply:
        if self._client is None:
            self._client = self._new_client()
        headers = [(b"content-type", _JSON), (b"x-request-id", request_id)]
        if sent.header_length is not None:
            headers[0] = (b"content-type", _BINARY)
            headers.append((wire.LENGTH, sent.header_length.encode("latin-1")))
        reply = await self._client.ask("POST", self._infer, sent.content, headers)
        self._late, self._answered = 0, asyncio.get_running_loop().time()
        return reply

    def _suspect(self) -> None:
        """It ends a command that answers nobody any more; the replica ends with it and is started
        anew. One slow request, or many at once, are not enough."""
        self._late += 1
        silent = asyncio.get_running_loop().time() - self._answered
        hangs = self._late >= HUNG_LATE and silent > HUNG_LATE * self.remote_card.answer_seconds
        if hangs and self.child is not None:
            event("command_hangs", error=f"it answered none of the last {self._late} requests")
            self.child.kill()

    def _new_client(self) -> Client:
        return Client(self._place, seconds=self.remote_card.answer_seconds)

    def _once(self, request: bytes) -> Any:
        async def ask() -> Reply:
            client = self._new_client()
            try:
                headers = [(b"content-type", _JSON)]
                return await client.ask("POST", self._infer, request, headers)
            finally:
                client.close()

        return wire.result(asyncio.run(ask()))

    async def _start(self) -> None:
        client = self._new_client()
        try:
            await self._until_ready(client)
            with contextlib.suppress(UpstreamError, BadRequest):
                reply = await client.ask("GET", self._about, seconds=READY_SECONDS)
                found = loads(reply.body) if reply.status == 200 else None
                self._described = found if isinstance(found, dict) else {}
        finally:
            client.close()

    async def _until_ready(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        limit = self.remote_card.start_seconds
        until = loop.time() + limit
        while True:
            if self.child is not None and self.child.poll() is not None:
                raise CommandEnded(self.child.described())
            try:
                left = max(until - loop.time(), POLL_SECONDS)
                reply = await client.ask("GET", READY, seconds=min(READY_SECONDS, left))
                words = f"{READY} answers {reply.status}"
                if reply.status == 200:
                    return
            except UpstreamError as error:
                words = str(error)
            if loop.time() >= until:
                raise NotLoadable(self._too_late(limit, words))
            await asyncio.sleep(POLL_SECONDS)

    def _too_late(self, limit: float, words: str) -> str:
        said = self.child.last_words() if self.child is not None else ""
        more = f"; its last words were: {said}" if said else ""
        return f"the server behind was not ready within {limit:g} s: {words}{more}"


def opened(card: ServingCard, name: str) -> Remote:
    """It starts the command, or finds the address, and waits until it is ready.

    Raises: NotLoadable in words, among them for an address that the panel's operator does not
    allow: a model's author could have callers' rows sent anywhere.
    """
    name = card.model or name
    if card.runtime == COMMAND:
        child = Child(card, name=name, socket=_socket())
        remote = Remote(card, Target(socket=child.socket), name, child)
        with _ending_on_stop(child):
            remote.start()
        return remote
    if not is_allowed(card.url, os.environ.get(ALLOWED, "").split(",")):
        host, port = address(card.url)
        raise NotLoadable(f"the server {host}:{port} is not allowed: {ALLOWED} does not name it")
    remote = Remote(card, target(card.url), name, None)
    remote.start()
    return remote


def _socket() -> Path:
    """It names a socket of this process and removes those of processes that are gone."""
    folder = Path(tempfile.gettempdir())
    for left in folder.glob("up-*.sock"):
        if not Path("/proc", left.stem.removeprefix("up-")).exists():
            with contextlib.suppress(OSError):
                left.unlink()
    return folder / f"up-{os.getpid()}.sock"


@contextlib.contextmanager
def _ending_on_stop(child: Child) -> Iterator[None]:
    """A stop before the command is ready must not leave behind what it has started."""
    before = signal.getsignal(signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not callable(before):  # only there may a handler be set
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        child.stop(0)
        before(number, frame)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _passed(format: Format, reply: Reply) -> Given:
    if reply.status != 200:
        return _refused(format, reply)
    answer, _ = wire.answer(reply)
    return 200, answer, ""


def _refused(format: Format, reply: Reply) -> Given:
    words = wire.words(reply)
    if not 400 <= reply.status <= 599:
        what = "redirects, which is not followed" if 300 <= reply.status <= 399 else "answers"
        raise UpstreamError(f"the server behind {what} ({reply.status}): {words}")
    said = f"the server behind answered {reply.status}: {words}"
    taken = wire.refusal(reply) if isinstance(format, v2.V2) else None
    return reply.status, taken or Answer(format.error(reply.status, said)), said


def _rows(example: dict[str, Any]) -> int:
    shape = example["inputs"][0].get("shape")
    return shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else 0
