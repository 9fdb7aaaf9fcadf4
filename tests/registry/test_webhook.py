"""MLflow's webhook: believed only when it is signed, fresh and new."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from apps.registry import signatures
from apps.registry.models import Version, WebhookCall
from apps.registry.services import webhooks
from tests.registry.conftest import Woken

BODY = {
    "entity": "model_version",
    "action": "created",
    "timestamp": "2030-01-07T12:00:00Z",
    "data": {"name": "flight-delay", "version": "3", "source": "models:/m-3", "run_id": "r"},
}
pytestmark = pytest.mark.django_db
WORDS = "X-MLflow-Delivery-Id or X-MLflow-Timestamp is missing"
OLD = "The call is older than five minutes, or the clocks differ"


def call(client: Client, body: bytes, **changed: str | None) -> Any:
    """It sends a call as MLflow signs it, but for what is changed."""
    delivery = changed.get("delivery") or "d-1"
    timestamp = changed.get("timestamp") or str(int(datetime.now(UTC).timestamp()))
    headers = {
        signatures.DELIVERY: delivery,
        signatures.TIMESTAMP: timestamp,
        signatures.SIGNATURE: changed.get("signature")
        or signatures.sign(delivery, timestamp, body),
    }
    for name, header in (("delivery", signatures.DELIVERY), ("timestamp", signatures.TIMESTAMP)):
        if name in changed and changed[name] is None:
            del headers[header]
    return client.post("/webhooks/mlflow", body, content_type="application/json", headers=headers)


def test_a_good_one_wakes_the_registration(client: Client, woken: Woken) -> None:
    answer = call(client, json.dumps(BODY).encode())

    assert (answer.status_code, answer.content) == (204, b"")
    assert woken == [("registry.register", "flight-delay", 3, "webhook")]
    assert WebhookCall.objects.get().delivery_id == "d-1"


def test_the_same_delivery_again_wakes_nothing(client: Client, woken: Woken) -> None:
    for _ in range(2):
        assert call(client, json.dumps(BODY).encode()).status_code == 204
    assert call(client, json.dumps(BODY).encode(), delivery="d-2").status_code == 204

    assert len(woken) == 2
    assert WebhookCall.objects.count() == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"signature": "v1,AAAA"}, "The signature does not fit"),
        ({"signature": "é"}, "The signature does not fit"),
        ({"delivery": None}, WORDS),
        ({"delivery": "d" * 101}, WORDS),
        ({"timestamp": None}, WORDS),
        ({"timestamp": "now"}, WORDS),
        ({"timestamp": "²"}, WORDS),
        ({"timestamp": "9" * 5000}, WORDS),
        ({"timestamp": "1262304000"}, OLD),
        ({"timestamp": "4102444800"}, OLD),
    ],
)
def test_what_is_not_believed(
    client: Client, woken: Woken, changed: dict[str, str | None], words: str
) -> None:
    answer = call(client, json.dumps(BODY).encode(), **changed)

    assert answer.status_code == 401
    assert answer.json() == {"code": "signature", "message": words, "detail": None}
    assert woken == []
    assert not WebhookCall.objects.exists()


def test_a_body_that_was_changed_on_the_way(client: Client, woken: Woken) -> None:
    timestamp = str(int(datetime.now(UTC).timestamp()))
    signed = signatures.sign("d-1", timestamp, json.dumps(BODY).encode())
    other = BODY | {"data": {"name": "flight-delay", "version": "4"}}

    answer = call(client, json.dumps(other).encode(), timestamp=timestamp, signature=signed)

    assert (answer.status_code, answer.json()["message"]) == (401, "The signature does not fit")
    assert woken == []


@pytest.mark.parametrize(
    ("entity", "action"), [("model_version", "deleted"), ("registered_model", "created")]
)
def test_other_events_are_taken_and_left(
    client: Client, woken: Woken, entity: str, action: str
) -> None:
    body = BODY | {"entity": entity, "action": action}

    assert call(client, json.dumps(body).encode()).status_code == 204
    assert woken == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"entity": "model_version", "action": "created"}',
        b'{"entity": "model_version", "action": "created", "data": {"name": "a"}}',
        b'{"entity": "model_version", "action": "created", "data": {"name": "a", "version": "x"}}',
        b'{"entity": "model_version", "action": "created", "data": {"name": "a", "version": []}}',
    ],
)
def test_signed_nonsense(client: Client, woken: Woken, body: bytes) -> None:
    answer = call(client, body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert woken == []
    assert not Version.objects.exists()


def test_what_cannot_be_replayed_any_more_is_forgotten(woken: Woken, now: datetime) -> None:
    for delivery, at in (("old", now - timedelta(days=2)), ("new", now)):
        assert webhooks.take_webhook(delivery_id=delivery, name="m", number=1, now=at)

    assert [call.delivery_id for call in WebhookCall.objects.all()] == ["new"]
    assert not webhooks.take_webhook(delivery_id="new", name="m", number=1, now=now)


def test_get_is_not_answered(client: Client) -> None:
    assert client.get("/webhooks/mlflow").status_code == 405
