"""Holds requests for revisions that sleep until one of their replicas is ready.

The gateway sends such requests here. It keeps the whole request and sends it again to a replica
when this answers 503: nothing is forwarded by us, so that a model's answers never pass through.
What else this answers is not tried again: 502 when the model does not start, 504 when it takes too
long.
"""

import asyncio
import json
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

from apps.serving.backends.routing import START_SECONDS, WAKE

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Told = tuple[int, str]  # status and words
READY: Told = (503, "A replica is ready; the request goes there")

# Less than what the gateway waits for one try: its own words would be "upstream timeout".
HELD_SECONDS = START_SECONDS - 10
# A gateway that sends a request back here has not yet taken the list with the new replica.
AGAIN_SECONDS = 0.3


class Doorkeeper:
    """It is told by `open_for` and `refuse`, from any thread, and tells by `on_knock`."""

    def __init__(self, on_knock: Callable[[int], None]) -> None:
        self._on_knock = on_knock
        self._waiting: dict[int, set[asyncio.Future[Told]]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reasons: dict[int, str] = {}  # revision -> what its start waits for

    @property
    def waiting(self) -> set[int]:
        """The revisions that somebody waits for."""
        return {revision for revision, held in list(self._waiting.items()) if held}

    def open_for(self, revision: int) -> None:
        """It lets those go that wait for this revision: a replica is ready."""
        self._tell(revision, READY)

    def refuse(self, revision: int, why: str) -> None:
        """It tells those that wait for this revision why they wait in vain."""
        self._tell(revision, (502, why))

    def run(self, path: Path, stop: threading.Event) -> None:
        """It listens on the socket until it is told to stop. Not for the main thread, whose
        signals uvicorn would take. Raises: OSError."""
        config = uvicorn.Config(
            self.app, interface="asgi3", lifespan="off", ws="none", access_log=False,
            log_config=None, timeout_graceful_shutdown=2,
        )  # fmt: skip
        with _bound(path) as listening:
            asyncio.run(self._serve(uvicorn.Server(config), listening, stop))

    async def _serve(
        self, server: uvicorn.Server, listening: socket.socket, stop: threading.Event
    ) -> None:
        self._loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not serving.done():
            server.should_exit = stop.is_set()
            await asyncio.wait([serving], timeout=0.1)
        await serving

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """It is the ASGI application."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        asked = re.fullmatch(rb"(\d{1,18})/(\d{1,18})", headers.get(WAKE.encode(), b""))
        if asked is None:
            await _answer(send, 200, {"ready": True})  # whether we are well
            return
        revision, most_bytes = int(asked[1]), int(asked[2])
        size = await _drained(receive)
        if size is None:
            return
        if headers.get(b"x-envoy-attempt-count", b"1") != b"1":
            await asyncio.sleep(AGAIN_SECONDS)
        told = await self._held(revision, receive)
        if told == READY and size > most_bytes:
            # The gateway has let go of it and could only pass our 503 on.
            words = f"The model slept, and no body over {most_bytes} bytes can wait for its start"
            told = (413, f"{words}; it runs now: send it again if it takes so much")
        if told is not None:
            await _answer(send, told[0], {"error": told[1]})

    async def _held(self, revision: int, receive: Receive) -> Told | None:
        """What to answer; None when the caller left."""
        self._loop = asyncio.get_running_loop()
        told: asyncio.Future[Told] = self._loop.create_future()
        gone = asyncio.ensure_future(_drained(receive))
        either: list[asyncio.Future[Any]] = [told, gone]
        self._waiting[revision].add(told)
        self._on_knock(revision)
        try:
            await asyncio.wait(either, timeout=HELD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if told.done():
                return told.result()
            if gone.done():
                return None
            why = self.reasons.get(revision, "")
            words = f"The model slept and did not start within {HELD_SECONDS:g} s"
            return 504, f"{words}: {why}" if why else words
        finally:
            self._waiting[revision].discard(told)
            gone.cancel()

    def _tell(self, revision: int, what: Told) -> None:
        if self._loop is None:
            return

        def tell() -> None:
            for held in self._waiting.pop(revision, set()):
                if not held.done():
                    held.set_result(what)

        self._loop.call_soon_threadsafe(tell)


def _bound(path: Path) -> socket.socket:
    """A socket that nobody else may use: models run on this machine too."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)
    return listening


async def _drained(receive: Receive) -> int | None:
    """It reads to the end of the body and gives its size; None when the caller left."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return size


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(content)),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
