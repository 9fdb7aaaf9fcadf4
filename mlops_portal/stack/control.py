"""Brings an installation up, takes it down, and says what of it runs."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psycopg
import redis

from apps.core import sandbox
from mlops_portal.stack import programs, supervisor
from mlops_portal.stack.config import Stack
from mlops_portal.stack.supervisor import Supervisor

Say = Callable[[str], None]


class CannotStart(Exception):
    """A part of the product did not come up; the message says which and where its log is."""


def start_servers(stack: Stack) -> Supervisor:
    """It starts the supervisor, the database and the broker, and returns when both answer."""
    client = Supervisor(stack.supervisor_socket)
    if not client.is_up():
        for port in (stack.web_port, stack.gateway_port):
            _refuse_taken(port)
        supervisor.launch(stack)
        _until(client.is_up, 15, "supervisor", stack.logs / "supervisord.log")
    for program in programs.running_in(stack):
        if program.order == 1:
            client.start(program.name)
    _until(lambda: _database_answers(stack), 60, "database", stack.logs / "postgres.log")
    _until(lambda: _broker_answers(stack), 30, "broker", stack.logs / "valkey.log")
    return client


def create_databases(stack: Stack) -> None:
    """It makes the panel's and the registry's databases where they are missing."""
    wanted = [stack.database_url]
    if stack.embeds_mlflow:
        wanted.append(stack.mlflow_database_url.replace("postgresql+psycopg", "postgresql"))
    for url in wanted:
        server, _, tail = url.rpartition("/")
        name = tail.partition("?")[0]
        try:
            psycopg.connect(url, connect_timeout=3).close()
        except psycopg.OperationalError:
            with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
                connection.execute(f'create database "{name}"'.encode())


def start_rest(stack: Stack, client: Supervisor) -> None:
    """It starts everything else and returns when pages, gateway and registry answer."""
    for program in programs.running_in(stack):
        client.start(program.name)
    _until(lambda: _answers(f"{stack.web_url}/health"), 120, "web", stack.logs / "web.log")
    _until(lambda: gateway_is_live(stack), 60, "gateway", stack.logs / "gateway.log")


def wait_for_registry(stack: Stack) -> None:
    url = f"{stack.mlflow_url}/mlflow/health" if stack.embeds_mlflow else stack.mlflow_url
    _until(lambda: _answers(url), 120, "mlflow", stack.logs / "mlflow.log")


def stop(stack: Stack, *, seconds: float = 60) -> bool:
    """It stops everything in the reverse of the starting order. False: nothing ran.

    Raises: CannotStart when the supervisor still answers after `seconds`.
    """
    client = Supervisor(stack.supervisor_socket)
    if not client.is_up():
        return False
    pid = client.pid()
    known = {program.name for program in programs.PROGRAMS}
    running = [p.name for p in client.processes() if p.state not in ("STOPPED", "EXITED", "FATAL")]
    for name in running:
        if name not in known:
            client.stop(name, wait=False)
    for order in (3, 2, 1):
        names = [p.name for p in programs.PROGRAMS if p.order == order and p.name in running]
        for name in names:
            client.stop(name, wait=False)
        _until(partial(_are_stopped, client, names), seconds, "processes", stack.logs)
    client.shutdown()
    _until(lambda: not Path(f"/proc/{pid}").exists(), seconds, "supervisor", stack.logs)
    # Models may have started helpers of their own, which no supervisor knows.
    sandbox.end_all(str(stack.run))
    for socket in stack.run.glob("*.sock"):
        socket.unlink(missing_ok=True)
    return True


def gateway_is_live(stack: Stack) -> bool:
    try:
        transport = httpx.HTTPTransport(uds=str(stack.gateway_admin))
        with httpx.Client(transport=transport, timeout=2) as client:
            return client.get("http://gateway/ready").text.strip() == "LIVE"
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def only_one(stack: Stack) -> Iterator[None]:
    """Two `up` at once would start two supervisors on one data directory."""
    with (stack.var / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _are_stopped(client: Supervisor, names: list[str]) -> bool:
    return all(
        p.state in ("STOPPED", "EXITED", "FATAL") for p in client.processes() if p.name in names
    )


def _database_answers(stack: Stack) -> bool:
    server, _, _ = stack.database_url.rpartition("/")
    try:
        psycopg.connect(f"{server}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _broker_answers(stack: Stack) -> bool:
    try:
        with contextlib.closing(redis.Redis.from_url(stack.redis_url)) as client:
            return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=3).status_code < 500
    except httpx.HTTPError:
        return False


def _refuse_taken(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as taken:
            raise CannotStart(
                f"Port {port} is taken by another program. Stop it, or choose other ports with "
                "PORTAL_WEB_PORT and PORTAL_GATEWAY_PORT."
            ) from taken


def _until(holds: Callable[[], bool], seconds: float, what: str, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise CannotStart(f"The {what} did not answer within {seconds:.0f} s; see {log}")
        time.sleep(0.1)
