"""Hears what an open page hears: the websocket's announcements, with a person's session."""

import contextlib
import json
import threading
from collections import Counter
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from apps.accounts.models import User


class Listener:
    """It counts announcements by topic until it is closed."""

    def __init__(self, url: str, user: User, topics: list[str]) -> None:
        self.heard: Counter[str] = Counter()
        self._socket = connect(
            url.replace("http", "ws", 1) + "/ws/live/",
            additional_headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={_session(user)}"},
            origin=Origin(url),
        )
        self._socket.send(json.dumps({"subscribe": topics}))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            for message in self._socket:
                told: dict[str, Any] = json.loads(message)
                if "topic" in told:
                    self.heard[told["topic"]] += 1

    def close(self) -> None:
        self._socket.close()
        self._thread.join(5)


def _session(user: User) -> str:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.set_expiry(3600)
    store.create()
    return str(store.session_key)
