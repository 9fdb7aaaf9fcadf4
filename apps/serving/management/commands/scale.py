"""Runs the scaler: `manage.py scale`."""

import threading

from django.conf import settings

from apps.core.commands import OneHere
from apps.serving.scaler import TICK_SECONDS, Scaler


class Command(OneHere):
    help = "Follows the traffic with replicas, and wakes what sleeps."
    lock = "scaler.lock"
    wait_seconds = TICK_SECONDS

    def run(self, stop: threading.Event) -> None:
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
