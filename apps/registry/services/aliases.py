"""Verbs on aliases: what is wanted here is set in MLflow."""

from datetime import datetime

from django.db import transaction

from apps.core import live
from apps.core.dispatch import wake
from apps.registry import mlflow_link
from apps.registry.models import Alias, Model


@transaction.atomic
def set_alias(*, model: Model, name: str, number: int, now: datetime) -> None:
    """It wishes that MLflow's alias names this version; the sweep makes it so."""
    Alias.objects.update_or_create(
        model=model, name=name, defaults={"wanted": number, "changed_at": now}
    )
    wake("registry.sweep")


def confirm_alias(*, alias: Alias) -> None:
    """It sets one alias in MLflow and writes down what MLflow then says."""
    try:
        mlflow_link.set_alias(alias.model.name, alias.name, alias.wanted)
        seen = mlflow_link.alias(alias.model.name, alias.name)
    except (mlflow_link.NotThere, *mlflow_link.ODD_ANSWER) as why:
        Alias.objects.filter(pk=alias.pk, wanted=alias.wanted).update(error=str(why))
        return
    Alias.objects.filter(pk=alias.pk, wanted=alias.wanted).update(seen=seen, error="")
    live.publish(f"model:{alias.model.name}")
