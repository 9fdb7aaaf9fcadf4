"""One whole product a run; each journey brings a model of its own."""

import re
import shutil
from collections.abc import Iterator

import pytest

from tests.journeys.product import Product


@pytest.fixture(scope="session")
def product(request: pytest.FixtureRequest) -> Iterator[Product]:
    """The product as `./portal up` starts it, and as `./portal down` leaves it."""
    yield from lived(Product(), request.session)


def lived(product: Product, session: pytest.Session) -> Iterator[Product]:
    """It starts the product for some tests, stops it, and keeps its logs if it was no good."""
    whole = False
    try:
        product.up()
        yield product
        product.down()
        whole = session.testsfailed == 0
    finally:
        product.clear()
        product.remove(keep_logs=not whole)


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    words = str(request.node.name).removeprefix("test_")
    return re.sub("[^a-z0-9]+", "-", words)[:60].strip("-")


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """The distribution's Chromium; a container has no sandbox of its own to give it."""
    return {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
