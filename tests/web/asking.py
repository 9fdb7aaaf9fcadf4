"""Calls to /mlflow as the web server makes them, and what the proxy sent back."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.test import Client

from apps.accounts.models import User
from mlops_portal.mlflow_proxy import MlflowProxy
from tests.web.loop import run

HOST = {"host": "panel.example"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    pieces: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    method: str,
    path: str,
    headers: dict[str, str] | None = None,
    body: Iterable[bytes] = (b"{}",),
    raw_path: str = "",
    query: bytes = b"",
) -> Answer:
    """It calls the proxy as the web server does, and gives what it sent back."""
    answer, left = Answer(0, {}, []), list(body) or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0, "answered twice"
            answer.status = message["status"]
            answer.headers = {k.decode(): v.decode("latin-1") for k, v in message["headers"]}
        else:
            answer.pieces.append(message.get("body", b""))

    async def panel(*_: Any) -> None:
        answer.status = 299

    async def work() -> None:
        proxy = MlflowProxy(panel)
        given = {**HOST, **(headers or {})}
        await proxy(
            {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": (raw_path or path).encode(),
                "query_string": query,
                "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in given.items()],
            },
            receive,
            send,
        )
        await proxy.client.aclose()

    run(work)
    return answer


def session(user: User) -> dict[str, str]:
    client = Client()
    client.force_login(user)
    held = client.cookies[settings.SESSION_COOKIE_NAME].value
    return {"cookie": f"theme=dark; {settings.SESSION_COOKIE_NAME}={held}"}
