"""A small real HTTP server on loopback that answers as a test tells it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

RESET = b""  # an answer of nothing: the connection is reset


@dataclass(frozen=True)
class Request:
    """It holds one request as it arrived; `number` counts from zero."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


Answering = Callable[[Request], bytes | None]


def http(status: int, version: str | None = None, *, close: bool = False) -> bytes:
    """It writes an HTTP answer with a body of two bytes."""
    lines = [f"HTTP/1.1 {status} Whatever", "content-length: 2"]
    if version is not None:
        lines.append(f"X-Model-Version: {version}")
    if close:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", "{}"]).encode()


@dataclass
class TinyServer:
    """It answers with what `answering` returns: bytes, RESET, or None for silence."""

    answering: Answering
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def seen(self, count: int) -> None:
        """It returns once that many requests have arrived."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """It serves one connection until either side closes it."""
        self.connections += 1
        try:
            while True:
                request = await self._read(reader)
                answer = self.answering(request)
                if answer is None:
                    await reader.read()  # silent until the caller gives up
                    break
                if answer == RESET:
                    writer.transport.abort()
                    break
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        request = Request(len(self.requests), first.split(" ")[1], headers, body)
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return request


@asynccontextmanager
async def tiny_server(answering: Answering) -> AsyncIterator[TinyServer]:
    """It runs the server for the length of a `with` block."""
    tiny = TinyServer(answering)
    server = await asyncio.start_server(tiny.serve, "127.0.0.1", 0)
    tiny.port = server.sockets[0].getsockname()[1]
    async with server:
        yield tiny
