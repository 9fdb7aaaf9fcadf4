"""Runs a coroutine on a loop of its own, beside the test, on the test's database connection."""

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from unittest import mock

from asgiref.sync import async_to_sync
from django.db import connections

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """It waits for the work and gives its result.

    In a thread, since a browser that another test opened may keep a loop running in this one; the
    connection is lent to that thread, so that both see what the test has not committed.
    """
    lent = connections["default"]
    lent.ensure_connection()
    lent.inc_thread_sharing()

    def inside() -> T:
        own = connections["default"]
        connections["default"] = lent
        try:
            return async_to_sync(work)()
        finally:
            connections["default"] = own

    try:
        # What serves a request closes the connections of the one before; this one is the test's.
        with (
            mock.patch.object(lent, "close_if_unusable_or_obsolete"),
            ThreadPoolExecutor(1) as executor,
        ):
            return executor.submit(inside).result()
    finally:
        lent.dec_thread_sharing()
