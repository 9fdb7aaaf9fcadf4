"""Labels over HTTP, and what they say of predictions."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import Caller, require
from apps.core.api import checked
from apps.monitoring.renderers import ChartView
from apps.quality import charts, columns, selectors
from apps.quality.asked import WINDOWS, chosen, first_metric, step_for, trend
from apps.quality.items import MOST_ITEMS
from apps.quality.metrics import Figure
from apps.quality.selectors import Measured
from apps.quality.serializers import (
    BATCH,
    AskedSerializer,
    ByColumnSerializer,
    ChartRequestSerializer,
    ChartSerializer,
    QualitySerializer,
    ReceiptSerializer,
    SeriesRequestSerializer,
    WindowSerializer,
)
from apps.quality.services import feedback
from apps.serving.models import Endpoint

USUAL_WINDOW = "7d"
LONGEST = timedelta(days=400)
FORMAT = OpenApiParameter("format", str, enum=["json", "png"])
CHART = {
    (200, "application/json"): ChartSerializer,
    (200, "image/png"): OpenApiTypes.BINARY,
}


def endpoint_for(user: Caller, pk: int) -> Endpoint:
    endpoint = get_object_or_404(Endpoint.objects.select_related("model", "environment"), pk=pk)
    require(user, "view", endpoint)
    return endpoint


class Feedback(APIView):
    @extend_schema(request={"application/json": BATCH}, responses={202: ReceiptSerializer})
    def post(self, request: Request) -> Response:
        """Labels of predictions, by request id: a list, or {"items": [...]}; at most 10,000.

        They may come before their predictions, in any order, and twice: a later observation takes
        the place of an earlier one.
        """
        require(request.user, "feedback.send")
        assert isinstance(request.user, User)
        receipt = feedback.send(sender=request.user, batch=_batch(request.data), now=timezone.now())
        return Response(ReceiptSerializer(asdict(receipt)).data, status=status.HTTP_202_ACCEPTED)


class Quality(APIView):
    @extend_schema(parameters=[AskedSerializer], responses=QualitySerializer)
    def get(self, request: Request, pk: int) -> Response:
        """How good predictions of a span of time were, by the labels that have come."""
        endpoint = endpoint_for(request.user, pk)
        asked = checked(AskedSerializer, request.query_params)
        since, until = window(asked)
        revision, part = chosen(endpoint, asked)
        seen = selectors.measured(
            endpoint, since, until, revision=revision, slice=part, shadow=asked["shadow"]
        )
        serves = revision or endpoint.stable
        confusion = selectors.confusion_of(seen)
        counting = selectors.looking_back(endpoint, since) if part else {}
        reference = selectors.reference_of(serves)
        estimated = Measured("", 0, 0)
        if serves:
            estimated = selectors.estimated(
                serves, since, until, slice=part, shadow=asked["shadow"]
            )
        answer = measured_shape(seen, reference.values) | {
            "since": since,
            "until": until,
            "extreme": seen.extreme,
            "left_out": seen.left_out,
            "is_inferred": seen.is_inferred,
            "is_counting": part is not None and part.pk in counting,
            "counted_back_to": counting.get(part.pk) if part else None,
            "median_delay_seconds": selectors.lateness(endpoint, since, until).median_seconds,
            "reference_note": reference.note,
            "estimated": measured_shape(estimated, reference.values),
            "calibration": [asdict(one) for one in selectors.calibration_of(seen)],
            "confusion": charts.confusion(*confusion) if confusion else None,
            "uncounted": selectors.uncounted(endpoint),
        }
        return Response(QualitySerializer(answer).data)


class QualitySeries(ChartView):
    @extend_schema(parameters=[FORMAT, SeriesRequestSerializer], responses=CHART)
    def get(self, request: Request, pk: int) -> Response:
        """One metric over time, a line a revision, with what scores let expect dashed; or a PNG."""
        endpoint = endpoint_for(request.user, pk)
        asked = checked(SeriesRequestSerializer, request.query_params)
        since, until = window(asked)
        revision, part = chosen(endpoint, asked)
        step = asked.get("step") or step_for(until - since)
        metric = asked.get("metric") or first_metric(endpoint, revision)
        try:
            chart = trend(endpoint, since, until, step, metric, revision, part, asked["shadow"])
        except ValueError as wrong:
            raise ValidationError({"step": [str(wrong)]}) from wrong
        return self.drawn(chart, asked)


class QualityCalibration(ChartView):
    @extend_schema(parameters=[FORMAT, ChartRequestSerializer], responses=CHART)
    def get(self, request: Request, pk: int) -> Response:
        """How often the positive class came, by the score that foretold it; or a PNG of it."""
        endpoint = endpoint_for(request.user, pk)
        asked = checked(ChartRequestSerializer, request.query_params)
        since, until = window(asked)
        revision, part = chosen(endpoint, asked)
        seen = selectors.measured(
            endpoint, since, until, revision=revision, slice=part, shadow=asked["shadow"], only=[]
        )
        return self.drawn(charts.calibration(selectors.calibration_of(seen)), asked)


class QualityBy(APIView):
    @extend_schema(
        parameters=[OpenApiParameter("column", str, OpenApiParameter.PATH), WindowSerializer],
        responses=ByColumnSerializer,
    )
    def get(self, request: Request, pk: int, column: str) -> Response:
        """Quality apart for each value or bin of a column ("in.distance") of one revision."""
        endpoint = endpoint_for(request.user, pk)
        asked = checked(WindowSerializer, request.query_params)
        since, until = window(asked)
        revision, _ = chosen(endpoint, asked)
        found = columns.by_column(
            endpoint, column.replace("\0", ""), since, until, revision=revision
        )
        reference = selectors.reference_of(found.revision).values
        answer = {
            "column": found.column,
            "revision": found.revision.number,
            "labels": found.labels,
            "extreme": found.extreme,
            "is_cut": found.is_cut,
            "groups": [
                {
                    "value": group.label,
                    "labels": group.labels,
                    "metrics": figures_shape(group.metrics, reference),
                }
                for group in found.groups
            ],
        }
        return Response(ByColumnSerializer(answer).data)


def figures_shape(figures: dict[str, Figure], reference: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {"name": name, **asdict(figure), "reference": reference.get(name)}
        for name, figure in figures.items()
    ]


def measured_shape(seen: Measured, reference: dict[str, float]) -> dict[str, Any]:
    return {
        "task": seen.task,
        "labels": seen.labels,
        "predictions": seen.predictions,
        "reason": seen.reason,
        "is_estimate": seen.is_estimate,
        "note": seen.note,
        "metrics": figures_shape(seen.metrics, reference),
    }


def window(asked: dict[str, Any]) -> tuple[datetime, datetime]:
    until = asked.get("until") or timezone.now()
    since = asked.get("since")
    if since is None:
        length = WINDOWS[asked.get("window", USUAL_WINDOW)]
        since = until - length if until.year > 1970 else until
    if not since < until:
        raise ValidationError({"since": ["The beginning must lie before the end"]})
    if until - since > LONGEST:
        raise ValidationError({"since": [f"At most {LONGEST.days} days at once"]})
    if since.year < 1971 or until.year > 2200:
        raise ValidationError({"since": ["Nothing was predicted then"]})
    return since, until


def _batch(data: Any) -> list[Any]:
    given = data.get("items") if isinstance(data, dict) else data
    if not isinstance(given, list) or not given:
        raise ValidationError({"items": ["A batch is a list of {request_id, label}"]})
    if len(given) > MOST_ITEMS:
        raise ValidationError({"items": [f"A batch has at most {MOST_ITEMS} items"]})
    return given
