"""The cast and the servers. PostgreSQL and Valkey are real, started once a run by the product's
own code under a directory of this run's own, and are gone when it ends."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from mlops_portal.stack import control
from tests import people
from tests.environment import RUN
from tests.people import Cast


def pytest_configure(config: pytest.Config) -> None:
    # A real hash takes a third of a second by design; the cast alone would need two.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


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
