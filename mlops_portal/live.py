"""One websocket a page: it subscribes to topics and hears that something changed, never what."""

import json
import re
from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser

from apps.core.live import group

MOST_TOPICS = 50
TOPIC = re.compile(r"[a-z]{1,20}:[\w./@-]{1,200}", re.ASCII)


class LiveConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """It takes {"subscribe": ["rollout:17"]} and sends {"topic", "id", "revision"}.

    What changed the page then asks by its ordinary address, where `may` decides; a topic's name
    alone tells nothing.
    """

    async def connect(self) -> None:
        self.joined: set[str] = set()
        user = self.scope.get("user") or AnonymousUser()
        if not user.is_authenticated:
            await self.close(code=4401)
            return
        await self.accept()

    async def disconnect(self, code: int) -> None:
        for topic in self.joined:
            await self.channel_layer.group_discard(group(topic), self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        """What is no JSON is answered like what is no wish; raising would close the socket."""
        try:
            content = json.loads(text_data or "")
        except (ValueError, RecursionError):
            content = None
        await self.receive_json(content, **kwargs)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        wanted = content.get("subscribe") if isinstance(content, dict) else None
        if not isinstance(wanted, list):
            await self.send_json({"error": 'send {"subscribe": ["topic:id", ...]}'})
            return
        for topic in wanted:
            if not isinstance(topic, str) or not TOPIC.fullmatch(topic):
                continue
            if len(self.joined) >= MOST_TOPICS:
                await self.send_json({"error": f"at most {MOST_TOPICS} topics"})
                break
            if topic not in self.joined:
                await self.channel_layer.group_add(group(topic), self.channel_name)
                self.joined.add(topic)
        await self.send_json({"subscribed": sorted(self.joined)})

    async def live_changed(self, event: dict[str, Any]) -> None:
        await self.send_json(event["message"])
