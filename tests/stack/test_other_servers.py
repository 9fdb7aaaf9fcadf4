"""The product on servers that it did not start, given by DATABASE_URL and REDIS_URL."""

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
import redis

from mlops_portal.stack.config import Stack
from tests.journeys.conftest import lived
from tests.journeys.product import Product


@pytest.fixture
def product(elsewhere: Stack, request: pytest.FixtureRequest) -> Iterator[Product]:
    given = {"DATABASE_URL": elsewhere.database_url, "REDIS_URL": elsewhere.redis_url}
    yield from lived(Product(**given), request.session)


def test_everything_runs_on_servers_that_were_given(product: Product, elsewhere: Stack) -> None:
    names = {process.name for process in product.supervisor.processes()}
    assert names == {
        "gateway", "mlflow", "web", "worker", "analyst", "ticker", "beat", "scaler", "collector",
    }  # fmt: skip
    assert not (product.var / "postgres").exists()
    assert not (product.var / "valkey").exists()

    number = product.log("given-servers")
    version = product.version("given-servers", number)
    staging = product.promotion("given-servers", "staging", "approved")
    product.rollout(staging, "succeeded")
    assert product.answering_version("given-servers", "staging") == "1"

    with psycopg.connect(elsewhere.database_url) as connection:
        rows = connection.execute("select id, seen_by from registry_version").fetchall()
    assert rows == [(version["id"], version["seen_by"])]
    with contextlib.closing(redis.Redis.from_url(elsewhere.redis_url)) as broker:
        assert broker.exists("_kombu.binding.builds")

    product.manage("down")
    psycopg.connect(elsewhere.database_url).close()  # what was given is not ours to stop
    with contextlib.closing(redis.Redis.from_url(elsewhere.redis_url)) as broker:
        assert broker.ping() is True
    product.manage("up")
