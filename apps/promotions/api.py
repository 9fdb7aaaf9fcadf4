"""Promotions over HTTP: translate, one call, translate back."""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.promotions import selectors, services
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.promotions.serializers import (
    AnswerSerializer,
    CancelSerializer,
    PromotionSerializer,
    RequestSerializer,
    WaitSerializer,
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
        given = _read(RequestSerializer, request.data)
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
            requester=_person(request),
            words=given["words"],
            now=timezone.now(),
        )
        return Response(PromotionSerializer(promotion).data, status=status.HTTP_201_CREATED)


class PromotionDetail(APIView):
    @extend_schema(parameters=[WaitSerializer], responses=PromotionSerializer)
    def get(self, request: Request, pk: int) -> Response:
        promotion = _visible(request, pk)
        asked = _read(WaitSerializer, request.query_params)
        if asked["wait"]:
            known = asked["revision"]
            selectors.wait_for_change(
                Promotion.objects.all(),
                pk,
                revision=promotion.revision if known is None else known,
                seconds=asked["wait"],
            )
            promotion = _visible(request, pk)
        return Response(PromotionSerializer(promotion).data)


class PromotionApprove(APIView):
    @extend_schema(request=AnswerSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        promotion = _to_decide(request, pk)
        answer = _read(AnswerSerializer, request.data)
        decided = services.approve(
            promotion=promotion, actor=_person(request), now=timezone.now(), **answer
        )
        return Response(PromotionSerializer(decided).data)


class PromotionReject(APIView):
    @extend_schema(request=AnswerSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        promotion = _to_decide(request, pk)
        answer = _read(AnswerSerializer, request.data)
        decided = services.reject(
            promotion=promotion, actor=_person(request), now=timezone.now(), **answer
        )
        return Response(PromotionSerializer(decided).data)


class PromotionCancel(APIView):
    @extend_schema(request=CancelSerializer, responses=PromotionSerializer)
    def post(self, request: Request, pk: int) -> Response:
        promotion = _visible(request, pk)
        require(request.user, "promotion.cancel", promotion)
        given = _read(CancelSerializer, request.data)
        cancelled = services.cancel(
            promotion=promotion, actor=_person(request), now=timezone.now(), **given
        )
        return Response(PromotionSerializer(cancelled).data)


def _visible(request: Request, pk: int) -> Promotion:
    promotion = get_object_or_404(selectors.visible_to(request.user), pk=pk)
    require(request.user, "view", promotion)
    return promotion


def _to_decide(request: Request, pk: int) -> Promotion:
    """The requester gets past the question of roles, to be told the real reason by the verb."""
    promotion = _visible(request, pk)
    if promotion.asker_id != request.user.pk:
        require(request.user, "promotion.decide", promotion)
    return promotion


def _person(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


def _read(serializer: type[Any], data: Any) -> dict[str, Any]:
    asked = serializer(data=data)
    asked.is_valid(raise_exception=True)
    values: dict[str, Any] = asked.validated_data
    return values
