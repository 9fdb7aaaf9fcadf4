"""Starts servers so that they always end, and reads what they take from /proc."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from apps.core import sandbox
from apps.core.sandbox_exec import MARK

START_SECONDS = 120.0
STOP_SECONDS = 5.0
WORDS_BYTES = 3000
LIMITS = sandbox.Limits(memory_bytes=None, file_bytes=None, open_files=65_536)


class NotStarted(Exception):
    """A server did not come up; the message holds its last words."""


class Program:
    """A server with all its processes.

    Processes belong to it that descend from the one started or carry its mark in their
    environment: some servers leave their parent, others overwrite their environment.
    """

    def __init__(self, name: str, line: Sequence[str], mark: str, log: Path) -> None:
        self.name, self._mark, self._log = name, mark, log
        log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={"LANG": "C.UTF-8"}, start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, is_ready: Callable[[], bool], seconds: float = START_SECONDS) -> float:
        """It waits and gives the seconds since the start. Raises: NotStarted."""
        until = self.started + seconds
        while True:
            if is_ready():
                return time.monotonic() - self.started
            if self._process.poll() is not None:
                raise NotStarted(f"{self.name} ended by itself: {self.last_words()}")
            if time.monotonic() > until:
                raise NotStarted(f"{self.name} not ready in {seconds:g} s: {self.last_words()}")
            time.sleep(0.01)

    def last_words(self) -> str:
        """It gives the end of what the server wrote."""
        return self._log.read_bytes()[-WORDS_BYTES:].decode("utf-8", "replace").strip()

    def pids(self) -> list[int]:
        """It gives all processes that run now, the one started first."""
        found = _tree(self._process.pid) if self._process.poll() is None else []
        return found + [pid for pid in _marked(self._mark) if pid not in found]

    def rss_mb(self) -> float:
        """It gives the resident memory of all processes in MiB; shared pages count each time."""
        return sum(_rss_kb(pid) for pid in self.pids()) / 1024

    def freeze(self) -> None:
        """It keeps the server from taking processor time while others are measured."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """It asks the server to end, then ends every process that is left."""
        self.thaw()
        born = {pid: _born(pid) for pid in self.pids()}
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        for pid, at in born.items():
            # A number may have been given to a stranger by now.
            if at and _born(pid) == at:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait()
        sandbox.end_all(self._mark)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def start(
    name: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    run: Path,
    log: Path,
) -> Program:
    """It starts a server under the sandbox's launcher, which ends it when we are killed."""
    mark = str(run / name)
    line = sandbox.command(
        argv, env=env, limits=LIMITS, cwd=cwd, account=sandbox.myself(), mark=mark,
        death_signal="SIGKILL",
    )  # fmt: skip
    return Program(name, line, mark, log)


def supervised(name: str, command: str, mark: str, log: Path) -> Program:
    """It starts what stands in a supervisor's configuration as a command."""
    return Program(name, shlex.split(command.replace("%%", "%")), mark, log)


def free_port() -> int:
    """It gives a port of loopback that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                text = (place / "stat").read_text("utf-8", "replace")
                children[int(text.rpartition(")")[2].split()[1])].append(int(place.name))
    listed = [root]
    for pid in listed:  # grows while it is walked
        listed += children.get(pid, [])
    return listed


def _born(pid: int) -> int:
    """It gives the tick of a process's start, 0 when there is none."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        return int(text.rpartition(")")[2].split()[19])
    return 0


def _marked(mark: str) -> list[int]:
    wanted, found = f"{MARK}={mark}".encode(), []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
    return found


def _rss_kb(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
