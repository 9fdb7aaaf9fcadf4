"""Parts of pages about an endpoint, each fetched by itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from rest_framework.exceptions import ValidationError

from apps.accounts.selectors import require
from apps.core.templatetags import formats
from apps.monitoring import headline, spans
from apps.monitoring.headline import Headline
from apps.monitoring.selectors import charts, columns
from apps.monitoring.selectors import drift as selectors
from apps.monitoring.serializers import ChartRequestSerializer
from apps.monitoring.views.page import endpoint_of
from apps.serving.models import Endpoint

DAY = timedelta(days=1)
LINE_STEP_SECONDS = 3600


@login_required
@require_safe
def chart_table(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """A chart's figures as a table, for those who do not see it; newest first."""
    endpoint = get_object_or_404(Endpoint.objects.select_related("model", "environment"), pk=pk)
    require(request.user, "view", endpoint)
    if kind not in charts.KINDS:
        raise Http404
    given = ChartRequestSerializer(data=request.GET)
    if not given.is_valid():
        raise Http404
    try:
        asked = given.asked(endpoint, timezone.now())  # as the chart beside it
        chart = charts.of(endpoint, kind, asked)
    except (ValidationError, ValueError, OverflowError) as wrong:
        raise Http404 from wrong
    table = chart["table"]
    is_timed = table["columns"][0] == "at"
    is_share = "share" in table["unit"]
    rows = [
        (_moment(first) if is_timed else first, [_cell(value, is_share) for value in rest])
        for first, *rest in table["rows"]
    ]
    context = {
        "words": f"{asked.since:%Y-%m-%d %H:%M} to {asked.until:%Y-%m-%d %H:%M} UTC",
        "note": chart["note"],
        "unit": table["unit"],
        "first": "Time (UTC)" if is_timed else table["columns"][0].capitalize(),
        "columns": table["columns"][1:],
        "is_timed": is_timed,
        "rows": rows[::-1] if is_timed else rows,
    }
    return render(request, "monitoring/_table.html", context)


@login_required
@require_safe
def drift(request: HttpRequest, environment: str, name: str) -> HttpResponse:
    """What the last day says of drift, in a line: a part of the model's page."""
    endpoint = endpoint_of(request, environment, name, "view")
    found = _last_day(endpoint, timezone.now())
    return render(request, "monitoring/_drift.html", {"endpoint": endpoint, **found})


def _last_day(endpoint: Endpoint, now: datetime) -> dict[str, Any]:
    revision = endpoint.stable
    if revision is None:
        return {}
    revision.endpoint = endpoint
    until = spans.before(now - timedelta(seconds=spans.LATE_SECONDS), 60)
    since = until - DAY
    seen = selectors.of(revision, since, until, widest=DAY, now=now)
    if seen.baseline is None:
        words = f"v{revision.version.number} has nothing to compare its rows with"
        return {"line": Headline("no_baseline", words)}
    found = columns.stretched(columns.Wanted(revision, since, until, LINE_STEP_SECONDS))
    points = [since + timedelta(seconds=LINE_STEP_SECONDS * place) for place in range(24)]
    return {
        "line": headline.of_columns(seen.columns, seen.rows, formats.format_duration(DAY)),
        "values": columns.largest(found, points),
        "index": formats.revision_index(revision.version.number),
    }


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at).astimezone(UTC)


def _cell(value: Any, is_share: bool) -> str:
    if isinstance(value, str):
        return value
    return formats.format_percent(value) if is_share else formats.format_num(value)
