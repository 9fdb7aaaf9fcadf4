"""A database and a broker of the benchmark's own, started and stopped as the product does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.processes import free_port
from mlops_portal.stack import config

FOREIGN = ("DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "EMAIL_URL")


def choose() -> Path:
    """It points the settings at a data directory of its own and gives the benchmarks' folder.

    Before Django reads them: the installation that runs must not get a row of the benchmark.
    """
    kept = config.load()
    folder = kept.var / "bench"
    (folder / "panel" / "static").mkdir(parents=True, exist_ok=True)
    for name in FOREIGN:
        os.environ.pop(name, None)
    os.environ.setdefault("UV_CACHE_DIR", str(kept.var / "uv-cache"))
    os.environ["PORTAL_VAR"] = str(folder / "panel")
    os.environ["PORTAL_WEB_PORT"] = str(free_port())
    os.environ["PORTAL_GATEWAY_PORT"] = str(free_port())
    return folder


@contextmanager
def running() -> Iterator[None]:
    """It gives empty tables, and stops the servers at the end. Raises: control.CannotStart."""
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from mlops_portal.stack import control

    try:
        control.start_servers(settings.STACK)
        _drop(settings.STACK)
        control.create_databases(settings.STACK)
        call_command("migrate", verbosity=0, interactive=False)
        yield
    finally:
        connections.close_all()
        control.stop(settings.STACK)


def _drop(stack: config.Stack) -> None:
    """It takes away what an earlier run left."""
    import psycopg

    with psycopg.connect(stack.embedded_database_url("postgres"), autocommit=True) as connection:
        connection.execute("drop database if exists portal with (force)")
