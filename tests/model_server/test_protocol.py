"""An answer leaves the server in one write, so that no kill can cut it in two."""

from __future__ import annotations

import asyncio

from model_server.protocol import Gathering
from tests import loops


class Wire(asyncio.Transport):
    """A transport that notes what happened to it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.seen.append(bytes(data))

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen


def test_head_and_body_are_one_write() -> None:
    async def answer(wire: Wire) -> None:
        transport = Gathering(wire, asyncio.get_running_loop())
        transport.write(b"head;")
        transport.write(b"body")
        assert wire.seen == []
        await asyncio.sleep(0)
        transport.write(b"next")
        await asyncio.sleep(0)

    wire = Wire()
    loops.run(answer(wire))
    assert wire.seen == [b"head;body", b"next"]


def test_a_connection_is_closed_only_after_its_answer() -> None:
    async def answer(wire: Wire) -> None:
        transport = Gathering(wire, asyncio.get_running_loop())
        transport.write(b"head;")
        transport.write(b"body")
        transport.close()
        transport.write(b"too late")
        await asyncio.sleep(0)

    wire = Wire()
    loops.run(answer(wire))
    assert wire.seen == [b"head;body", "closed"]
    assert wire.is_closing()
