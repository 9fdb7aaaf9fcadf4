"""Runs the collector: `manage.py collect`."""

import fcntl
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.monitoring.collector import TICK_SECONDS, Collector


class Command(BaseCommand):
    help = "Collects predictions and the gateway's log into the prediction log and the rollups."
    requires_system_checks: Any = ()  # they may ask the database, which may come later

    def handle(self, *args: Any, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        settings.STACK.var.mkdir(parents=True, exist_ok=True)
        with (settings.STACK.var / "collector.lock").open("w") as lock:
            while not stop.is_set():
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    stop.wait(TICK_SECONDS)
                else:
                    Collector().run(stop)
