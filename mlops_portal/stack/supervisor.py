"""Speaks with supervisord, which keeps every process of the product alive (docs/adr/0002)."""

import configparser
import secrets
import subprocess
import sys
import xmlrpc.client
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from mlops_portal.stack.config import ROOT, Stack
from mlops_portal.stack.programs import PROGRAMS, portal_env

MANY = 1_000_000  # a process that keeps failing is tried for ever; the page says that it fails


USER = "portal"


class Down(Exception):
    """The supervisor does not answer: nothing of the product runs."""


@dataclass(frozen=True)
class Process:
    name: str  # "web", or "group:name" of a replica
    state: str  # supervisor's words: RUNNING, STARTING, BACKOFF, STOPPED, EXITED, FATAL
    pid: int
    since: int  # epoch seconds of the last start, 0 when it never ran
    description: str


class Supervisor:
    """A client of one installation's supervisord. Raises Down when it does not answer."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def call(self, method: str, *args: object) -> Any:
        # A new transport a call: one that failed once keeps its dead connection for ever.
        transport = SupervisorTransport(USER, key_of(self.socket), f"unix://{self.socket}")
        proxy = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
        try:
            with proxy:
                return getattr(proxy.supervisor, method)(*args)
        except (OSError, HTTPException) as gone:
            raise Down(f"No supervisor answers at {self.socket}: {gone}") from gone

    def is_up(self) -> bool:
        try:
            return bool(self.call("getState")["statename"] == "RUNNING")
        except Down:
            return False

    def processes(self) -> list[Process]:
        return [
            Process(
                row["name"] if row["group"] == row["name"] else f"{row['group']}:{row['name']}",
                row["statename"],
                row["pid"],
                row["start"],
                row["description"],
            )
            for row in self.call("getAllProcessInfo")
        ]

    def start(self, name: str) -> None:
        """It starts one process; one that runs already is left alone."""
        self._tolerating("ALREADY_STARTED", "startProcess", name, False)

    def stop(self, name: str, *, wait: bool = True) -> None:
        self._tolerating("NOT_RUNNING", "stopProcess", name, wait)

    def reread(self) -> None:
        """It adds, changes and removes process groups as the configuration files now say."""
        added, changed, removed = self.call("reloadConfig")[0]
        for group in (*removed, *changed):
            self.call("stopProcessGroup", group)
            self.call("removeProcessGroup", group)
        for group in (*added, *changed):
            self._tolerating("ALREADY_ADDED", "addProcessGroup", group)

    def shutdown(self) -> None:
        self.call("shutdown")

    def pid(self) -> int:
        return int(self.call("getPID"))

    def _tolerating(self, fault: str, method: str, *args: object) -> None:
        try:
            self.call(method, *args)
        except xmlrpc.client.Fault as said:
            if not said.faultString.startswith(fault):
                raise


def key_of(socket: Path) -> str:
    """The password of a supervisor. Where everything runs as one user the socket's mode keeps no
    model out, but no model can read this file."""
    try:
        return socket.with_suffix(".key").read_text()
    except FileNotFoundError:
        return ""


def launch(stack: Stack) -> None:
    """It writes the configuration and starts supervisord in the background."""
    stack.logs.mkdir(parents=True, exist_ok=True)
    (stack.var / "replicas").mkdir(parents=True, exist_ok=True)
    configuration = stack.var / "supervisord.conf"
    configuration.touch(mode=0o600)
    with configuration.open("w") as file:
        _configuration(stack).write(file)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
    subprocess.run(command, check=True, env=portal_env(stack), cwd=ROOT)


def program_section(
    *, command: str, log: Path, stop_signal: str, stop_seconds: int, autostart: bool
) -> dict[str, str]:
    """What supervisord must know of one process, for ours and for model replicas alike."""
    section = {
        "command": command,
        "directory": str(ROOT),
        "autostart": "true" if autostart else "false",
        "autorestart": "true",
        "startsecs": "1",
        "startretries": str(MANY),
        "stopsignal": stop_signal,
        "stopwaitsecs": str(stop_seconds),
        # Celery's pool and Envoy's children must not outlive the one that is watched.
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(log),
        "stdout_logfile_maxbytes": "20MB",
        "stdout_logfile_backups": "3",
    }
    return {key: value.replace("%", "%%") for key, value in section.items()}


def _configuration(stack: Stack) -> configparser.RawConfigParser:
    key = stack.supervisor_socket.with_suffix(".key")
    key.touch(mode=0o600)
    key.write_text(secrets.token_urlsafe(24))
    written = configparser.RawConfigParser()
    written["unix_http_server"] = {
        "file": str(stack.supervisor_socket),
        "chmod": "0600",
        "username": USER,
        "password": key.read_text(),
    }
    written["supervisord"] = {
        "logfile": str(stack.logs / "supervisord.log"),
        "pidfile": str(stack.var / "supervisord.pid"),
        "childlogdir": str(stack.logs),
        "silent": "true",
        "minfds": "4096",
    }
    factory = "supervisor.rpcinterface:make_main_rpcinterface"
    written["rpcinterface:supervisor"] = {"supervisor.rpcinterface_factory": factory}
    written["include"] = {"files": str(stack.var / "replicas" / "*.conf")}
    for program in PROGRAMS:
        if program.embedded(stack):
            written[f"program:{program.name}"] = program_section(
                command=f"{sys.executable} -m mlops_portal.stack.run {program.name}",
                log=stack.logs / f"{program.name}.log",
                stop_signal=program.stop_signal,
                stop_seconds=program.stop_seconds,
                autostart=False,  # `up` starts them in order, each when what it needs answers
            )
    return written
