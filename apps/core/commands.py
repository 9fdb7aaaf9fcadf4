"""Commands that run until they are told to end."""

import fcntl
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


class OneHere(BaseCommand):
    """Runs once on this machine: a second one waits until the first has ended.

    By a lock on a file, since the database may come later than the command.
    """

    requires_system_checks: Any = ()  # they may ask the database
    lock: str  # name of the file
    wait_seconds: float  # between two tries to be the one

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        settings.STACK.var.mkdir(parents=True, exist_ok=True)
        with (settings.STACK.var / self.lock).open("w") as lock:
            while not stop.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    stop.wait(self.wait_seconds)
                else:
                    self.run(stop)

    def run(self, stop: threading.Event) -> None:
        """It works until `stop` is set."""
        raise NotImplementedError
