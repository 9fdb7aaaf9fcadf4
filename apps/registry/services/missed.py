"""Finds what MLflow's calls did not tell, and keeps what MLflow was asked for."""

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from apps.registry import found, mlflow_link
from apps.registry.lifecycle import Source
from apps.registry.models import Alias, Version
from apps.registry.services import aliases, versions, webhooks

log = logging.getLogger(__name__)
WEBHOOK_GRACE = timedelta(seconds=3)  # the sweep looks for lost calls, not for slow ones
Identity = tuple[str, int, datetime]  # of one registration in MLflow


def sweep(*, now: datetime) -> None:
    """It finds versions whose webhook was lost, keeps the webhook, and sets wanted aliases.

    Every ten minutes it looks at all versions, and marks those that MLflow has no more.

    Raises: Unavailable when MLflow does not list its versions; what one version, run or alias is
    odd in stops nothing but itself.
    """
    webhooks.keep_webhook()
    everything = now.minute % 10 == 0 and now.second < 10
    rows = mlflow_link.newest_versions(everything=everything)
    known = set(
        Version.objects.living()
        .filter(model__name__in={row.get("name") for row in rows})
        .values_list("model__name", "number", "registered_at")
    )
    for row in reversed(rows):
        _take_missed(row, known, now)
    if everything:
        _let_go_of_lost(rows, now)
    for alias in Alias.objects.filter(Q(seen=None) | ~Q(seen=F("wanted"))).select_related("model"):
        aliases.confirm_alias(alias=alias)


def _take_missed(row: dict[str, Any], known: set[Identity], now: datetime) -> None:
    try:
        name, number, registered_at = found.identity(row)
        if (name, number, registered_at) not in known and now - registered_at > WEBHOOK_GRACE:
            versions.register_version(name=name, number=number, seen_by=Source.SWEEP, now=now)
    except versions.NOT_TAKEN as why:
        log.warning("Version %s %s not taken: %s", row.get("name"), row.get("version"), why)


def _let_go_of_lost(rows: list[dict[str, Any]], now: datetime) -> None:
    listed = {found.identity(row) for row in rows}
    for version in Version.objects.living().select_related("model"):
        if (version.model.name, version.number, version.registered_at) in listed:
            continue
        try:
            if _is_lost(version):
                with transaction.atomic():
                    versions.let_go(version, f"MLflow no longer lists {version}", now)
        except mlflow_link.ODD_ANSWER as why:
            log.warning("Not known whether MLflow has %s: %s", version, why)


def _is_lost(version: Version) -> bool:
    """MLflow is asked for it by name: a list that grows while it is read in pages skips some."""
    try:
        said = mlflow_link.version(version.model.name, version.number)
    except mlflow_link.NotThere:
        return True
    return found.registered_at(said) != version.registered_at
