"""One whole product a run; each journey brings a model of its own."""

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.product import PASSWORD, Product


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


@pytest.fixture
def sign_in(product: Product, browser: Browser) -> Iterator[Callable[[str], Page]]:
    """A browser of their own for each person, with nothing wrong in its console at the end."""
    wrong: list[str] = []
    contexts = []

    def sign_in(name: str) -> Page:
        context = browser.new_context(base_url=product.stack.web_url)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto("/")
        page.get_by_label("User name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("navigation", name="Main")).to_be_visible()
        return page

    yield sign_in
    for context in contexts:
        context.close()
    assert wrong == []
