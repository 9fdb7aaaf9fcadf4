"""Incidents and monitors over HTTP: translate, one call, translate back."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import person, require
from apps.core.api import checked
from apps.core.errors import Refused
from apps.incidents import figures
from apps.incidents.lifecycle import Severity, State
from apps.incidents.models import Incident, Watch
from apps.incidents.selectors import changes, shown
from apps.incidents.selectors import incidents as selectors
from apps.incidents.serializers import (
    AssignSerializer,
    IncidentChartRequestSerializer,
    IncidentChartSerializer,
    IncidentDetailSerializer,
    IncidentSerializer,
    MonitorMuteSerializer,
    MonitorSerializer,
    MuteSerializer,
    NoteSerializer,
    ReasonSerializer,
    RevisionSerializer,
    WriteNoteSerializer,
)
from apps.incidents.services import handling
from apps.monitoring import pictures
from apps.serving import selectors as serving
from apps.serving.models import Endpoint

T = TypeVar("T")
FILTERS = [
    OpenApiParameter("model", str, description="name of the model"),
    OpenApiParameter("environment", str, description="name of the environment"),
    OpenApiParameter("state", str, enum=[*(s.value for s in State), "unresolved"]),
    OpenApiParameter("severity", str, enum=[s.value for s in Severity]),
    OpenApiParameter("assignee", str, description="username of whom it is assigned to"),
]
FIELDS = {
    "model": "endpoint__model__name",
    "environment": "endpoint__environment__name",
    "severity": "severity",
    "assignee": "assignee__username",
}


class IncidentList(generics.ListAPIView[Incident]):
    serializer_class = IncidentSerializer
    queryset = Incident.objects.none()  # for the schema; what is answered comes from get_queryset

    def get_queryset(self) -> QuerySet[Incident]:
        require(self.request.user, "view")
        asked = self.request.query_params
        rows = selectors.visible_to(self.request.user)
        for parameter, field in FIELDS.items():
            if asked.get(parameter):
                rows = rows.filter(**{field: asked[parameter].replace("\0", "")})
        state = asked.get("state", "").replace("\0", "")
        if state == "unresolved":
            return rows.filter(state__in=selectors.UNRESOLVED)
        return rows.filter(state=state) if state else rows

    @extend_schema(parameters=FILTERS, responses=IncidentSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class IncidentDetail(APIView):
    @extend_schema(responses=IncidentDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        return _answer(_incident(request, pk, "view"))


class PictureRenderer(BaseRenderer):
    """Draws the chart as PNG."""

    media_type = "image/png"
    format = "png"
    charset = None
    render_style = "binary"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        size = (renderer_context or {})["response"].size
        return pictures.png(data.get("figure", data), *size)


class NoPicture(Refused):
    code = "no_picture"


class IncidentChart(APIView):
    renderer_classes = (JSONRenderer, PictureRenderer)

    @extend_schema(
        parameters=[
            OpenApiParameter("format", str, enum=["json", "png"]),
            IncidentChartRequestSerializer,
        ],
        responses={
            (200, "application/json"): IncidentChartSerializer,
            (200, "image/png"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, pk: int) -> Response:
        """What its first alert saw: a Plotly figure and the same as a table, or a PNG."""
        incident = _incident(request, pk, "view")
        asked = checked(IncidentChartRequestSerializer, request.query_params)
        alerts = list(incident.alerts.select_related("watch__served__version"))
        chart = figures.of(incident, alerts, timezone.now())
        if chart is None and isinstance(request.accepted_renderer, PictureRenderer):
            raise NoPicture(figures.empty(alerts)["note"])
        chart = chart or figures.empty(alerts)
        answer = Response(chart["figure"] if asked.get("only") else chart)
        # For the renderer that draws a picture: it is given the answer, and no other way to ask.
        answer.size = (asked["width"], asked["height"])  # type: ignore[attr-defined]
        return answer

    def handle_exception(self, error: Exception) -> Response:
        # What went wrong is said in words, whatever was asked for.
        self.request.accepted_renderer = JSONRenderer()
        self.request.accepted_media_type = JSONRenderer.media_type
        return super().handle_exception(error)


class IncidentAcknowledge(APIView):
    @extend_schema(request=RevisionSerializer, responses=IncidentDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answer(_handled(request, pk, RevisionSerializer, handling.acknowledge))


class IncidentAssign(APIView):
    @extend_schema(request=AssignSerializer, responses=IncidentDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answer(_handled(request, pk, AssignSerializer, _assign))


class IncidentMute(APIView):
    @extend_schema(request=MuteSerializer, responses=IncidentDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answer(_handled(request, pk, MuteSerializer, handling.mute))


class IncidentResolve(APIView):
    @extend_schema(request=ReasonSerializer, responses=IncidentDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answer(_handled(request, pk, ReasonSerializer, handling.resolve))


class IncidentReopen(APIView):
    @extend_schema(request=ReasonSerializer, responses=IncidentDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answer(_handled(request, pk, ReasonSerializer, handling.reopen))


class IncidentNotes(APIView):
    @extend_schema(request=WriteNoteSerializer, responses={201: NoteSerializer})
    def post(self, request: Request, pk: int) -> Response:
        note = _handled(request, pk, WriteNoteSerializer, handling.note)
        return Response(NoteSerializer(note).data, status=status.HTTP_201_CREATED)


class EndpointMonitors(APIView):
    @extend_schema(operation_id="endpoints_monitors", responses=MonitorSerializer(many=True))
    def get(self, request: Request, pk: int) -> Response:
        """Each monitor with its last reading and the smallest change that it could have seen."""
        endpoint = _endpoint(request, pk, "view")
        found = shown.monitors(endpoint, timezone.now())
        return Response(MonitorSerializer(found, many=True).data)


class EndpointMonitorMute(APIView):
    @extend_schema(
        operation_id="endpoints_monitor_mute",
        request=MonitorMuteSerializer,
        responses=MonitorSerializer(many=True),
    )
    def post(self, request: Request, pk: int, monitor: str) -> Response:
        """One monitor of an endpoint fires nothing until a moment; it goes on reading."""
        endpoint = _endpoint(request, pk, "incident.handle")
        watch = Watch.objects.filter(endpoint=endpoint, rule=monitor.replace("\0", "")).first()
        if watch is None:
            raise Http404
        given = checked(MonitorMuteSerializer, request.data)
        now = timezone.now()
        handling.mute_watch(watch=watch, actor=person(request.user), now=now, **given)
        return Response(MonitorSerializer(shown.monitors(endpoint, now), many=True).data)


def _incident(request: Request, pk: int, verb: str) -> Incident:
    incident = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    require(request.user, verb, incident)
    return incident


def _handled(request: Request, pk: int, serializer: type[Any], verb: Callable[..., T]) -> T:
    """What the verb makes of an incident, with what was sent in the serializer's shape."""
    incident = _incident(request, pk, "incident.handle")
    given = checked(serializer, request.data)
    return verb(incident=incident, actor=person(request.user), now=timezone.now(), **given)


def _assign(*, username: str | None, **given: Any) -> Incident:
    to = None if username is None else User.objects.filter(username=username).first()
    if username is not None and to is None:
        raise handling.IncidentRefused(f"There is nobody named {username}", "cannot_handle")
    return handling.assign(to=to, **given)


def _endpoint(request: Request, pk: int, verb: str) -> Endpoint:
    endpoint = get_object_or_404(serving.visible_to(request.user), pk=pk)
    require(request.user, verb, endpoint)
    return endpoint


def _answer(incident: Incident) -> Response:
    alerts = incident.alerts.select_related("watch__served__version")
    seen = {
        "incident": incident,
        "alerts": sorted(alerts, key=lambda alert: (alert.closed_at is not None, -alert.rank)),
        "notes": incident.notes.select_related("author"),
        "changes": changes.of(incident),
    }
    return Response(IncidentDetailSerializer(seen).data)
