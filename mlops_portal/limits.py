"""How large a request may be. Django writes each body to disk before it asks who sends it."""

import json
import re
from typing import Any

from asgiref.sync import sync_to_async

from apps.registry.services import datasets
from mlops_portal.mlflow_proxy import App, Receive, Scope, Send, user_of

MOST_BYTES = 16 * 1024**2
MOST_UPLOAD_BYTES = datasets.MOST_DATASET_BYTES + 1024**2  # with the form around the file
UPLOADS = re.compile(r"/api/v1/models/[^/]+/datasets|/models/[^/]+/datasets/new")


class BodyLimit:
    """ASGI: it answers 413 to a body that is too large, as soon as that is known."""

    def __init__(self, panel: App) -> None:
        self.panel = panel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.panel(scope, receive, send)
            return
        most = await _most(scope)
        if _announced(scope) > most:
            await _refuse(send, most)
            return
        body = _Counted(receive, most)
        await self.panel(scope, body.receive, send)
        if body.is_too_large:
            await _refuse(send, most)


class _Counted:
    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most
        self.is_too_large = False

    async def receive(self) -> dict[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left >= 0:
            return message
        # As if the caller had gone away: Django throws away what it has, and answers nothing.
        self.is_too_large = True
        return {"type": "http.disconnect"}


async def _most(scope: Scope) -> int:
    if scope["method"] != "POST" or not UPLOADS.fullmatch(scope["path"]):
        return MOST_BYTES
    user = await sync_to_async(user_of)(dict(scope["headers"]))
    return MOST_BYTES if user is None else MOST_UPLOAD_BYTES


def _announced(scope: Scope) -> int:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    return int(length) if length.isdigit() else 0


async def _refuse(send: Send, most: int) -> None:
    told = f"The request is larger than {most // 1024**2:,} MiB"
    if most == MOST_BYTES:
        told += "; only a data set may be, sent by somebody who is signed in or has a token"
    body = json.dumps({"code": "too_large", "message": told, "detail": None}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
