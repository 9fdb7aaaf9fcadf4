"""Rollouts over HTTP: translate, one call, translate back."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.selectors import person, require
from apps.core.api import checked
from apps.core.waiting import WaitSerializer, waited
from apps.promotions import selectors as promotions
from apps.rollouts import selectors, shadows
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.serializers import (
    AbortSerializer,
    AskRollbackSerializer,
    EndpointShadowSerializer,
    RollbackSerializer,
    RolloutDetailSerializer,
    RolloutSerializer,
    ShadowRequestSerializer,
    StartSerializer,
)
from apps.rollouts.services import rollbacks, steering
from apps.serving import selectors as serving
from apps.serving.models import Endpoint

FILTERS = [
    OpenApiParameter("model", str, description="name of the model"),
    OpenApiParameter("environment", str, description="name of the environment"),
    OpenApiParameter("phase", str, enum=[p.value for p in Phase]),
    OpenApiParameter("promotion", int, description="id of the promotion it took up"),
]


class RolloutList(generics.ListAPIView[Rollout]):
    serializer_class = RolloutSerializer
    queryset = Rollout.objects.none()  # for the schema; what is answered comes from get_queryset

    def get_queryset(self) -> QuerySet[Rollout]:
        require(self.request.user, "view")
        rows = selectors.visible_to(self.request.user)
        fields = {
            "model": "endpoint__model__name",
            "environment": "endpoint__environment__name",
            "phase": "phase",
        }
        for parameter, field in fields.items():
            wanted = self.request.query_params.get(parameter)
            if wanted:
                rows = rows.filter(**{field: wanted.replace("\0", "")})
        promotion = self.request.query_params.get("promotion", "")
        if promotion:
            is_number = promotion.isascii() and promotion.isdigit()
            rows = rows.filter(promotion=int(promotion[:18])) if is_number else rows.none()
        return rows

    @extend_schema(parameters=FILTERS, responses=RolloutSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(request=StartSerializer, responses={201: RolloutDetailSerializer})
    def post(self, request: Request) -> Response:
        given = checked(StartSerializer, request.data)
        promotion = get_object_or_404(promotions.visible_to(request.user), pk=given["promotion"])
        require(request.user, "rollout.start", promotion)
        rollout = steering.start(
            promotion=promotion, actor=person(request.user), now=timezone.now()
        )
        return _answer(rollout, status.HTTP_201_CREATED)


class RolloutDetail(APIView):
    @extend_schema(parameters=[WaitSerializer], responses=RolloutDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        rollout = _visible(request, pk)
        asked = checked(WaitSerializer, request.query_params)
        if waited(Rollout.objects.all(), rollout, asked):
            rollout = _visible(request, pk)
        return _answer(rollout)


class RolloutPause(APIView):
    @extend_schema(request=None, responses=RolloutDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, steering.pause)


class RolloutResume(APIView):
    @extend_schema(request=None, responses=RolloutDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, steering.resume)


class RolloutAbort(APIView):
    @extend_schema(request=AbortSerializer, responses=RolloutDetailSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _steered(request, pk, steering.abort, AbortSerializer)


class EndpointRollback(APIView):
    @extend_schema(
        operation_id="endpoints_rollback",
        request=AskRollbackSerializer,
        responses=RollbackSerializer,
    )
    def post(self, request: Request, environment: str, name: str) -> Response:
        """All traffic at once to a version that still runs there.

        The same again changes nothing and answers the same.
        """
        endpoint = _endpoint(request, environment, name, "rollout.steer")
        given = checked(AskRollbackSerializer, request.data)
        version = given["version"]
        rollback = rollbacks.roll_back(
            endpoint=endpoint,
            to=rollbacks.revision_to(endpoint=endpoint, version=version) if version else None,
            actor=person(request.user),
            reason=given["reason"],
            now=timezone.now(),
        )
        return Response(RollbackSerializer(rollback).data)


class EndpointShadow(APIView):
    @extend_schema(
        operation_id="endpoints_shadow",
        request=ShadowRequestSerializer,
        responses=EndpointShadowSerializer,
    )
    def put(self, request: Request, environment: str, name: str) -> Response:
        """Copy a share of all requests to these revisions. Their answers are recorded only."""
        endpoint = _endpoint(request, environment, name, "endpoint.configure")
        given = checked(ShadowRequestSerializer, request.data)
        shadows.put(
            endpoint=endpoint,
            shares=serving.by_number(endpoint, given["copies"]),
            actor=person(request.user),
            reason=given["reason"],
            now=timezone.now(),
        )
        return Response(EndpointShadowSerializer(endpoint).data)


def _endpoint(request: Request, environment: str, name: str, verb: str) -> Endpoint:
    visible = serving.visible_to(request.user)
    endpoint = get_object_or_404(visible, environment__name=environment, name=name)
    require(request.user, verb, endpoint)
    return endpoint


def _visible(request: Request, pk: int) -> Rollout:
    rollout = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    require(request.user, "view", rollout)
    return rollout


def _steered(
    request: Request, pk: int, verb: Callable[..., Rollout], serializer: type[Any] | None = None
) -> Response:
    """What the verb makes of a rollout, with what was sent in the serializer's shape."""
    rollout = _visible(request, pk)
    require(request.user, "rollout.steer", rollout)
    given = checked(serializer, request.data) if serializer else {}
    return _answer(verb(rollout=rollout, actor=person(request.user), now=timezone.now(), **given))


def _answer(rollout: Rollout, code: int = status.HTTP_200_OK) -> Response:
    return Response(RolloutDetailSerializer(rollout).data, status=code)
