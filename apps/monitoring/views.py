from datetime import UTC, datetime, timedelta

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_safe

from apps.accounts.selectors import require
from apps.monitoring.charts import requests as charts
from apps.monitoring.selectors import requests as selectors
from apps.serving.models import Endpoint

WINDOW = timedelta(minutes=15)
STEP_SECONDS = 60


@login_required
@require_safe
def chart_table(request: HttpRequest, pk: int, kind: str) -> HttpResponse:
    """A chart's last figures as a table, for those who do not see it; newest first."""
    endpoint = get_object_or_404(Endpoint.objects.select_related("model"), pk=pk)
    require(request.user, "view", endpoint)
    if kind not in charts.KINDS:
        raise Http404
    until = parse_datetime(request.GET.get("until", "")) or timezone.now()
    series = selectors.series(endpoint, until - WINDOW, until, STEP_SECONDS)
    table = charts.KINDS[kind](series)["table"]
    rows = [(_moment(at), values) for at, *values in reversed(table["rows"])]
    context = {"unit": table["unit"], "columns": table["columns"][1:], "rows": rows}
    return render(request, "monitoring/_table.html", context)


def _moment(at: str) -> datetime:
    return datetime.fromisoformat(at).astimezone(UTC)
