"""Tells open pages that something changed; what it is now they ask by the ordinary way."""

import hashlib
import logging
import time

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction
from redis.exceptions import RedisError

log = logging.getLogger(__name__)


def group(topic: str) -> str:
    """It names the topic for the channel layer, which takes few characters and no long names."""
    return "live." + hashlib.sha256(topic.encode()).hexdigest()[:32]


def publish(topic: str) -> None:
    """It announces a change of `topic` ("rollout:17") when the transaction has committed."""
    transaction.on_commit(lambda: _send(topic))


def _send(topic: str) -> None:
    kind, _, key = topic.partition(":")
    message = {"topic": topic, "id": key, "kind": kind, "revision": time.time_ns() // 1_000_000}
    layer = get_channel_layer()
    try:
        async_to_sync(layer.group_send)(group(topic), {"type": "live.changed", "message": message})
    except (OSError, RedisError) as down:
        # Pages refetch when they reconnect, so an announcement may be lost.
        log.warning("No announcement of %s: %s", topic, down)
