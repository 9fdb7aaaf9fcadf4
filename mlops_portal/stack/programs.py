"""What runs: each process of the product, how it is started and in which order.

A program is a name, a function that gives what to exec, and what the supervisor must know of it.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_portal.stack.config import ROOT, Stack

MLFLOW_DATABASE = "mlflow"


@dataclass(frozen=True)
class Exec:
    """The process image a launcher turns into."""

    argv: list[str]
    env: Mapping[str, str]
    uid: int | None = None  # None: stay who we are
    gid: int | None = None
    cwd: Path = ROOT


@dataclass(frozen=True)
class Program:
    name: str
    prepare: Callable[[Stack], Exec]
    order: int  # lower starts first, stops last
    stop_signal: str = "TERM"
    stop_seconds: int = 10
    embedded: Callable[[Stack], bool] = field(default=lambda _: True)
    what: str = ""


def base_env() -> dict[str, str]:
    """Enough to run a program, and nothing of the panel's secrets."""
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


def portal_env(stack: Stack) -> dict[str, str]:
    """The panel's own processes see the same settings as the command that started them."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SUPERVISOR_")}
    return env | {
        "DJANGO_SETTINGS_MODULE": "mlops_portal.settings",
        "PORTAL_VAR": str(stack.var),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _python(stack: Stack, *argv: str) -> Exec:
    return Exec([sys.executable, *argv], portal_env(stack))


def _postgres(stack: Stack) -> Exec:
    from mlops_portal.stack import postgres

    return postgres.prepare(stack)


def _valkey(stack: Stack) -> Exec:
    from mlops_portal.stack import valkey

    return valkey.prepare(stack)


def _mlflow(stack: Stack) -> Exec:
    env = base_env() | {
        # What `mlflow server` itself sets before it starts uvicorn; started without it, since
        # that command keeps a second process of 200 MB only to wait for this one.
        "_MLFLOW_SERVER_FILE_STORE": stack.mlflow_database_url,
        "_MLFLOW_SERVER_REGISTRY_STORE": stack.mlflow_database_url,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(stack.var / "mlflow" / "artifacts"),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_STATIC_PREFIX": "/mlflow",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",  # its addresses are not forwarded
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",  # the panel checks host and origin
        "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
        "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",  # the panel is on loopback
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": stack.webhook_encryption_key,
        "MLFLOW_WEBHOOK_CACHE_TTL": "1",
        "MLFLOW_CRYPTO_KEK_PASSPHRASE": stack.mlflow_secret,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PORTAL_MLFLOW_SECRET": stack.mlflow_secret,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    (stack.var / "mlflow" / "artifacts").mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "uvicorn", "mlops_portal.stack.mlflow_app:app"]
    argv += ["--host", "127.0.0.1", "--port", str(stack.mlflow_port), "--no-access-log"]
    return Exec(argv, env, cwd=stack.var / "mlflow")


def _gateway(stack: Stack) -> Exec:
    from mlops_portal.stack import envoy

    return envoy.prepare(stack)


def _web(stack: Stack) -> Exec:
    argv = ["-m", "uvicorn", "mlops_portal.asgi:application", "--host", "127.0.0.1"]
    argv += ["--port", str(stack.web_port), "--loop", "uvloop", "--http", "httptools"]
    argv += [
        "--no-access-log",
        "--timeout-graceful-shutdown",
        "5",
        "--ws",
        "websockets-sansio",
        "--lifespan",
        "off",
    ]
    return _python(stack, *argv)


def _celery(stack: Stack, *argv: str) -> Exec:
    return _python(stack, "-m", "celery", "--app", "mlops_portal.celery", *argv)


def _worker(stack: Stack) -> Exec:
    """Long jobs: a build or a validation may take minutes."""
    return _celery(
        stack, "worker", "--queues", "builds,validation", "--concurrency", "2",
        "--hostname", "jobs@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
    )  # fmt: skip


def _ticker(stack: Stack) -> Exec:
    """Short ticks, apart from the long jobs: no build may delay a rollback."""
    return _celery(
        stack, "worker", "--queues", "rollouts,monitoring,notifications,default",
        "--concurrency", "2", "--hostname", "ticks@%h", "--loglevel", "INFO",
        "--without-gossip", "--without-mingle",
    )  # fmt: skip


def _analyst(stack: Stack) -> Exec:
    """Questions to the log and the watching of endpoints: neither waits for a build to end."""
    return _celery(
        stack, "worker", "--queues", "analyses", "--pool", "threads", "--concurrency", "3",
        "--hostname", "analyses@%h", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
    )  # fmt: skip


def _beat(stack: Stack) -> Exec:
    schedule = stack.var / "beat"
    schedule.mkdir(parents=True, exist_ok=True)
    argv = ["beat", "--schedule", str(schedule / "schedule"), "--loglevel", "WARNING"]
    return _celery(stack, *argv, "--pidfile", "")


def _collector(stack: Stack) -> Exec:
    return _python(stack, "manage.py", "collect")


def _scaler(stack: Stack) -> Exec:
    return _python(stack, "manage.py", "scale")


PROGRAMS = (
    Program("postgres", _postgres, 1, "INT", 30, lambda s: s.embeds_postgres, "database"),
    Program("valkey", _valkey, 1, "TERM", 10, lambda s: s.embeds_valkey, "broker"),
    Program("gateway", _gateway, 2, what="Envoy"),
    Program("mlflow", _mlflow, 2, embedded=lambda s: s.embeds_mlflow, what="registry"),
    Program("web", _web, 3, what="pages, API, websockets"),
    Program("worker", _worker, 3, "TERM", 20, what="builds, validation"),
    Program("analyst", _analyst, 3, "TERM", 20, what="drift, quality, alerts, log explorer"),
    Program("ticker", _ticker, 3, "TERM", 20, what="rollouts, sweeps, mail"),
    Program("beat", _beat, 3, what="the clock of the sweeps"),
    Program("scaler", _scaler, 3, what="replicas follow the traffic; wakes what sleeps"),
    Program("collector", _collector, 3, what="prediction log and rollups"),
)


def running_in(stack: Stack) -> list[Program]:
    """It lists the programs this installation runs itself, in starting order."""
    return sorted((p for p in PROGRAMS if p.embedded(stack)), key=lambda p: p.order)


def named(name: str) -> Program:
    return next(program for program in PROGRAMS if program.name == name)
