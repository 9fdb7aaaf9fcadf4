"""Promotions over HTTP: translate, one call, translate back."""

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
from apps.promotions import selectors, services
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.promotions.serializers import (
    AnswerSerializer,
    CancelSerializer,
    PromotionSerializer,
    RequestSerializer,
)
from apps.registry import selectors as registry
from apps.serving.models import Environment

FILTERS = [
    OpenApiParameter("model", str, description="name of the model"),
    OpenApiParameter("environment", str, description="name of the environment"),
    OpenApiParameter("status", str, enum=[s.value for s in Status]),
]


class PromotionList(generics.ListAPIView[Promotion]):
    serializer_class = PromotionSerializer
    queryset = Promotion.objects.none()  # for the schema; answers come from get_queryset

    def get_queryset(self) -> QuerySet[Promotion]:
        require(self.request.user, "view")
        rows = selectors.visible_to(self.request.user).select_related("rollout")
        names = {"model": "version__model__name", "environment": "environment__name"}
        for parameter, field in {**names, "status": "status"}.items():
            wanted = self.request.query_params.get(parameter)
            if wanted:
                rows = rows.filter(**{field: wanted.replace("\0", "")})
        return rows.prefetch_related("approvals__user")

    @extend_schema(parameters=FILTERS, responses=PromotionSerializer(many=True))
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(request=RequestSerializer, responses={201: PromotionSerializer})
    def post(self, request: Request) -> Response:
        given = checked(RequestSerializer, request.data)
        version = get_object_or_404(
            registry.visible_versions(request.user),
            model__name=given["model"],
            number=given["version"],
        )
        require(request.user, "promotion.request", version)
        environment = get_object_or_404(Environment, name=given["environment"])
        promotion = services.request(
            version=version,
            environment=environment,
            requester=person(request.user),
            words=given["words"],
            now=timezone.now(),
        )
        return Response(PromotionSerializer(promotion).data, status=status.HTTP_201_CREATED)


class PromotionDetail(APIView):
    @extend_schema(parameters=[WaitSerializer], responses=PromotionSerializer)
    def get(self, request: Request, pk: int) -> Response:
        promotion = _visible(request, pk)
        asked = checked(WaitSerializer, request.query_params)
        if waited(Promotion.objects.all(), promotion, asked):
            promotion = _visible(request, pk)
        return Response(PromotionSerializer(promotion).data)


class PromotionApprove(APIView):
    @extend_schema(request=AnswerSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answered(request, pk, services.approve)


class PromotionReject(APIView):
    @extend_schema(request=AnswerSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        return _answered(request, pk, services.reject)


class PromotionCancel(APIView):
    @extend_schema(request=CancelSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        promotion = _visible(request, pk)
        require(request.user, "promotion.cancel", promotion)
        given = checked(CancelSerializer, request.data)
        cancelled = services.cancel(
            promotion=promotion, actor=person(request.user), now=timezone.now(), **given
        )
        return Response(PromotionSerializer(cancelled).data)


def _visible(request: Request, pk: int) -> Promotion:
    promotion = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    require(request.user, "view", promotion)
    return promotion


def _answered(request: Request, pk: int, verb: Callable[..., Promotion]) -> Response:
    """The requester gets past the question of roles, to be told the real reason by the verb."""
    promotion = _visible(request, pk)
    if promotion.asker_id != request.user.pk:
        require(request.user, "promotion.decide", promotion)
    given = checked(AnswerSerializer, request.data)
    decided = verb(promotion=promotion, actor=person(request.user), now=timezone.now(), **given)
    return Response(PromotionSerializer(decided).data)
