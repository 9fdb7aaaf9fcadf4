"""It speaks HTTP/1.1 to one server over kept connections, and never waits without an end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httptools

from model_server import card

CONNECTIONS = 64
WAITING = 1000
MAX_HEAD_BYTES = 64 << 10
MAX_ANSWER_BYTES = 16 << 20

Header = tuple[bytes, bytes]


class UpstreamError(Exception):
    """It says that the server behind gave no usable answer; ours is 502."""

    status = 502


class Down(UpstreamError):
    """It says that the server behind could not be asked; the answer is 503."""

    status = 503


class Late(UpstreamError):
    """It says that the server behind did not answer in time; the answer is 504."""

    status = 504


@dataclass(frozen=True)
class Target:
    """It says where a server listens: on a unix socket, or at host and port with or without TLS."""

    socket: Path | None = None
    host: str = ""
    port: int = 0
    tls: bool = False
    prefix: str = ""

    @property
    def name(self) -> bytes:
        """It is what the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode() if self.host else b"model"


@dataclass(frozen=True)
class Reply:
    """It is a whole answer; the names of its headers are in lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def target(url: str) -> Target:
    """It reads an address that the card has checked."""
    host, port = card.address(url)
    parts = urlsplit(url)
    return Target(host=host, port=port, tls=parts.scheme == "https", prefix=parts.path)


class Client:
    """It keeps connections to one server. It belongs to the loop in which it is first asked."""

    def __init__(self, place: Target, *, seconds: float, connections: int = CONNECTIONS) -> None:
        self._place = place
        self._seconds = seconds
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(connections)
        self._waiting = 0
        self._tls: ssl.SSLContext | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Iterable[Header] = (),
        *,
        seconds: float | None = None,
    ) -> Reply:
        """It sends one request and gives the answer. Raises: UpstreamError, Down, Late."""
        if self._waiting >= WAITING + CONNECTIONS:
            raise Down("too many requests wait for the server behind")
        limit = seconds or self._seconds
        request = self._written(method, path, body, headers)
        self._waiting += 1
        try:
            return await asyncio.wait_for(self._sent(request), limit)
        except asyncio.TimeoutError:  # noqa: UP041 - Python 3.10 tells it from TimeoutError
            raise Late(f"the server behind did not answer within {limit:g} s") from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """It closes the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def _written(self, method: str, path: str, body: bytes, headers: Iterable[Header]) -> bytes:
        lines = [
            f"{method} {self._place.prefix}{path} HTTP/1.1".encode(),
            b"host: " + self._place.name,
            b"accept-encoding: identity",
            b"content-length: %d" % len(body),
            # A line break would begin a header, or a request, of the caller's own.
            *(name + b": " + v for name, v in headers if b"\r" not in v and b"\n" not in v),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    async def _sent(self, request: bytes) -> Reply:
        async with self._slots:
            while self._idle:
                kept = self._idle.pop()
                if kept.is_open:
                    try:
                        return await self._on(kept, request)
                    # It was closed while nobody used it: the request was never looked at.
                    except _ClosedUnheard:
                        break
            try:
                return await self._on(await self._connected(), request)
            except _ClosedUnheard:
                raise UpstreamError("the server behind hung up without an answer") from None

    async def _on(self, connection: _Connection, request: bytes) -> Reply:
        try:
            reply = await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        return reply

    async def _connected(self) -> _Connection:
        loop, place = asyncio.get_running_loop(), self._place
        if place.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        try:
            if place.socket is not None:
                _, made = await loop.create_unix_connection(_Connection, str(place.socket))
            else:
                _, made = await loop.create_connection(
                    _Connection, place.host, place.port, ssl=self._tls
                )
        except OSError as error:  # of TLS and of names too
            words = error.strerror or str(error) or type(error).__name__
            raise Down(f"the server behind cannot be reached: {words}") from error
        return made


class _ClosedUnheard(Exception):
    """It says that a connection ended before a byte of the answer came."""


@dataclass
class _Reading:
    """It is an answer as far as it came."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    is_begun: bool = False
    has_head: bool = False


class _Connection(asyncio.Protocol):
    """It is one connection, with at most one request under way."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._found = _Reading()
        self._answer: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    async def ask(self, request: bytes) -> Reply:
        assert self._transport is not None
        if not self.is_open:  # it was closed as soon as it was made
            raise _ClosedUnheard
        self._found = _Reading()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # nobody asked: what came would be taken for the next answer
            return
        self._found.is_begun = True
        self._found.size += len(data)
        if not self._found.has_head and self._found.size > MAX_HEAD_BYTES + len(data):
            self._fail(UpstreamError("the server behind sent headers without an end"))
            return
        if self._found.size > MAX_ANSWER_BYTES + MAX_HEAD_BYTES:
            self._fail(
                UpstreamError(f"the answer of the server behind is over {MAX_ANSWER_BYTES} bytes")
            )
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(UpstreamError(f"the server behind does not answer in HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is None or self._answer.done():
            return
        if not self._found.is_begun:
            self._fail(_ClosedUnheard())
        elif self._found.has_head and self._ends_with_connection():
            self._finish()
        else:
            self._fail(UpstreamError("the server behind broke off its answer"))

    def on_message_begin(self) -> None:
        if self._answer is None or self._answer.done():
            self.close()  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        self._found.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._found.status = self._parser.get_status_code()
        self._found.has_head = True

    def on_body(self, body: bytes) -> None:
        self._found.parts.append(body)

    def on_message_complete(self) -> None:
        if self._found.status < 200:  # "100 Continue" and the like; the answer comes after it
            self._found = _Reading(is_begun=True)
        elif self._answer is not None and not self._answer.done():
            self._finish()
        else:
            self.close()

    def _finish(self) -> None:
        assert self._answer is not None
        found = self._found
        if self.is_open and not self._parser.should_keep_alive():
            self.close()
        self._found = _Reading()
        self._answer.set_result(Reply(found.status, found.headers, b"".join(found.parts)))

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _ends_with_connection(self) -> bool:
        lengths = (b"content-length", b"transfer-encoding")
        return not any(name in self._found.headers for name in lengths)
