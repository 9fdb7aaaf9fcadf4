"""It keeps several processes on one socket, each with its own copy of the model."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from model_server import segments
from model_server.log import event


class Workers:
    """It is the parent: it forks, replaces what was killed, and passes the stop on."""

    def __init__(
        self, work: Callable[[], int], *, count: int, on_death: Callable[[], None]
    ) -> None:
        self._work = work
        self._count = count
        self._on_death = on_death
        self._children: set[int] = set()
        self._stopping = False
        self._alive, self._parent = os.pipe()

    def run(self) -> int:
        """It returns when every worker has ended: 0 after a stop, else a worker's own code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        result = 0
        for _ in range(self._count):
            self._fork()
        while self._children:
            pid, status = os.wait()
            self._children.discard(pid)
            if self._stopping:
                continue
            self._on_death()
            code = os.waitstatus_to_exitcode(status)
            event("worker_ended", pid=pid, code=code)
            if code < 0:
                self._fork()
            else:
                # A worker that ends by itself could not load; another would fail the same way.
                result = code or 1
                self._stop(signal.SIGTERM, None)
        return result

    def _fork(self) -> None:
        # A stop between the fork and the note of the child would miss that child.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        if self._stopping:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            return
        pid = os.fork()
        if pid:
            self._children.add(pid)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
            os.close(self._parent)
            threading.Thread(target=self._follow_parent, daemon=True).start()
            code = self._work()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            # The parent's own cleanup must not run a second time in here.
            os._exit(code)

    def _follow_parent(self) -> None:
        # The pipe ends when the parent is gone, however it went; nobody would restart us then.
        os.read(self._alive, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
        for pid in list(self._children):
            os.kill(pid, signal.SIGTERM)


def sealer(spool: Path, *, revision: str, replica: str) -> Callable[[], None]:
    """It makes the function that seals what dead workers left in the spool."""

    def seal() -> None:
        left = segments.seal_left(spool, revision=revision, replica=replica)
        if left:
            event("segments_sealed", names=left)

    return seal
