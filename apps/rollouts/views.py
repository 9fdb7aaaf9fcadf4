from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.models import User
from apps.accounts.selectors import may, require
from apps.core.errors import Refused
from apps.core.templatetags.formats import format_duration, revision_index
from apps.monitoring.selectors import requests as monitoring
from apps.rollouts import forms, selectors, shadows, tiles
from apps.rollouts.decide import percent, share
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services import rollbacks, steering
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionWish
from apps.serving.models import Endpoint, Revision

RECENT = timedelta(minutes=5)
CHART = timedelta(minutes=60)
CHARTS = (("traffic", "Requests by version"), ("errors", "Errors by version"),
          ("latency", "Latency by version"))  # fmt: skip


@login_required
@require_safe
def rollouts(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    phase = request.GET.get("phase", "")
    found = selectors.visible_to(request.user)
    if phase in set(Phase):
        found = found.filter(phase=phase)
    page = Paginator(found, 50).get_page(request.GET.get("page"))
    for rollout in page.object_list:
        rollout.parts = _parts(rollout, rollout.weight)  # type: ignore[attr-defined]
    context = {"page": page, "phase": phase, "phases": list(Phase)}
    live = request.headers.get("HX-Request")
    return render(request, "rollouts/_rollouts.html" if live else "rollouts/list.html", context)


@login_required
@require_safe
def rollout(request: HttpRequest, pk: int) -> HttpResponse:
    found = _rollout(request, pk, "view")
    story = list(found.observations.all())
    for line in story:
        line.share = share(line.weight, line.shadow)  # type: ignore[attr-defined]  # for the template
    now, seen = timezone.now(), _seen(found)
    until = found.finished_at or now
    since = max(found.created_at, until - RECENT)
    context = {
        "rollout": found,
        "model": found.endpoint.model,
        "parts": _parts(found, found.weight),
        "seen": seen,
        "seen_share": None if seen is None else seen / WEIGHT_TOTAL,
        "copied": percent(found.shadow) if found.shadow else "",
        "copied_seen": _copied_seen(found),
        "charts": CHARTS,
        **_windows(found, until),
        "steps": _steps(found, story),
        "tiles": tiles.shown(found.evidence),
        "figures": _figures([r for r in (found.stable, found.candidate) if r], since, until),
        "since": since,
        "story": story[::-1],
        "is_final": Phase(found.phase).is_final,
        "looks_at": found.wake_at if found.wake_at and found.wake_at > now else None,
        "is_reverting": found.phase == Phase.REVERTING or found.abort_wanted,
        "may_steer": may(request.user, "rollout.steer", found),
    }
    live = request.headers.get("HX-Request")
    return render(request, "rollouts/_rollout.html" if live else "rollouts/page.html", context)


@login_required
@require_POST
def pause(request: HttpRequest, pk: int) -> HttpResponse:
    held = _rollout(request, pk, "rollout.steer")
    assert isinstance(request.user, User)
    steering.pause(rollout=held, actor=request.user, now=timezone.now())
    messages.success(request, "The rollout holds where it stands")
    return redirect(held)


@login_required
@require_POST
def resume(request: HttpRequest, pk: int) -> HttpResponse:
    held = _rollout(request, pk, "rollout.steer")
    assert isinstance(request.user, User)
    steering.resume(rollout=held, actor=request.user, now=timezone.now())
    messages.success(request, "The rollout goes on")
    return redirect(held)


@login_required
@require_POST
def abort(request: HttpRequest, pk: int) -> HttpResponse:
    held = _rollout(request, pk, "rollout.steer")
    assert isinstance(request.user, User)
    reason = request.POST.get("reason", "").strip()[:2000]
    steering.abort(rollout=held, actor=request.user, reason=reason, now=timezone.now())
    messages.success(request, "All traffic goes back to the stable version")
    return redirect(held)


@login_required
@require_safe
def health(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """What callers of an endpoint get now, revision by revision: a part of several pages."""
    endpoint = _endpoint(request, environment, name, "view")
    running = endpoint.revisions.filter(wanted=RevisionWish.RUN).order_by("number")
    now = timezone.now()
    shown = list(running.select_related("version__model")[:8])
    context = {"figures": _figures(shown, now - RECENT, now), "endpoint": endpoint}
    return render(request, "rollouts/_health.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rollback(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """The way back from what serves: a part of the endpoint's page, and the verb itself."""
    verb = "rollout.steer" if request.method == "POST" else "view"
    endpoint = _endpoint(request, environment, name, verb)
    if request.method != "POST":
        return render(request, "rollouts/_rollback.html", _way_back(request, endpoint))
    assert isinstance(request.user, User)
    done = rollbacks.roll_back(
        endpoint=endpoint,
        to=_asked_for(request, endpoint),
        actor=request.user,
        reason=request.POST.get("reason", "")[:2000],
        now=timezone.now(),
    )
    messages.success(request, f"v{done.to.version.number} takes all traffic again")
    return redirect(endpoint)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def shadow(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """Copies of requests: a part of the endpoint's page, the page of its form, and the verb."""
    endpoint = _endpoint(request, environment, name, "view")
    found = shadows.candidates(endpoint)
    if request.method != "POST":
        context = _copies(request, endpoint, forms.ShadowForm(found))
        live = request.headers.get("HX-Request")
        return render(request, "rollouts/_shadow.html" if live else "rollouts/shadow.html", context)
    require(request.user, "endpoint.configure", endpoint)
    form = forms.ShadowForm(found, request.POST)
    if form.is_valid() and _start_shadow(request, endpoint, form):
        return redirect(endpoint)
    context = _copies(request, endpoint, form)
    return render(request, "rollouts/shadow.html", context, status=400)


def _start_shadow(request: HttpRequest, endpoint: Endpoint, form: forms.ShadowForm) -> bool:
    assert isinstance(request.user, User)
    asked = form.cleaned_data
    revision = get_object_or_404(
        endpoint.revisions.select_related("version"), number=asked["revision"]
    )
    try:
        shadows.start(
            endpoint=endpoint,
            revision=revision,
            share=asked["share"],
            actor=request.user,
            reason=asked["reason"],
            now=timezone.now(),
        )
    except Refused as refused:
        form.add_error(None, refused.message)
        return False
    copied = percent(asked["share"])
    messages.success(request, f"{copied} of requests are copied to v{revision.version.number}")
    return True


@login_required
@require_POST
def stop_shadow(request: HttpRequest, environment: str, name: str, number: int) -> HttpResponse:
    endpoint = _endpoint(request, environment, name, "endpoint.configure")
    revision = get_object_or_404(endpoint.revisions.select_related("version"), number=number)
    assert isinstance(request.user, User)
    shadows.stop(
        endpoint=endpoint,
        revision=revision,
        actor=request.user,
        reason="Stopped on the endpoint's page",
        now=timezone.now(),
    )
    messages.success(request, f"v{revision.version.number} gets no copies any more")
    return redirect(endpoint)


def _copies(request: HttpRequest, endpoint: Endpoint, form: forms.ShadowForm) -> dict[str, object]:
    now, seen = timezone.now(), endpoint.shadow_seen
    running = shadows.running(endpoint)
    return {
        "endpoint": endpoint,
        "model": endpoint.model,
        "form": form,
        "running": [
            {
                "revision": revision,
                "share": percent(share),
                "waits": seen is None or seen.get(str(revision.pk)) != share,
                "log": urlencode({"shadow": "yes", "revision": revision.number}),
            }
            for revision, share in running
        ],
        "figures": _copied_figures([r for r, _ in running], endpoint.stable, now),
        "moving": Rollout.objects.moving().filter(endpoint=endpoint).first(),
        "may_configure": may(request.user, "endpoint.configure", endpoint),
    }


def _copied_figures(
    copied: list[Revision], stable: Revision | None, now: datetime
) -> list[dict[str, Any]]:
    """What the model servers saw: nobody waits for a copy, so the gateway has no figure of it."""
    shown: list[dict[str, Any]] = []
    own = None
    for revision in copied:
        sums, own = monitoring.compare_shadow(
            candidate=revision, stable=stable, since=now - RECENT, now=now
        )
        shown.append({"revision": revision, "sums": sums})
    if own is not None:
        shown.insert(0, {"revision": stable, "sums": own})
    return [row | {"rate": row["sums"].requests / RECENT.total_seconds()} for row in shown]


def _endpoint(request: HttpRequest, environment: str, name: str, verb: str) -> Endpoint:
    rows = Endpoint.objects.select_related("model", "environment", "stable__version__model")
    found = get_object_or_404(rows, environment__name=environment, name=name)
    require(request.user, verb, found)
    return found


def _asked_for(request: HttpRequest, endpoint: Endpoint) -> Revision | None:
    """The revision of the version that the page named, so that a click means what it said."""
    version = request.POST.get("version", "")
    if not (version.isascii() and version.isdigit()):
        return None
    return rollbacks.revision_to(endpoint=endpoint, version=int(version[:9]))


def _way_back(request: HttpRequest, endpoint: Endpoint) -> dict[str, object]:
    ways = selectors.ways_back(endpoint)
    return {
        "endpoint": endpoint,
        "ways": [way for way in ways if selectors.is_ready(way)],
        "unready": [way for way in ways if not selectors.is_ready(way)],
        "replaced": selectors.replaced_by(endpoint.stable) if endpoint.stable else None,
        "moving": Rollout.objects.moving().filter(endpoint=endpoint).first(),
        "last": selectors.rollback_in_force(endpoint),
        "may_steer": may(request.user, "rollout.steer", endpoint),
    }


def _rollout(request: HttpRequest, pk: int, verb: str) -> Rollout:
    found = get_object_or_404(selectors.with_relations(Rollout.objects.all()), pk=pk)
    require(request.user, verb, found)
    return found


def _parts(rollout: Rollout, weight: int) -> list[dict[str, object]]:
    number = rollout.candidate.version.number
    parts: list[dict[str, object]] = []
    if rollout.stable is not None:
        stable = rollout.stable.version.number
        name, index = f"v{stable} stable", revision_index(stable)
        parts.append({"label": name, "weight": WEIGHT_TOTAL - weight, "index": index})
    index = revision_index(number)
    return [*parts, {"label": f"v{number} candidate", "weight": weight, "index": index}]


def _seen(rollout: Rollout) -> int | None:
    """Thousandths that the gateway last reported for the candidate; None: it did not answer."""
    reported = rollout.endpoint.traffic_seen
    return None if reported is None else int(reported.get(str(rollout.candidate_id), 0))


def _copied_seen(rollout: Rollout) -> str:
    """What the gateway last reported to be copied, in words; "" when it did not answer."""
    reported = rollout.endpoint.shadow_seen
    return "" if reported is None else percent(int(reported.get(str(rollout.candidate_id), 0)))


def _steps(rollout: Rollout, story: list[Any]) -> list[dict[str, object]]:
    """The plan as a timeline, each step with when its share was first asked for."""
    phase = Phase(rollout.phase)
    shown: list[dict[str, object]] = []
    began: dict[int, datetime] = {}
    for line in story:
        if line.phase in (Phase.PROGRESSING, Phase.PAUSED):
            began.setdefault(line.step, line.at)
    for place, step in enumerate(rollout.steps):
        if phase is Phase.SUCCEEDED or (place < rollout.step and phase is not Phase.PREPARING):
            state = "done"
        elif place == rollout.step and not phase.is_final and phase is not Phase.PREPARING:
            state = "reverting" if phase is Phase.REVERTING else "current"
            state = "paused" if phase is Phase.PAUSED else state
        else:
            state = "reverted" if place == rollout.step and phase.is_final else "ahead"
        held = f"holds {format_duration(step.hold)}" if step.hold else "goes on at once"
        note = f"{held}, {'needs a passed analysis' if step.analysis else 'without analysis'}"
        label = f"{percent(step.weight)} of traffic"
        if step.shadow:
            label = f"{percent(step.shadow)} of requests copied"
        elif not step.weight:
            label = "Runs without traffic"
        shown.append({"label": label, "state": state, "note": note, "at": began.get(place)})
    return shown


def _windows(rollout: Rollout, until: datetime) -> dict[str, str]:
    """What of the time axis the charts show: from shortly before it began; an ended one stays."""
    since = max(rollout.created_at - RECENT, until - CHART)
    if not Phase(rollout.phase).is_final:
        window = urlencode({"since": since.isoformat()})
    else:
        ends = until + RECENT
        window = urlencode({"since": since.isoformat(), "until": ends.isoformat()})
    return {"chart_window": f"&{window}", "table_window": f"?{window}"}


def _figures(revisions: list[Revision], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """What each revision did, from the gateway's rollups; nothing for what took no request."""
    shown = []
    for revision in revisions:
        sums, _ = monitoring.compare(candidate=revision, stable=None, since=since, now=until)
        rate = sums.requests / max(1.0, (until - since).total_seconds())
        shown.append({"revision": revision, "sums": sums, "rate": rate})
    return shown
