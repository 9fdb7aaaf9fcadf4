"""Runs a coroutine on a loop of its own."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """It waits for the work and gives its result.

    In a thread, since a browser that another test opened may keep a loop running in this one.
    """
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, work).result()
