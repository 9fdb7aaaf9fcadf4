from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.accounts.selectors import may, require
from apps.registry.models import Version
from apps.registry.standing import Asked, Standing, stand
from apps.registry.views.models import commands_for, order_of


@login_required
@require_safe
def version(request: HttpRequest, name: str, number: int) -> HttpResponse:
    found = get_object_or_404(_rows(request.GET.get("row", "")), model__name=name, number=number)
    require(request.user, "view", found)
    build = found.builds.select_related("job").order_by("-number").first()
    promotions = list(found.promotions.select_related("environment", "requester", "rollout"))
    context = {
        "version": found,
        "title": str(found),
        "model": found.model,
        "build": build,
        "build_seconds": sum(build.durations.values()) if build else 0,
        "builds": found.builds.defer("lock", "packages", "files", "requirements"),
        "runs": _newest_runs(found),
        "promotions": promotions,
        "serves": found.revisions.filter(endpoint__stable=F("pk")).select_related("endpoint"),
        "inputs": found.inputs.all(),
        "commands": commands_for(name),
        "standing": _standing(request, found, build, promotions),
        "may_build": may(request.user, "build.start", found),
        "may_promote": may(request.user, "promotion.request", found),
        "may_cancel": may(request.user, "job.cancel", found),
    }
    live = request.headers.get("HX-Request")
    return render(request, "registry/_version.html" if live else "registry/version.html", context)


def _rows(row: str) -> QuerySet[Version]:
    """The newest row of a number; the one that `row` names, where it is gone and another stands."""
    rows = Version.objects.select_related("model__team", "registered_by")
    return rows.filter(pk=row) if row.isdecimal() else rows.newest()


def _newest_runs(version: Version) -> list[Any]:
    """The newest run of the gates for each environment, with its checks."""
    runs: dict[str, Any] = {}
    for run in version.validations.select_related("environment").prefetch_related("checks"):
        runs.setdefault(run.environment.name, run)
    return sorted(runs.values(), key=lambda run: run.environment.order)


def _standing(request: HttpRequest, version: Version, build: Any, promotions: Any) -> Standing:
    serving = version.revisions.filter(endpoint__stable=F("pk"))
    return stand(
        is_gone=version.gone_at is not None,
        build_status=build.status if build else "",
        build_reason=build.reason if build else "",
        environments=order_of(version.model),
        serves_in=list(
            serving.order_by("endpoint__environment__order").values_list(
                "endpoint__environment__name", flat=True
            )
        ),
        asked=[_asked(promotion) for promotion in promotions],
        may_decide=may(request.user, "promotion.decide", version),
    )


def _asked(promotion: Any) -> Asked:
    rollout = getattr(promotion, "rollout", None)
    common = (promotion.environment.name, promotion.status, promotion.reason)
    url, served = promotion.get_absolute_url(), promotion.served_at is not None
    if rollout is None:
        return Asked(*common, url, served)
    return Asked(
        *common, url, served, rollout.get_absolute_url(), rollout.phase, rollout.reason,
        rollout.weight,
    )  # fmt: skip
