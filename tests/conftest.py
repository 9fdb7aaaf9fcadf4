"""The cast and the servers. PostgreSQL and Valkey are real, started once a run by the product's
own code under a directory of this run's own, and are gone when it ends."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

# Before Django reads its settings: this run's own directory and ports, and no leftovers of a
# developer's shell that would point the tests at a real installation.
for _given in ("DATABASE_URL", "REDIS_URL", "MLFLOW_TRACKING_URI", "EMAIL_URL"):
    os.environ.pop(_given, None)
RUN = Path(tempfile.mkdtemp(prefix="portal-tests-"))
RUN.chmod(0o755)  # PostgreSQL's unprivileged account must pass through
os.environ["PORTAL_VAR"] = str(RUN / "var")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


os.environ["PORTAL_WEB_PORT"] = str(_free_port())
os.environ["PORTAL_GATEWAY_PORT"] = str(_free_port())
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright runs a loop in the tests' own thread

import pytest
from django.conf import settings
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from mlops_portal.stack import control
from tests import people
from tests.people import Cast


@pytest.fixture(scope="session")
def servers() -> Iterator[None]:
    """PostgreSQL and Valkey, as `./portal up` starts them."""
    try:
        control.start_servers(settings.STACK)
        yield
    finally:
        control.stop(settings.STACK)
        shutil.rmtree(RUN, ignore_errors=True)
        shutil.rmtree(settings.STACK.run, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: None) -> None:
    """pytest-django makes its test database on the servers of this run."""


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Tests that commit are cleaned up by TRUNCATE, which the product forbids for the audit."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("drop trigger audit_event_never_emptied on audit_event")


@pytest.fixture
def now() -> datetime:
    return datetime(2030, 1, 7, 12, 0, tzinfo=UTC)


@pytest.fixture
def cast(db: None) -> Cast:
    return people.cast()
