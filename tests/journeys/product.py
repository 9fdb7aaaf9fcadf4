"""The whole product under test: started by its own command in a directory of its own."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from mlops_portal.stack import config
from mlops_portal.stack.config import ROOT, Stack
from mlops_portal.stack.supervisor import Process, Supervisor
from tests.journeys.client import Json, Person, held, until

PASSWORD = "correct horse battery"  # of everybody in the cast
SERVERS = ("DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "EMAIL_URL")
LONG = 120.0  # seconds that one job may take while other work has the processors


class Product:
    """One installation, as somebody who types the commands has it."""

    def __init__(self, **environment: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="portal-journey-"))
        self.directory.chmod(0o755)  # models and PostgreSQL run as other users and pass through
        self.var = self.directory / "var"
        web, gateway = free_ports(2)
        own = {k: v for k, v in os.environ.items() if k not in SERVERS and "WARNINGS" not in k}
        self.environment = own | {
            "DJANGO_SETTINGS_MODULE": "mlops_portal.settings",
            "PORTAL_VAR": str(self.var),
            "PORTAL_WEB_PORT": str(web),
            "PORTAL_GATEWAY_PORT": str(gateway),
            "PORTAL_JOB_LEASE_SECONDS": "4",  # a lost worker is noticed soon
            # Packages that an earlier run fetched; each run still makes its own environments.
            "UV_CACHE_DIR": own.get("UV_CACHE_DIR", str(ROOT / "var" / "uv-cache")),
            **environment,
        }
        self.people: dict[str, Person] = {}
        self._scientist: subprocess.Popen[str] | None = None

    # Commands ------------------------------------------------------------------------------

    def command(self, *arguments: str, seconds: float = 400) -> subprocess.CompletedProcess[str]:
        """It runs one command in this installation's environment, whatever becomes of it."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def manage(self, *arguments: str) -> str:
        done = self.command("manage.py", *arguments)
        assert done.returncode == 0, f"manage.py {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def up(self) -> None:
        """It starts everything and brings the cast in."""
        self.manage("up")
        script = "from tests.journeys.gather import main; main()"
        keys = json.loads(self.manage("shell", "--no-imports", "-c", script))
        self.people = {name: Person(self.stack.web_url, name, keys[name]) for name in keys}

    def down(self) -> None:
        """It stops everything by the product's own command; nothing may be left behind."""
        assert self.manage("down") == "Everything is stopped\n"
        until("an end of all processes", lambda: held(not self.processes_left()), 10)

    def clear(self) -> None:
        """It ends what tests hold of it, and what a failure left running."""
        for person in self.people.values():
            person.close()
        self._dismiss_scientist()
        if self.processes_left():
            self.command("manage.py", "down")
        for pid in self.processes_left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def remove(self, *, keep_logs: bool) -> None:
        """It removes the directory; after a failure what the processes said stays."""
        if keep_logs and (self.var / "logs").is_dir():
            kept = Path(tempfile.mkdtemp(prefix="portal-journey-logs-"))
            shutil.copytree(self.var / "logs", kept, dirs_exist_ok=True)
        shutil.rmtree(self.stack.run, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes_left(self) -> dict[int, str]:
        """Every process whose command line or environment names this installation."""
        mark, found = os.fsencode(self.var), {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes()
                if mark in line or mark in (folder / "environ").read_bytes():
                    found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
        return found

    # Processes -----------------------------------------------------------------------------

    @cached_property
    def stack(self) -> Stack:
        with mock.patch.dict(os.environ, self.environment, clear=True):
            return config.load()

    @cached_property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.stack.supervisor_socket)

    def process(self, name: str) -> Process:
        return next(p for p in self.supervisor.processes() if p.name == name)

    def pid_of(self, name: str) -> int:
        """The process that the supervisor watches under this name, once it runs."""
        return until(f"{name} runs", lambda: self._running(name), 30).pid

    def _running(self, name: str) -> Process | None:
        process = self.process(name)
        return process if process.state == "RUNNING" and process.pid else None

    def kill9(self, name: str) -> int:
        """It kills a process as the kernel does when memory is short; returns which it was."""
        pid = self.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def comes_back(self, name: str, killed: int, seconds: float = 30) -> int:
        """It waits until the supervisor has another process of this name; returns which."""

        def other() -> int | None:
            process = self._running(name)
            return process.pid if process is not None and process.pid != killed else None

        return until(f"{name} is back", other, seconds)

    @contextlib.contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """It stops processes for a while, as an operator would."""
        try:
            for name in names:
                self.supervisor.stop(name)
            yield
        finally:
            for name in names:
                self.supervisor.start(name)

    # Models --------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        *,
        kind: str = "quick",
        author: str = "ada",
        requirements: tuple[str, ...] = (),
        past_the_panel: bool = False,
    ) -> int:
        """It trains and registers a version with MLflow's own client; returns its number."""
        wanted = {
            "name": name,
            "kind": kind,
            "requirements": requirements,
            "uri": f"{self.stack.web_url}/mlflow",
            "token": self.people[author].key,
        }
        if past_the_panel:
            wanted |= {"uri": f"{self.stack.mlflow_url}/mlflow", "token": self.stack.mlflow_secret}
        said = self._ask_scientist(wanted)
        assert "error" not in said, said
        number: int = said["version"]
        return number

    def _ask_scientist(self, wanted: Json) -> Json:
        if self._scientist is None:
            with (self.directory / "scientist.log").open("wb") as log:
                self._scientist = subprocess.Popen(
                    [sys.executable, "-m", "tests.journeys.scientist"],
                    env=scientists_environment(self.directory),
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        assert self._scientist.stdin is not None
        assert self._scientist.stdout is not None
        self._scientist.stdin.write(json.dumps(wanted) + "\n")
        self._scientist.stdin.flush()
        line = self._scientist.stdout.readline()
        assert line, (self.directory / "scientist.log").read_text()[-2000:]
        said: Json = json.loads(line)
        return said

    def _dismiss_scientist(self) -> None:
        if self._scientist is not None:
            self._scientist.communicate(timeout=30)  # closes its input, which ends it

    def ask_mlflow(self, method: str, path: str, **payload: Any) -> Json:
        """It calls MLflow directly, as only the panel's own processes may."""
        query, body = (payload, None) if method == "GET" else (None, payload)
        answer = httpx.request(
            method,
            f"{self.stack.mlflow_url}/mlflow/api/2.0/mlflow/{path}",
            params=query,
            json=body,
            headers={"Authorization": f"Bearer {self.stack.mlflow_secret}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        said: Json = answer.json()
        return said

    # What the panel says -------------------------------------------------------------------

    @property
    def reader(self) -> Person:
        return self.people["vera"]

    def version(self, name: str, number: int, *, seconds: float = 20, reader: str = "vera") -> Json:
        """The version as the panel has it, once it has it."""

        def look() -> Json | None:
            answer = self.people[reader].http.get(f"models/{name}/versions/{number}")
            found: Json = answer.json()
            return found if answer.status_code == 200 else None

        return until(f"{name} v{number} in the panel", look, seconds)

    def policy(self, name: str, text: str) -> None:
        self.people["dora"].put_policy(name, text)

    def builds(self, name: str) -> list[Json]:
        return self.reader.results("builds", model=name)

    def build(self, name: str, *statuses: str, seconds: float = LONG) -> Json:
        """The model's newest build, once it has one of these statuses."""

        def look() -> Json | None:
            found = self.builds(name)
            return found[0] if found and found[0]["status"] in statuses else None

        newest = until(f"build of {name} {' or '.join(statuses)}", look, seconds)
        whole: Json = self.reader.get(f"builds/{newest['id']}")
        return whole

    def job(self, pk: int) -> Json:
        found: Json = self.reader.get(f"jobs/{pk}")
        return found

    def ended_job(self, pk: int) -> Json:
        """The job, once it has ended: a moment after what it worked on."""

        def look() -> Json | None:
            job = self.job(pk)
            return job if job["finished_at"] else None

        return until(f"end of job {pk}", look, LONG)

    def promotion(self, name: str, environment: str, *statuses: str, seconds: float = LONG) -> Json:
        """The model's newest promotion to an environment, once it has one of these statuses."""

        def look() -> Json | None:
            rows = self.reader.results("promotions", model=name, environment=environment)
            return rows[0] if rows and rows[0]["status"] in statuses else None

        return until(f"promotion of {name} to {environment} {statuses}", look, seconds)

    def rollout(self, promotion: Json, *phases: str, seconds: float = LONG) -> Json:
        """The rollout that took a promotion up, once it is in one of these phases."""

        def look() -> Json | None:
            rows = self.reader.results("rollouts", promotion=promotion["id"])
            return rows[0] if rows and rows[0]["phase"] in phases else None

        return until(f"rollout of promotion {promotion['id']} {phases}", look, seconds)

    def events(self, name: str, verb: str) -> list[Json]:
        return self.reader.results("events", model=name, verb=verb)

    def endpoint(self, name: str, environment: str = "production") -> Json:
        found: Json = self.reader.get(f"endpoints/{environment}/{name}")
        return found

    def ask(self, name: str, environment: str = "production") -> httpx.Response:
        """One prediction, as any caller of the gateway gets it."""
        return httpx.post(
            f"{self.stack.gateway_url}/{environment}/v2/models/{name}/infer",
            json={
                "inputs": [
                    {"name": "distance", "shape": [1], "datatype": "FP64", "data": [2400.0]},
                    {"name": "hour", "shape": [1], "datatype": "FP64", "data": [19.0]},
                ]
            },
            timeout=20,
        )

    def answering_version(self, name: str, environment: str = "production") -> str | None:
        """Which version answers a caller now; None while nothing does."""
        try:
            answer = self.ask(name, environment)
        except httpx.TransportError:
            return None
        return answer.headers.get("x-model-version") if answer.status_code == 200 else None


class Trickle:
    """A caller who asks a few times a second and counts what comes back."""

    def __init__(self, product: Product, name: str, *, every: float = 0.1) -> None:
        self.statuses: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self._product, self._name, self._every = product, name, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._call)

    def __enter__(self) -> "Trickle":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)

    def _call(self) -> None:
        while not self._end.wait(self._every):
            try:
                answer = self._product.ask(self._name)
                said = str(answer.status_code)
                version = answer.headers.get("x-model-version", "none")
                self.versions[version] = self.versions.get(version, 0) + 1
            except httpx.TransportError as lost:
                said = type(lost).__name__
            self.statuses[said] = self.statuses.get(said, 0) + 1


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def scientists_environment(directory: Path) -> dict[str, str]:
    """A machine of their own: nothing of the product but what its users are given."""
    kept = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE")
    return {name: os.environ[name] for name in kept if name in os.environ} | {
        "HOME": str(directory),
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    }
