"""Wakes workers by name, after commit. A message lost here is found again by the task's sweep."""

import logging

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = logging.getLogger(__name__)

WOKEN: set[str] = set()  # every name ever woken; a test asserts that each is a registered task


def wake(
    task: str, *args: object, delay_seconds: float = 0, expires_seconds: float | None = None
) -> None:
    """It sends a wake-up for `task` when the surrounding transaction has committed.

    `expires_seconds`: for a wake-up that is repeated, or those for a worker that is down would
    pile up in a broker that throws nothing away.
    """
    WOKEN.add(task)
    transaction.on_commit(lambda: _send(task, args, delay_seconds, expires_seconds))


def _send(
    task: str, args: tuple[object, ...], delay_seconds: float, expires_seconds: float | None
) -> None:
    try:
        current_app.send_task(
            task, args=args, countdown=delay_seconds or None, expires=expires_seconds
        )
    except (OperationalError, OSError) as down:
        # The row is committed and the sweep will find it: a broker that is down loses nothing.
        log.warning("Broker did not take %s%s: %s", task, args, down)
