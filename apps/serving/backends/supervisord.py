"""A client of the supervisord that keeps the model replicas of this installation alive."""

import base64
import http.client
import xmlrpc.client
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.serving.backends.unix import Connection

TIMEOUT_SECONDS = 10.0
RUNS = frozenset({"STARTING", "RUNNING", "BACKOFF"})


class Down(Exception):
    """The supervisor does not answer: it runs nothing, or cannot be asked."""


@dataclass(frozen=True)
class Process:
    name: str
    state: str  # supervisor's words: RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL
    started: int  # epoch seconds of its last start, 0: never
    problem: str  # why it could not even be spawned
    pid: int = 0  # 0: it does not run

    @property
    def runs(self) -> bool:
        return self.state in RUNS


class Supervisor:
    """It speaks XML-RPC over the supervisor's own socket. Every call may raise Down."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def processes(self) -> dict[str, Process]:
        return {
            row["name"]: Process(
                row["name"], row["statename"], row["start"], row["spawnerr"], row["pid"]
            )
            for row in self._call("getAllProcessInfo")
        }

    def reread(self) -> tuple[set[str], set[str]]:
        """It reads the configuration files again and gives the names (added, changed)."""
        added, changed, _ = self._call("reloadConfig")[0]
        return set(added), set(changed)

    def add(self, name: str) -> None:
        """It starts to run what the files say under this name."""
        self._tolerating("ALREADY_ADDED", "addProcessGroup", name)

    def start(self, name: str) -> None:
        self._tolerating("ALREADY_STARTED", "startProcess", f"{name}:{name}", False)

    def stop(self, name: str) -> None:
        """It asks the process to end and does not wait for it."""
        self._tolerating("BAD_NAME", "stopProcessGroup", name, False)

    def kill(self, name: str) -> None:
        """It ends a process that would not end by itself; the supervisor starts it again."""
        self._tolerating("NOT_RUNNING", "signalProcess", f"{name}:{name}", "KILL")

    def remove(self, name: str) -> None:
        """It forgets a process that has ended; one that still runs is left for later."""
        self._tolerating("STILL_RUNNING", "removeProcessGroup", name)

    def _tolerating(self, fault: str, method: str, *args: object) -> None:
        try:
            self._call(method, *args)
        except xmlrpc.client.Fault as said:
            # Somebody else was quicker: what is wanted is so, or will be at the next look.
            if not said.faultString.startswith((fault, "BAD_NAME")):
                raise

    def _key(self) -> tuple[str, str]:
        """Read anew: a supervisor that was started again has another one."""
        try:
            key = self._path.with_suffix(".key").read_text()
        except FileNotFoundError:
            key = ""
        told = base64.b64encode(f"portal:{key}".encode()).decode()
        return "Authorization", f"Basic {told}"

    def _call(self, method: str, *args: object) -> Any:
        transport = _Transport(self._path, self._key())
        proxy = xmlrpc.client.ServerProxy("http://supervisor", transport=transport)
        try:
            with proxy:
                return getattr(proxy, f"supervisor.{method}")(*args)
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as gone:
            raise Down(f"The process supervisor does not answer: {gone}") from gone


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path, header: tuple[str, str]) -> None:
        super().__init__(headers=[header])
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = Connection(self._path, timeout_seconds=TIMEOUT_SECONDS)
        self._connection = (host, connection)  # where the base class closes it
        return connection
