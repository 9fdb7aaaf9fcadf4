"""An incident as the person on call sees it: from home to the request that it is about."""

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.journeys import watched
from tests.journeys.client import checked
from tests.journeys.product import Product

SOON = 60_000  # milliseconds


def test_from_an_incident_to_a_request(
    product: Product, model: str, sign_in: Callable[[str], Page]
) -> None:
    endpoint = watched.served(product, model)
    rows = watched.table(900)
    far = int((rows["distance"] > 2700).sum())
    items = watched.ask(product, model, rows)
    checked(product.people["ben"].http.post("feedback", json=items))
    watched.incident(product, model)
    watched.labelled(product, endpoint)

    dora = sign_in("dora")
    needs = dora.get_by_role("region", name="Needs you")
    needs.get_by_role("link", name=re.compile(f"{model}.*distance|distance.*{model}")).click()
    expect(dora.get_by_role("heading", level=1)).to_contain_text("distance")
    expect(dora.locator("#chart-incident .main-svg").first).to_be_visible(timeout=SOON)
    dora.get_by_role("button", name="Acknowledge").click()
    expect(dora.get_by_text("dora is on it since")).to_be_visible(timeout=SOON)
    expect(dora.get_by_role("button", name="Acknowledge")).to_have_count(0)
    dora.get_by_label("Write a note").fill("The distances are in kilometres")
    dora.get_by_role("button", name="Add", exact=True).click()
    expect(
        dora.get_by_role("article").get_by_text("The distances are in kilometres")
    ).to_be_visible()

    # What it is about: the endpoint's columns, the one that moved first.
    dora.goto(f"/endpoints/production/{model}/monitoring?window=1h")
    drifted = dora.locator("#monitoring .columns-list").first.get_by_role("row").nth(1)
    expect(drifted).to_contain_text("distance")
    expect(drifted).to_contain_text(re.compile("critical", re.IGNORECASE))
    drifted.get_by_role("link", name="distance").click()
    expect(dora.locator("#chart-distribution .main-svg").first).to_be_visible(timeout=SOON)
    dora.locator("#table-distribution summary").focus()
    dora.keyboard.press("Enter")
    expect(dora.locator("#table-distribution table")).to_be_visible(timeout=SOON)

    dora.get_by_role("link", name="Quality", exact=True).click()
    expect(
        dora.get_by_text(f"Labels came for {watched.LABELLED} of {watched.ROWS}")
    ).to_be_visible()
    expect(dora.locator("#chart-quality .main-svg").first).to_be_visible(timeout=SOON)

    # The rows themselves, found while the page stays; and one request whole.
    dora.get_by_role("link", name="Log", exact=True).click()
    dora.get_by_label("Column").first.fill("in.distance")
    dora.get_by_label("Comparison").first.select_option("gt")
    dora.get_by_label("Value", exact=True).first.fill("2700")
    dora.get_by_role("button", name="Search", exact=True).click()
    found = dora.get_by_role("heading", name=f"{far} rows found")
    expect(found).to_be_visible(timeout=SOON)
    with dora.expect_download() as download:
        dora.get_by_role("link", name="Download CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 1 + far
    dora.get_by_role("link", name=items[0]["request_id"]).first.click()
    expect(dora.get_by_role("heading", name="What was asked")).to_be_visible()
    expect(dora.get_by_role("heading", name="What was true")).to_be_visible()
