"""Runs the collector: `manage.py collect`."""

import threading

from apps.core.commands import OneHere
from apps.monitoring.collector import TICK_SECONDS, Collector


class Command(OneHere):
    help = "Collects predictions and the gateway's log into the prediction log and the rollups."
    lock = "collector.lock"
    wait_seconds = TICK_SECONDS

    def run(self, stop: threading.Event) -> None:
        Collector().run(stop)
