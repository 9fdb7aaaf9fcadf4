"""A page's end of the websocket. Channels' own test client needs a web server we do not have."""

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator

from mlops_portal.asgi import application

PATH = "/ws/live/"


class PageSocket(ApplicationCommunicator):
    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        scope = {"type": "websocket", "path": PATH, "raw_path": PATH.encode(), "query_string": b"",
                 "headers": list(headers), "subprotocols": []}  # fmt: skip
        super().__init__(application, scope)

    async def connect(self) -> tuple[bool, int | None]:
        """It says whether the server took it, and else with which code it closed."""
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(5)
        return answer["type"] == "websocket.accept", answer.get("code")

    async def say(self, text: str | None = None, octets: bytes | None = None) -> None:
        await self.send_input({"type": "websocket.receive", "text": text, "bytes": octets})

    async def ask(self, *topics: Any) -> Any:
        """It subscribes and gives the answer."""
        await self.say(json.dumps({"subscribe": topics}))
        return await self.hear()

    async def hear(self) -> Any:
        answer = await self.receive_output(5)
        assert answer["type"] == "websocket.send", answer
        return json.loads(answer["text"])

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)
