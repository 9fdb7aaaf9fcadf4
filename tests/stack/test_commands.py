"""What the commands say when there is nothing to do, or no way to do it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.journeys.product import Product


@pytest.fixture
def unstarted() -> Iterator[Product]:
    product = Product()
    try:
        yield product
    finally:
        product.clear()
        product.remove(keep_logs=False)


def test_nothing_runs(unstarted: Product) -> None:
    status = unstarted.command("manage.py", "status")
    assert status.returncode == 1
    assert status.stdout == "Nothing runs. Start it with ./portal up\n"
    assert unstarted.manage("down") == "Nothing was running\n"


def test_a_port_that_is_taken(unstarted: Product) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        unstarted.environment["PORTAL_WEB_PORT"] = str(port)
        done = unstarted.command("manage.py", "up")

    assert done.returncode == 1
    assert f"Port {port} is taken by another program." in done.stderr
    assert unstarted.processes_left() == {}
