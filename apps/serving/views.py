from collections.abc import Sequence
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from apps.accounts.selectors import may, require
from apps.core.templatetags.formats import revision_index
from apps.serving import examples, keys, selectors
from apps.serving.forms import MomentForm
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision

CHARTS = (("traffic", "Requests by revision"), ("errors", "Errors by revision"),
          ("latency", "Latency by revision"))  # fmt: skip


@login_required
@require_safe
def endpoints(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    found = list(selectors.visible_to(request.user))
    rows = [(endpoint, split(endpoint, endpoint.traffic_seen)) for endpoint in found]
    environments = [
        (environment, [row for row in rows if row[0].environment_id == environment.pk])
        for environment in selectors.environments()
    ]
    context = {"environments": environments, "rows": rows}
    live = request.headers.get("HX-Request")
    template = "serving/_endpoints.html" if live else "serving/list.html"
    return render(request, template, context)


@login_required
@require_safe
def endpoint(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    known = Endpoint.objects.select_related("model__team", "environment", "stable__version__model")
    found = get_object_or_404(known, environment__name=environment, name=name)
    require(request.user, "view", found)
    rows = found.revisions.select_related("version__model", "build").prefetch_related("sighted")
    revisions = list(rows)
    running = [r for r in revisions if r.wanted == RevisionWish.RUN
               or r.state != RevisionState.STOPPED]  # fmt: skip
    for revision in revisions:
        revision.endpoint = found
    replicas = [replica for revision in running for replica in revision.sighted.all()]
    build = found.stable.build if found.stable else running[0].build if running else None
    context = {
        "endpoint": found,
        "model": found.model,
        "wanted": split(found, found.traffic_wanted, revisions),
        "seen": split(found, found.traffic_seen, revisions),
        "agrees": found.traffic_seen == found.traffic_wanted,
        "copies": copies(found, revisions),
        "asleep": any(r.state == RevisionState.ASLEEP for r in running),
        "revisions": running,
        "replicas": replicas,
        "part": selectors.serving_part(found),
        "policy_number": selectors.policy_number(found),
        "use": selectors.used_lately(found, timezone.now().date()),
        "stopped": [revision for revision in revisions if revision not in running][:50],
        "rollouts": found.rollouts.select_related("candidate__version__model")[:10],
        "calls": examples.calls(found, build) if build else [],
        "real": bool(build and examples.is_real(build)),
        "charts": CHARTS,
        "tries": tries(running) if may(request.user, "endpoint.test", found) else [],
        **_moment(request, found),
    }
    live = request.headers.get("HX-Request")
    return render(request, "serving/_endpoint.html" if live else "serving/page.html", context)


def copies(endpoint: Endpoint, revisions: Sequence[Revision]) -> list[dict[str, object]]:
    """Which versions get copies of requests, and whether the gateway makes them already."""
    seen = endpoint.shadow_seen or {}
    numbers = {str(revision.pk): revision.version.number for revision in revisions}
    return [
        {
            "version": numbers[pk],
            "percent": share * 100 / WEIGHT_TOTAL,
            "waits": seen.get(pk) != share,
        }
        for pk, share in endpoint.shadow_wanted.items()
        if pk in numbers
    ]


def tries(revisions: Sequence[Revision]) -> list[tuple[Revision, str]]:
    """Each revision that runs, with the header that asks it past the split."""
    return [
        (revision, f"-H '{keys.HEADER}: {keys.of(revision.pk)}'")
        for revision in revisions
        if revision.wanted == RevisionWish.RUN
    ]


def _moment(request: HttpRequest, endpoint: Endpoint) -> dict[str, Any]:
    """The answer to "what served then?", when it was asked."""
    form = MomentForm(request.GET if "at" in request.GET else None)
    if not form.is_bound or not form.is_valid():
        return {"moment": form}
    at = form.cleaned_data["at"]
    event, served = selectors.served_at(
        model=endpoint.model, environment=endpoint.environment.name, at=at
    )
    parts = [
        {"label": f"v{s.version}", "weight": s.percent, "index": revision_index(s.version)}
        for s in served
    ]
    return {"moment": form, "at": at, "event": event, "served": served, "served_parts": parts}


def split(
    endpoint: Endpoint, weights: dict[str, int] | None, among: Sequence[Revision] | None = None
) -> list[dict[str, object]] | None:
    """The parts of a split bar, oldest revision first; None when the gateway did not answer."""
    if weights is None:
        return None
    known = {r.pk: r for r in (endpoint.revisions.all() if among is None else among)}
    parts = []
    for pk, weight in sorted(selectors.weights_of(weights).items()):
        if pk in known and weight:
            number = known[pk].version.number
            name = f"v{number}" + (" stable" if pk == endpoint.stable_id else "")
            parts.append({"label": name, "weight": weight, "index": revision_index(number)})
    return parts
