"""Runs the scaler: `manage.py scale`."""

import fcntl
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.serving.scaler import TICK_SECONDS, Scaler


class Command(BaseCommand):
    help = "Follows the traffic with replicas, and wakes what sleeps."
    requires_system_checks: Any = ()  # they may ask the database, which may come later

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        settings.STACK.var.mkdir(parents=True, exist_ok=True)
        with (settings.STACK.var / "scaler.lock").open("w") as lock:
            while not stop.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    stop.wait(TICK_SECONDS)
                else:
                    self._run(stop)

    def _run(self, stop: threading.Event) -> None:
        scaler = Scaler()
        door = threading.Thread(target=self._open, args=[scaler, stop], name="doorkeeper")
        door.start()
        try:
            scaler.run(stop)
        finally:
            stop.set()
            door.join()

    def _open(self, scaler: Scaler, stop: threading.Event) -> None:
        try:
            scaler.doorkeeper.run(settings.STACK.doorkeeper_socket, stop)
        finally:
            stop.set()  # without a door whoever knocks is lost: the supervisor starts all anew
