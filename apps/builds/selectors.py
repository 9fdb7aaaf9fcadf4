"""Questions about builds."""

from django.db.models import QuerySet

from apps.accounts.selectors import Caller, teams_of
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.registry.models import Version


def visible_to(user: Caller) -> QuerySet[Build]:
    rows = Build.objects.filter(version__model__team__in=teams_of(user))
    return rows.select_related("version__model", "job")


def latest_success(version: Version) -> Build | None:
    """The build that would be shipped now."""
    return (
        Build.objects.filter(version=version, status=BuildStatus.SUCCEEDED)
        .select_related("version__model")
        .order_by("-number")
        .first()
    )
