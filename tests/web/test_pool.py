"""After a restart of the database the web process has new connections at once."""

from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg_pool.pool
import pytest
from django.db import connection

from mlops_portal.postgres.base import DatabaseWrapper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pooled() -> Iterator[DatabaseWrapper]:
    """The test database through a pool of its own, as the web process has it."""
    pool = {"min_size": 2, "max_size": 12, "timeout": 10}
    settings = connection.settings_dict | {
        "OPTIONS": {"pool": pool}, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False,
    }  # fmt: skip
    wrapper = DatabaseWrapper(settings, "pooled")
    yield wrapper
    wrapper.close_pool()


def test_idle_connections_that_a_server_ended_delay_nobody(
    pooled: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pooled.pool is not None
    held = [pooled.get_new_connection({}) for _ in range(8)]
    pids = [one.info.backend_pid for one in held]
    for one in held:
        pooled.pool.putconn(one)
    with connection.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(pid, 5000) from unnest(%s) pid", [pids])

    def waits(seconds: float) -> Any:
        raise AssertionError(f"It waits {seconds} s")

    monkeypatch.setattr(psycopg_pool.pool, "sleep", waits)
    fresh = pooled.get_new_connection({})

    assert isinstance(fresh, psycopg.Connection)
    assert fresh.execute("select 1").fetchone() == (1,)
    assert fresh.info.backend_pid not in pids
    pooled.pool.putconn(fresh)
