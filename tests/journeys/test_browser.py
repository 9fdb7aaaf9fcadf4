"""The main path as two people see it in their browsers; pages follow without being reloaded."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.journeys import paths
from tests.journeys.client import until
from tests.journeys.product import Product

TWO_STEPS = paths.STRAIGHT.replace(
    "steps: [", "steps: [{weight: 20, hold_seconds: 6, analysis: false}, "
)
SOON = 60_000  # milliseconds


def test_register_approve_and_all_traffic(
    product: Product, model: str, sign_in: Callable[[str], Page]
) -> None:
    paths.serving(product, model)
    number = product.log(model)
    product.version(model, number)
    product.policy(model, TWO_STEPS)
    until("v2 is built", lambda: product.version(model, number)["digest"] or None, 120)

    ben = sign_in("ben")
    ben.get_by_role("navigation", name="Main").get_by_role("link", name="Models").click()
    ben.get_by_role("link", name=model, exact=True).click()
    expect(ben.get_by_role("heading", level=1)).to_have_text(model)
    ben.get_by_role("row", name=re.compile("^v2")).get_by_role("link", name="v2").click()
    expect(ben.get_by_role("heading", level=1)).to_have_text(f"{model} v2")
    ben.get_by_role("button", name="Request promotion to production").click()
    expect(ben.get_by_role("heading", level=1)).to_have_text(f"{model} v2 to production")
    expect(ben.get_by_text("another person must decide it")).to_be_visible()
    expect(ben.get_by_role("button", name="Approve")).to_have_count(0)

    promotion = product.promotion(model, "production", "waiting")
    grace = sign_in("grace")
    grace.goto(f"/promotions/{promotion['id']}")
    expect(grace.get_by_role("heading", name="Waiting for 1 approval")).to_be_visible(timeout=SOON)
    turns = navigations(ben)
    grace.get_by_label("Your words").fill("Looks right")
    grace.get_by_role("button", name="Approve").click()
    expect(grace.get_by_text("You approved it")).to_be_visible()

    # Ben's page hears of it, and of the rollout that begins.
    expect(ben.get_by_text("Looks right")).to_be_visible(timeout=SOON)
    to_rollout = ben.get_by_role("link", name="Rollout", exact=True)
    expect(to_rollout).to_be_visible(timeout=SOON)
    assert turns == []

    to_rollout.click()
    expect(ben.get_by_role("heading", level=1)).to_have_text(f"{model} v2 to production")
    turns = navigations(ben)
    wanted = ben.locator("#rollout .split-bar title").first
    expect(wanted).to_have_text("Split wanted: v1 stable 80 %, v2 candidate 20 %", timeout=SOON)
    expect(wanted).to_have_text(re.compile("v2 candidate 100 %$"), timeout=SOON)
    expect(ben.get_by_text("v2 serves all callers.")).to_be_visible(timeout=SOON)
    assert turns == []
    assert product.answering_version(model) == "2"


def navigations(page: Page) -> list[str]:
    """Every page load from now on, without the one that a click just began."""
    page.wait_for_load_state("load")
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    return loads
