"""Both ways in which the panel hears of a version, each alone.

Registered past the panel it is nobody's, so only the superuser sees it.
"""

import time

from tests.journeys.client import held, until
from tests.journeys.product import Product


def hooks(product: Product) -> list[dict[str, str]]:
    found: list[dict[str, str]] = product.ask_mlflow("GET", "webhooks").get("webhooks", [])
    return found


def test_the_signed_webhook_alone_tells(product: Product, model: str) -> None:
    until("the webhook stands in MLflow", lambda: hooks(product) or None, 30)
    with product.stopped("beat"):  # no sweep looks
        number = product.log(model, past_the_panel=True)
        version = product.version(model, number, seconds=5, reader="admin")

    assert version["seen_by"] == "webhook"
    assert version["registered_by"] is None
    admin = product.people["admin"]
    [event] = admin.results("events", model=model, verb="version.registered")
    assert event["reason"] == "Seen by webhook"


def test_the_sweep_finds_what_a_lost_webhook_missed(product: Product, model: str) -> None:
    with product.stopped("beat"):
        for hook in hooks(product):
            product.ask_mlflow("DELETE", f"webhooks/{hook['webhook_id']}")
        deleted = time.monotonic()
        # MLflow remembers its list of webhooks for a second (MLFLOW_WEBHOOK_CACHE_TTL).
        until("MLflow forgot it", lambda: held(time.monotonic() - deleted > 1.5), 10)
        assert hooks(product) == []
        number = product.log(model, past_the_panel=True)
        unknown = product.people["admin"].http.get(f"models/{model}/versions/{number}")
        assert unknown.status_code == 404

    version = product.version(model, number, reader="admin")
    assert version["seen_by"] == "sweep"
    [again] = until("the webhook is asked for again", lambda: hooks(product) or None, 20)
    assert again["url"] == f"{product.stack.web_url}/webhooks/mlflow"
