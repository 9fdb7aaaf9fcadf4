"""It asks a model about several requests at once, where rows stand along the first axis.

It pays where a call costs much more than a row, as in a forest; a linear model gains nothing.
Answers may differ in the last digit from those of a row alone, as they do within one request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model_server.mlmodel import Signature

Array = npt.NDArray[Any]
Call = Callable[[Any, "dict[str, Any] | None"], Any]


@dataclass(frozen=True)
class Batching:
    """It says how many rows one call may have, and how long the first of them waits for others."""

    most_rows: int
    wait_seconds: float = 0.0


@dataclass(frozen=True)
class _Waiting:
    """It is one request's rows, and where its answer is awaited."""

    rows: Array
    answer: asyncio.Future[Any]


class Batches:
    """It gathers what arrives while the model is busy or within a short wait, and splits answers.

    What waits is bounded: rows that would make a call too large send the others off first.
    """

    def __init__(self, call: Call, batching: Batching) -> None:
        self._call = call
        self._most_rows = batching.most_rows
        self._wait_seconds = batching.wait_seconds
        self._is_by_row = True
        self._waiting: list[_Waiting] = []
        self._timer: asyncio.Handle | None = None

    async def call(self, data: Any, params: dict[str, Any] | None) -> Any:
        """It asks the model, together with others if it can; what the model raises is raised."""
        if params or not self._is_by_row or not self._is_small_table(data):
            return self._call(data, params)
        loop = asyncio.get_running_loop()
        if not self._has_room_for(data):
            self._send_off()
        waiting = _Waiting(data, loop.create_future())
        self._waiting.append(waiting)
        if self._count() == self._most_rows:
            self._send_off()
        elif self._timer is None:
            # Even without a wait the turn of the loop ends first, in which more may have arrived.
            self._timer = loop.call_later(self._wait_seconds, self._send_off)
        return await waiting.answer

    def _is_small_table(self, data: Any) -> bool:
        is_table = isinstance(data, np.ndarray) and data.ndim > 0
        return is_table and 0 < len(data) < self._most_rows

    def _has_room_for(self, data: Array) -> bool:
        first = self._waiting[0].rows if self._waiting else data
        is_alike = (first.dtype, first.shape[1:]) == (data.dtype, data.shape[1:])
        return is_alike and self._count() + len(data) <= self._most_rows

    def _count(self) -> int:
        return sum(len(waiting.rows) for waiting in self._waiting)

    def _send_off(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answers = self._together(waiting) if len(waiting) > 1 else None
        for number, one in enumerate(waiting):
            if answers is None:
                self._alone(one)
            elif not one.answer.done():
                one.answer.set_result(answers[number])

    def _together(self, waiting: list[_Waiting]) -> list[Array] | None:
        """It returns the answers, or None where each must be asked alone to know its own."""
        try:
            found = self._call(np.concatenate([one.rows for one in waiting]), None)
        # One caller's row must not fail the others; asked alone it fails by itself.
        except (Exception, SystemExit):  # noqa: BLE001 - as above
            return None
        ends = np.cumsum([len(one.rows) for one in waiting]).tolist()
        if not isinstance(found, np.ndarray) or found.ndim == 0 or len(found) != ends[-1]:
            self._is_by_row = False
            return None
        return [found[end - len(one.rows) : end] for one, end in zip(waiting, ends, strict=True)]

    def _alone(self, one: _Waiting) -> None:
        if one.answer.done():
            return
        try:
            one.answer.set_result(self._call(one.rows, None))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is raised where it is awaited
            one.answer.set_exception(error)


def joins(signature: Signature | None) -> bool:
    """It tells whether a model's input may be put together: rows first, as many as there are."""
    if signature is None:
        return False
    if not signature.tensors:
        return bool(signature.columns)
    return len(signature.tensors) == 1 and signature.tensors[0].shape[0] == -1
