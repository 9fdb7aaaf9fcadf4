"""Monitoring over HTTP: charts, drift, slices, figures and single requests of an endpoint."""

from typing import Any

from django.http import Http404
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
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.renderers import ChartView
from apps.monitoring.selectors import charts, drift, versus
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.serializers import (
    CHART_KINDS,
    ChartRequestSerializer,
    ChartSerializer,
    DriftSerializer,
    RowsSerializer,
    SliceSerializer,
    SummarySerializer,
    WindowSerializer,
)
from apps.monitoring.services import slices
from apps.serving.models import Endpoint


def endpoint_for(user: Caller, pk: int, verb: str = "view") -> Endpoint:
    known = Endpoint.objects.select_related("model", "environment")
    endpoint = get_object_or_404(known, pk=pk)
    require(user, verb, endpoint)
    return endpoint


class Chart(ChartView):
    @extend_schema(
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=CHART_KINDS),
            OpenApiParameter("format", str, enum=["json", "png"]),
            ChartRequestSerializer,
        ],
        responses={
            (200, "application/json"): ChartSerializer,
            (200, "image/png"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, pk: int, kind: str) -> Response:
        """A chart of what an endpoint did: a Plotly figure and the same as a table, or a PNG."""
        endpoint = endpoint_for(request.user, pk)
        if kind not in charts.KINDS:
            raise Http404
        given = _checked(ChartRequestSerializer, request)
        try:
            chart = charts.of(endpoint, kind, given.asked(endpoint, timezone.now()))
        except (ValueError, OverflowError) as wrong:
            raise ValidationError({"step": [str(wrong)]}) from wrong
        return self.drawn(chart, given.validated_data)


class Drift(APIView):
    @extend_schema(parameters=[RowsSerializer], responses=DriftSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """How far each column is from what it is compared with, what matters first."""
        endpoint = endpoint_for(request.user, pk)
        given = _checked(RowsSerializer, request)
        revision = given.revision_of(endpoint)
        since, until = given.span(timezone.now())
        if revision is None:
            raise versus.NothingToCompare("No revision was ever deployed here", "no_revision")
        other, part = given.other_of(endpoint, revision), given.slice_of(endpoint)
        side = versus.side(revision)
        shadow = given.validated_data["origin"] == Rollup.From.SHADOW
        notes: dict[str, str] = {}
        if other is not None:
            pair = versus.during(revision, other, since, until, slice=part, shadow=shadow)
            found, notes = versus.judged(pair, since, until, slice=part), versus.notes(pair)
        else:
            found = drift.of(
                revision, since, until, against=given.against, slice=part, shadow=shadow
            )
        answer = {
            "revision": revision.number,
            "version": revision.version.number,
            "baseline": side.baseline.number,
            "against": "revision" if other else given.against,
            "other": other and other.number,
            "since": found.since,
            "until": found.until,
            "rows": found.rows,
            "widened": found.widened,
            "columns": found.columns,
            "notes": notes,
        }
        return Response(DriftSerializer(answer).data)


class SliceList(APIView):
    @extend_schema(responses=SliceSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """The slices of an endpoint that are counted."""
        endpoint = endpoint_for(request.user, pk)
        living = endpoint.slices.filter(retired_at=None)
        return Response(SliceSerializer(living, many=True).data)

    @extend_schema(request=SliceSerializer, responses={201: SliceSerializer})
    def post(self, request: Request, pk: int) -> Response:
        """It names a part of the rows by a condition and counts it from now on."""
        endpoint = endpoint_for(request.user, pk, "slice.edit")
        given = SliceSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        assert isinstance(request.user, User)
        made = slices.create(
            endpoint=endpoint,
            name=given.validated_data["name"],
            condition=given.validated_data["condition"],
            actor=request.user,
            now=timezone.now(),
        )
        return Response(SliceSerializer(made).data, status=status.HTTP_201_CREATED)


class SliceDetail(APIView):
    @extend_schema(responses={204: None})
    def delete(self, request: Request, pk: int, slice_pk: int) -> Response:
        """It is counted no longer; what was counted stays."""
        endpoint = endpoint_for(request.user, pk, "slice.edit")
        found = get_object_or_404(Slice, pk=slice_pk, endpoint=endpoint)
        assert isinstance(request.user, User)
        slices.retire(part=found, actor=request.user, now=timezone.now())
        return Response(status=status.HTTP_204_NO_CONTENT)


class Summary(APIView):
    @extend_schema(parameters=[WindowSerializer], responses=SummarySerializer)
    def get(self, request: Request, pk: int) -> Response:
        """What each revision of an endpoint did in a span of time."""
        endpoint = endpoint_for(request.user, pk)
        given = _checked(WindowSerializer, request)
        since, until = given.span(timezone.now())
        origin = Rollup.From(given.validated_data["origin"])
        seen = selectors.totals(endpoint, since, until, origin)
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
                "p90_ms": seen[revision.pk].p90_ms,
                "p95_ms": seen[revision.pk].p95_ms,
                "p99_ms": seen[revision.pk].p99_ms,
                "p999_ms": seen[revision.pk].p999_ms,
            }
            for revision in endpoint.revisions.filter(pk__in=list(seen)).select_related("version")
        ]
        answer = {
            "since": since,
            "until": until,
            "revisions": rows,
            "dropped": selectors.dropped(endpoint, since),
            "set_aside": selectors.set_aside(endpoint, since),
            "left_out": selectors.left_out(endpoint, since),
        }
        return Response(SummarySerializer(answer).data)


def _checked(serializer: type[Any], request: Request) -> Any:
    given = serializer(data=request.query_params)
    given.is_valid(raise_exception=True)
    return given
