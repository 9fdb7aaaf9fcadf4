"""Calls of the API that wait until a row changes."""

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet
from rest_framework import serializers

LONGEST_WAIT_SECONDS = 60
POLL_SECONDS = 0.5
M = TypeVar("M", bound=Model)


class Revised(Protocol):
    """A row that counts its changes."""

    pk: Any
    revision: Any


class WaitSerializer(serializers.Serializer[dict[str, Any]]):
    """How long a call may wait for news."""

    wait = serializers.FloatField(
        required=False,
        min_value=0,
        max_value=LONGEST_WAIT_SECONDS,
        default=0,
        help_text="Answer when the revision changes, or after so many seconds",
    )
    revision = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=2_147_483_647,
        default=None,
        help_text="The one you know; without it, the one of this moment",
    )


def waited(rows: QuerySet[M], row: Revised, asked: dict[str, Any]) -> bool:
    """It waits as long as the caller asked for. True: it did, so that the row is to be read anew.

    `asked`: what WaitSerializer found right.
    """
    if not asked["wait"]:
        return False
    known = row.revision if asked["revision"] is None else asked["revision"]
    for_change(rows, row.pk, revision=known, seconds=asked["wait"])
    return True


def for_change(
    rows: QuerySet[M],
    pk: int,
    *,
    revision: int,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """It returns when the row's revision is another one, or when the time is over.

    The connection is given back between two looks: many callers who wait must not hold one each.
    """
    until = clock() + seconds
    while True:
        seen = rows.filter(pk=pk).values_list("revision", flat=True).first()
        left = until - clock()
        if seen != revision or not left > 0:  # a wait of NaN seconds ends too
            return
        if not connection.in_atomic_block:
            connection.close()
        sleep(min(POLL_SECONDS, left))
