"""Verbs on MLflow's calls."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from apps.core.dispatch import wake
from apps.registry import mlflow_link
from apps.registry.lifecycle import Source
from apps.registry.models import WebhookCall

log = logging.getLogger(__name__)
KEPT_CALLS = timedelta(days=1)


@transaction.atomic
def take_webhook(*, delivery_id: str, name: str, number: int, now: datetime) -> bool:
    """It takes one checked delivery. False: this delivery was taken before."""
    WebhookCall.objects.filter(at__lt=now - KEPT_CALLS).delete()  # too old to be believed again
    _, new = WebhookCall.objects.get_or_create(delivery_id=delivery_id, defaults={"at": now})
    if new:
        wake("registry.register", name, number, Source.WEBHOOK)
    return new


def keep_webhook() -> None:
    """It asks MLflow to call when a version is registered, unless it does so already."""
    url = settings.PUBLIC_URL + reverse("mlflow-webhook")
    try:
        if mlflow_link.ensure_webhook(url, settings.MLFLOW_WEBHOOK_SECRET):
            log.info("Asked MLflow to call %s", url)
    except (mlflow_link.NotThere, *mlflow_link.ODD_ANSWER) as why:
        # An older server has no webhooks, or takes none of our address: the sweep does without.
        log.warning("MLflow takes no webhook to %s: %s", url, why)
