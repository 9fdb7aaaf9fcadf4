from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.selectors import Caller, require
from apps.monitoring.charts import requests as charts
from apps.monitoring.models import Rollup
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.serializers import (
    CHART_KINDS,
    ChartRequestSerializer,
    ChartSerializer,
    LogRequestSerializer,
    LogSerializer,
    SummarySerializer,
    WindowSerializer,
)
from apps.serving.models import Endpoint

STEPS = (10, 30, 60, 300, 900, 3600, 10_800, 86_400)
POINTS = 180
LONGEST = timedelta(days=31)
LATE_SECONDS = 5  # what took longer than this from answer to rollup is seen at the next look


def endpoint_for(user: Caller, pk: int) -> Endpoint:
    endpoint = get_object_or_404(Endpoint.objects.select_related("model"), pk=pk)
    require(user, "view", endpoint)
    return endpoint


class Chart(APIView):
    @extend_schema(
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=CHART_KINDS),
            ChartRequestSerializer,
        ],
        responses=ChartSerializer,
    )
    def get(self, request: Request, pk: int, kind: str) -> Response:
        """A chart of what an endpoint did, by revision: a Plotly figure and the same as a table."""
        endpoint = endpoint_for(request.user, pk)
        if kind not in charts.KINDS:
            raise Http404
        asked = _checked(ChartRequestSerializer, request)
        since, until = _window(asked)
        step = asked.get("step") or _step(until - since)
        if "until" not in asked:
            # The running bucket would look like a fall.
            until = datetime.fromtimestamp(int(until.timestamp()) // step * step, UTC)
        try:
            series = selectors.series(endpoint, since, until, step, Rollup.From(asked["origin"]))
        except ValueError as wrong:
            raise ValidationError({"step": [str(wrong)]}) from wrong
        chart = charts.KINDS[kind](series)
        return Response(chart["figure"] if asked.get("only") else chart)


class Summary(APIView):
    @extend_schema(parameters=[WindowSerializer], responses=SummarySerializer)
    def get(self, request: Request, pk: int) -> Response:
        """What each revision of an endpoint did in a span of time."""
        endpoint = endpoint_for(request.user, pk)
        asked = _checked(WindowSerializer, request)
        since, until = _window(asked)
        seen = selectors.totals(endpoint, since, until, Rollup.From(asked["origin"]))
        seconds = (until - since).total_seconds()
        rows = [
            {
                "revision": revision.pk,
                "number": revision.number,
                "version": revision.version.number,
                "requests": seen[revision.pk].requests,
                "rate": seen[revision.pk].requests / seconds,
                "client_errors": seen[revision.pk].client_errors,
                "server_errors": seen[revision.pk].server_errors,
                "error_rate": seen[revision.pk].error_rate,
                "p50_ms": seen[revision.pk].p50_ms,
                "p95_ms": seen[revision.pk].p95_ms,
                "p99_ms": seen[revision.pk].p99_ms,
            }
            for revision in endpoint.revisions.filter(pk__in=list(seen)).select_related("version")
        ]
        answer = {
            "since": since,
            "until": until,
            "revisions": rows,
            "dropped": selectors.dropped(endpoint, since),
            "set_aside": selectors.set_aside(endpoint, since),
        }
        return Response(SummarySerializer(answer).data)


class Log(APIView):
    @extend_schema(parameters=[LogRequestSerializer], responses=LogSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One request as it came and was answered; with its shadows, which have the same id."""
        endpoint = endpoint_for(request.user, pk)
        asked = _checked(LogRequestSerializer, request)
        since = timezone.now() - timedelta(days=asked["days"])
        found = selectors.find_request(endpoint, asked["request_id"], since)
        return Response(LogSerializer({"results": found}).data)


def _checked(serializer: type[Any], request: Request) -> dict[str, Any]:
    given = serializer(data=request.query_params)
    given.is_valid(raise_exception=True)
    checked: dict[str, Any] = given.validated_data
    return checked


def _window(asked: dict[str, Any]) -> tuple[datetime, datetime]:
    until = asked.get("until") or timezone.now() - timedelta(seconds=LATE_SECONDS)
    since = asked.get("since") or until - timedelta(hours=1)
    if not since < until:
        raise ValidationError({"since": ["The beginning must lie before the end"]})
    if until - since > LONGEST:
        raise ValidationError({"since": [f"At most {LONGEST.days} days at once"]})
    return since, until


def _step(window: timedelta) -> int:
    wanted = window.total_seconds() / POINTS
    return next((step for step in STEPS if step >= wanted), STEPS[-1])
