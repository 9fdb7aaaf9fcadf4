"""Questions about validation runs."""

from django.db.models import QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.validation.models import ValidationRun


def visible_to(user: Caller) -> QuerySet[ValidationRun]:
    rows = ValidationRun.objects.filter(version__model__team__in=teams_of(user))
    return rows.select_related(
        "version__model", "environment", "build", "dataset", "policy", "job",
        "compared_with__version__model",
    )  # fmt: skip
