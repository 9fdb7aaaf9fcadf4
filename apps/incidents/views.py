from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.selectors import may, person, require
from apps.core.templatetags import formats
from apps.incidents import figures
from apps.incidents.lifecycle import Severity, State
from apps.incidents.models import Incident, Watch
from apps.incidents.selectors import changes, shown
from apps.incidents.selectors import incidents as selectors
from apps.incidents.services import handling
from apps.serving.models import Endpoint

FILTERS = {
    "model": "endpoint__model__name",
    "environment": "endpoint__environment__name",
    "severity": "severity",
}
MUTES = (("1", "1 h"), ("8", "8 h"), ("24", "1 d"), ("168", "7 d"))
RESOLVED_ON_TAB = 20


@login_required
@require_safe
def incidents(request: HttpRequest) -> HttpResponse:
    require(request.user, "view")
    visible = selectors.visible_to(request.user)
    asked = {name: request.GET.get(name, "").replace("\0", "") for name in (*FILTERS, "state")}
    found = visible
    for name, field in FILTERS.items():
        if asked[name]:
            found = found.filter(**{field: asked[name]})
    if asked["state"] in set(State):
        found = found.filter(state=asked["state"])
    page = Paginator(_open_first(found), 50).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "asked": asked,
        "is_filtered": any(asked.values()),
        "states": list(State),
        "severities": list(Severity),
        "environments": visible.order_by("endpoint__environment__name")
        .values_list("endpoint__environment__name", flat=True)
        .distinct(),
    }
    live = request.headers.get("HX-Request")
    template = "incidents/_incidents.html" if live else "incidents/list.html"
    return render(request, template, context)


def _open_first(rows: QuerySet[Incident]) -> QuerySet[Incident]:
    place = Case(
        When(state=State.OPEN, then=Value(0)),
        When(state=State.ACKNOWLEDGED, then=Value(1)),
        default=Value(2),
        output_field=IntegerField(),
    )
    return rows.annotate(place=place).order_by("place", "severity", "-pk")  # "critical" first


@login_required
@require_safe
def incident(request: HttpRequest, pk: int) -> HttpResponse:
    found = _incident(request, pk, "view")
    now = timezone.now()
    alerts = list(found.alerts.select_related("watch__served__version"))
    context = {
        "incident": found,
        "endpoint": found.endpoint,
        "model": found.endpoint.model,
        "alerts": [alert for alert in alerts if alert.closed_at is None],
        "ended": [alert for alert in alerts if alert.closed_at is not None],
        "no_chart": figures.why_none(alerts),
        "changes": changes.of(found),
        "notes": found.notes.select_related("author"),
        "story": shown.story(found),
        "is_muted": found.is_muted(now),
        "may_handle": may(request.user, "incident.handle", found),
        "handlers": selectors.handlers(found),
        "mutes": MUTES,
    }
    live = request.headers.get("HX-Request")
    return render(request, "incidents/_incident.html" if live else "incidents/page.html", context)


@login_required
@require_safe
def chart_table(request: HttpRequest, pk: int) -> HttpResponse:
    """The incident's chart as a table, for those who do not see it; newest first."""
    found = _incident(request, pk, "view")
    alerts = list(found.alerts.select_related("watch__served__version"))
    chart = figures.of(found, alerts, timezone.now()) or figures.empty(alerts)
    table = chart["table"]
    first, *rest = table["columns"] or [""]
    is_timed = first == "at"
    rows = [
        (datetime.fromisoformat(name) if is_timed else name, [_cell(cell, table) for cell in cells])
        for name, *cells in table["rows"]
    ]
    context = {
        "chart": chart,
        "first": "Time (UTC)" if is_timed else first.capitalize(),
        "columns": rest,
        "is_timed": is_timed,
        "rows": rows[::-1] if is_timed else rows,
    }
    return render(request, "incidents/_chart_table.html", context)


def _cell(value: Any, table: dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    is_share = "share" in table["unit"]
    return formats.format_percent(value) if is_share else formats.format_num(value)


@login_required
@require_safe
def endpoint(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """The incidents of an endpoint, and what its monitors can and cannot see."""
    found = _endpoint(request, environment, name, "view")
    rows = selectors.with_relations(found.incidents.all())
    now = timezone.now()
    context = {
        "endpoint": found,
        "model": found.model,
        "open": rows.filter(state__in=selectors.UNRESOLVED),
        "resolved": rows.filter(state=State.RESOLVED)[:RESOLVED_ON_TAB],
        "monitors": shown.monitors(found, now),
        "broken": shown.broken_round(found),
        "may_handle": may(request.user, "incident.handle", found),
        "mutes": MUTES,
    }
    live = request.headers.get("HX-Request")
    template = "incidents/_endpoint.html" if live else "incidents/endpoint.html"
    return render(request, template, context)


@login_required
@require_POST
def acknowledge(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    handling.acknowledge(incident=held, actor=person(request.user), now=timezone.now())
    messages.success(request, "You are on it: everybody sees that")
    return redirect(held)


@login_required
@require_POST
def assign(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    name = request.POST.get("username", "").replace("\0", "")
    to = get_object_or_404(selectors.handlers(held), username=name) if name else None
    handling.assign(incident=held, to=to, actor=person(request.user), now=timezone.now())
    messages.success(request, f"Assigned to {to}" if to else "Assigned to nobody")
    return redirect(held)


@login_required
@require_POST
def mute(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    now = timezone.now()
    until = _until(request, now)
    handling.mute(incident=held, until=until, actor=person(request.user), now=now)
    messages.success(request, "No mails about it until then" if until else "Mails come again")
    return redirect(held)


@login_required
@require_POST
def resolve(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    reason = request.POST.get("reason", "")[:2000]
    handling.resolve(incident=held, actor=person(request.user), reason=reason, now=timezone.now())
    messages.success(request, "Resolved; what still is wrong fires again once it was right")
    return redirect(held)


@login_required
@require_POST
def reopen(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    handling.reopen(incident=held, actor=person(request.user), now=timezone.now())
    messages.success(request, "Taken up again")
    return redirect(held)


@login_required
@require_POST
def note(request: HttpRequest, pk: int) -> HttpResponse:
    held = _incident(request, pk, "incident.handle")
    text = request.POST.get("text", "").replace("\0", "")[:10_000]
    handling.note(incident=held, text=text, actor=person(request.user), now=timezone.now())
    return redirect(held)


@login_required
@require_POST
def mute_monitor(request: HttpRequest, environment: str, name: str, monitor: str) -> HttpResponse:
    found = _endpoint(request, environment, name, "incident.handle")
    watch = Watch.objects.filter(endpoint=found, rule=monitor).select_related("endpoint").first()
    if watch is None:
        raise Http404
    now = timezone.now()
    until = _until(request, now)
    handling.mute_watch(watch=watch, until=until, actor=person(request.user), now=now)
    words = "fires nothing until then" if until else "fires again"
    messages.success(request, f"The monitor {monitor} {words}")
    return redirect("endpoint-incidents", environment, name)


def _incident(request: HttpRequest, pk: int, verb: str) -> Incident:
    found = get_object_or_404(selectors.with_relations(Incident.objects.all()), pk=pk)
    require(request.user, verb, found)
    return found


def _endpoint(request: HttpRequest, environment: str, name: str, verb: str) -> Endpoint:
    rows = Endpoint.objects.select_related("model", "environment")
    found = get_object_or_404(rows, environment__name=environment, name=name)
    require(request.user, verb, found)
    return found


def _until(request: HttpRequest, now: datetime) -> datetime | None:
    """The moment that a choice of hours names; None: the mute ends."""
    hours = request.POST.get("hours", "")
    return now + timedelta(hours=int(hours)) if hours in dict(MUTES) else None
