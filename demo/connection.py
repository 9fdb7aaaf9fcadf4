"""One keep-alive connection that asks one question at a time and never asks it twice.

A general HTTP client costs about a millisecond a request, a quarter of a core at 250 requests a
second; the callers share the machine with everything they measure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import httptools


class NoAnswer(Exception):
    """It says that a request was sent, or could not be sent, and got no HTTP answer."""


@dataclass
class Answer:
    """It holds one HTTP answer; header names are lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Connection(asyncio.Protocol):
    """It carries requests to one address, one after the other, and reopens when it was closed."""

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self.host, self.port, self.timeout_seconds = host, port, timeout_seconds
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)

    async def post(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """It sends one request and returns its answer; raises `NoAnswer` when there is none."""
        # The timeout spans the connecting too: a listener that accepts nothing is a lost request.
        deadline = asyncio.timeout(self.timeout_seconds)
        try:
            async with deadline:
                transport = self._transport or await self._open()
                self._answer = Answer()
                self._parser = httptools.HttpResponseParser(self)
                self._waiting = asyncio.get_running_loop().create_future()
                transport.write(self._head(path, headers, len(body)) + body)
                return await self._waiting
        except TimeoutError as error:
            # Whatever still comes on this connection would be taken for the next answer.
            self.close()
            if not deadline.expired():
                raise NoAnswer(f"{type(error).__name__}: {error}") from error
            raise NoAnswer(f"no answer within {self.timeout_seconds:g} s") from error
        except OSError as error:
            raise NoAnswer(f"{type(error).__name__}: {error}") from error
        finally:
            self._waiting = None

    def close(self) -> None:
        """It closes the connection now; the next request opens a new one."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _open(self) -> asyncio.Transport:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self.host, self.port)
        if self._transport is None:
            raise ConnectionResetError("closed as soon as it was opened")
        return self._transport

    def _head(self, path: str, headers: Mapping[str, str], body_bytes: int) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["content-type: application/json", f"content-length: {body_bytes}", "", ""]
        return "\r\n".join(lines).encode()

    def _fail(self, reason: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoAnswer(reason))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It notes the open transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """It ends the request that was waiting, if there was one."""
        self._transport = None
        self._fail(f"{type(error).__name__}: {error}" if error else "closed without an answer")

    def data_received(self, data: bytes) -> None:
        """It feeds the parser, which calls the methods below."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.close()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        """It keeps one header."""
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """It keeps one piece of the body."""
        self._answer.body += body

    def on_message_complete(self) -> None:
        """It hands the finished answer to the request that waits for it."""
        status = self._parser.get_status_code()
        if status < 200:  # "100 Continue" is not the answer yet
            self._answer = Answer()
            return
        self._answer.status = status
        if not self._parser.should_keep_alive():
            self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)
