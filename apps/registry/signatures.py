"""Checks that a webhook call comes from our MLflow: HMAC-SHA256 as MLflow signs it."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime

from django.conf import settings

SIGNATURE, TIMESTAMP = "X-MLflow-Signature", "X-MLflow-Timestamp"
DELIVERY = "X-MLflow-Delivery-Id"
OLDEST_SECONDS = 300
LONGEST_ID = 100


def why_not(headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """It says why a call is not believed; "" when it is.

    Signed is "{delivery id}.{timestamp}.{body}"; an old one may be a replay of what was overheard.
    """
    delivery, timestamp = headers.get(DELIVERY, ""), headers.get(TIMESTAMP, "")
    is_number = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < LONGEST_ID
    if not delivery or len(delivery) > LONGEST_ID or not is_number:
        return f"{DELIVERY} or {TIMESTAMP} is missing"
    if abs(now.timestamp() - int(timestamp)) > OLDEST_SECONDS:
        return "The call is older than five minutes, or the clocks differ"
    given = headers.get(SIGNATURE, "").encode()  # compare_digest takes no text beyond ASCII
    if not hmac.compare_digest(sign(delivery, timestamp, body).encode(), given):
        return "The signature does not fit"
    return ""


def sign(delivery: str, timestamp: str, body: bytes) -> str:
    """It makes the signature header of a call."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    mark = hmac.new(settings.MLFLOW_WEBHOOK_SECRET.encode(), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mark).decode()
