"""Commands that run until they are told to end, one of a kind on a machine."""

from __future__ import annotations

import fcntl
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from apps.core.commands import OneHere

Told = dict[int, Callable[..., None]]


class Command(OneHere):
    lock = "test.lock"
    wait_seconds = 0.0

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told = told
        self.runs = 0

    def run(self, stop: threading.Event) -> None:
        self.runs += 1
        assert not stop.is_set()
        self.told[signal.SIGTERM](signal.SIGTERM, None)
        assert stop.is_set()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What the command wants to be called with a signal; the signals of the tests stay theirs."""
    handlers: Told = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    return handlers


@pytest.fixture(autouse=True)
def var(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(settings, "STACK", replace(settings.STACK, var=tmp_path / "var"))
    return tmp_path / "var"


def test_it_runs_until_it_is_told_to_end(told: Told, var: Path) -> None:
    command = Command(told)

    command.handle()

    assert command.runs == 1
    assert sorted(told) == sorted([signal.SIGTERM, signal.SIGINT])
    with (var / "test.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it is given back


def test_a_second_one_waits_for_the_first(
    told: Told, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var.mkdir()
    first = (var / "test.lock").open("w")
    fcntl.flock(first, fcntl.LOCK_EX)
    tries: list[int] = []
    lock = fcntl.flock

    def flock(file: Any, how: int) -> None:
        tries.append(how)
        if len(tries) == 3:
            first.close()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    command = Command(told)

    command.handle()

    assert len(tries) == 3
    assert command.runs == 1


def test_one_that_is_told_while_it_waits_never_runs(
    told: Told, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, how: int) -> None:
        told[signal.SIGINT](signal.SIGINT, None)
        raise BlockingIOError

    monkeypatch.setattr(fcntl, "flock", flock)
    command = Command(told)

    command.handle()

    assert command.runs == 0
