"""It starts the real server as a subprocess and talks to it over its socket."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

import model_server
from model_server.digest import digest, manifest

PATIENCE_SECONDS = 60.0


def make_bundle(folder: Path, model: Path) -> Path:
    """It lays out a bundle as a build does."""
    bundle = folder / "bundle"
    shutil.copytree(model, bundle / "model")
    package = Path(model_server.__file__).parent
    shutil.copytree(
        package,
        bundle / "server" / "model_server",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    card = {"digest": "sha256:whole", "model_digest": digest(manifest(bundle / "model"))}
    (bundle / "bundle.json").write_text(json.dumps(card))
    return bundle


def until(what: str, seen: Callable[[], Any]) -> Any:
    """It looks until something is true and returns it; a hang becomes a failure in words."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if found := seen():
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE_SECONDS} s in vain until {what}")


def environment(bundle: Path, **extra: str) -> dict[str, str]:
    """It gives the otherwise minimal environment a model process is started with."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "PYTHONPATH": str(bundle / "server"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **extra,
    }


class Running:
    """It is one server process with its socket, spool and output."""

    def __init__(
        self, bundle: Path, folder: Path, *options: str, revision: str = "41", **extra: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.socket = folder / "s.sock"
        self.spool = folder / "spool"
        self.errors = folder / "stderr.log"
        command = [sys.executable, "-P", "-m", "model_server", "serve"]
        command += ["--bundle", str(bundle), "--socket", str(self.socket)]
        command += ["--endpoint", "flight-delay", "--environment", "production"]
        command += ["--revision", revision, "--version", "3", "--spool", str(self.spool)]
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, *options], env=environment(bundle, **extra), stderr=errors
            )
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)),
            base_url="http://model",
            timeout=30,
        )

    def wait_ready(self) -> Running:
        """It waits until the server answers its health check."""

        def answered() -> bool:
            assert self.process.poll() is None, self.errors.read_text()
            # A raw attempt first: the client's transport leaks a socket for every refused one.
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError):
                self.connect().close()
                return self.client.get("/ready").status_code == 200
            return False

        until("the server was ready", answered)
        return self

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """It sends a JSON body, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, content=content, headers=names)

    def connect(self) -> socket.socket:
        """It opens a raw connection, for requests that no proper client sends."""
        raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        raw.settimeout(30)
        try:
            raw.connect(str(self.socket))
        except OSError:
            raw.close()
            raise
        return raw

    def lines(self) -> list[dict[str, Any]]:
        """It reads every captured line, sealed or not, in order."""
        return [
            json.loads(line)
            for path in sorted(self.spool.iterdir())
            for line in path.read_bytes().splitlines()
        ]

    def captured(self, request_id: str) -> dict[str, Any]:
        """It waits for the record of one request."""

        def found() -> dict[str, Any] | None:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                return next((r for r in self.lines() if r.get("id") == request_id), None)
            return None

        record: dict[str, Any] = until(f"request {request_id} was captured", found)
        return record

    def events(self) -> list[dict[str, Any]]:
        """It reads what the server reported on standard error."""
        lines = self.errors.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"event"')]

    def stop(self) -> int:
        """It asks the server to stop and returns its exit code."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """It ends the server the hard way."""
        self.client.close()
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)


@contextlib.contextmanager
def serving(bundle: Path, folder: Path, *options: str, **extra: str) -> Iterator[Running]:
    """It runs a server for the time of a block and leaves nothing behind."""
    server = Running(bundle, folder, *options, **extra)
    try:
        yield server.wait_ready()
    finally:
        if server.process.poll() is None:
            try:
                server.stop()
            except subprocess.TimeoutExpired:
                server.kill()
        server.client.close()
