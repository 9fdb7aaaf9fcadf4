"""Questions about validation runs."""

from django.db.models import QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Version
from apps.validation.lifecycle import RunStatus
from apps.validation.models import ValidationRun


def visible_to(user: Caller) -> QuerySet[ValidationRun]:
    rows = ValidationRun.objects.filter(version__model__team__in=teams_of(user))
    return rows.select_related(
        "version__model", "environment", "build", "dataset", "policy", "job",
        "compared_with__version__model",
    )  # fmt: skip


def on_holdout(version: Version) -> tuple[dict[str, float], str]:
    """It gives the metrics that the version's newest validation measured, and on which data set.

    ({}, ""): there was none, or its data set is also one to train on.
    """
    training = Dataset.objects.filter(model=version.model_id, role=DatasetRole.TRAINING)
    runs = version.validations.filter(status=RunStatus.DONE, dataset__isnull=False)
    runs = runs.exclude(dataset__fingerprint__in=training.values("fingerprint"))
    for run in runs.select_related("dataset").prefetch_related("checks")[:10]:
        found: dict[str, float] = {}
        for check in run.checks.all():
            seen = check.evidence.get("candidate") or check.evidence
            if "metric" in check.evidence and seen.get("value") is not None:
                found[check.evidence["metric"]] = float(seen["value"])
        if found and run.dataset is not None:
            return found, run.dataset.name
    return {}, ""
