"""Serving in the REST API; rollouts move traffic and copies."""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.selectors import require
from apps.registry.models import Model
from apps.serving import keys, selectors
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Endpoint, Environment
from apps.serving.serializers import (
    EndpointDetailSerializer,
    EndpointSerializer,
    EnvironmentSerializer,
    RevisionKeySerializer,
    ServedQuestionSerializer,
    ServedSerializer,
)


class EnvironmentList(ListAPIView[Environment]):
    """Where models run, in the order in which versions pass through."""

    serializer_class = EnvironmentSerializer
    queryset = Environment.objects.all()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        require(request.user, "view")
        return super().list(request, *args, **kwargs)


class EndpointList(ListAPIView[Endpoint]):
    """The endpoints of the caller's teams: traffic wanted and seen, revisions and their state."""

    serializer_class = EndpointSerializer
    queryset = Endpoint.objects.all()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        require(request.user, "view")
        return super().list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Endpoint]:
        return selectors.visible_to(self.request.user)


class EndpointDetail(APIView):
    @extend_schema(operation_id="endpoints_retrieve", responses=EndpointDetailSerializer)
    def get(self, request: Request, environment: str, name: str) -> Response:
        """One endpoint, with how it is served now and what it used."""
        endpoint = endpoint_for(request, environment, name, "view")
        return Response(_detail(endpoint))


def endpoint_for(request: Request, environment: str, name: str, verb: str) -> Endpoint:
    """The endpoint that is named, if the caller may do this with it."""
    visible = selectors.visible_to(request.user)
    endpoint = get_object_or_404(visible, environment__name=environment, name=name)
    require(request.user, verb, endpoint)
    return endpoint


def _detail(endpoint: Endpoint) -> dict[str, Any]:
    shown: dict[str, Any] = EndpointDetailSerializer(endpoint).data
    return shown


class RevisionKey(APIView):
    @extend_schema(operation_id="endpoints_revision_key", responses=RevisionKeySerializer)
    def get(self, request: Request, environment: str, name: str, number: int) -> Response:
        """The header that sends a request to this revision, whatever the split is.

        What is asked with it stands in the prediction log, and in no figure of what callers get.
        """
        endpoint = endpoint_for(request, environment, name, "endpoint.test")
        running = endpoint.revisions.filter(wanted=RevisionWish.RUN)
        revision = get_object_or_404(running, number=number)
        answer = Response({"header": keys.HEADER, "value": keys.of(revision.pk)})
        answer["Cache-Control"] = "no-store"
        return answer


class ServedView(APIView):
    @extend_schema(
        operation_id="models_served",
        parameters=[ServedQuestionSerializer],
        responses=ServedSerializer,
    )
    def get(self, request: Request, name: str) -> Response:
        """What served a model at a moment, from the audit's record."""
        model = get_object_or_404(Model, name=name)
        require(request.user, "view", model)
        question = ServedQuestionSerializer(data=request.query_params)
        question.is_valid(raise_exception=True)
        environment = question.validated_data["environment"]
        at = question.validated_data.get("at") or timezone.now()
        event, served = selectors.served_at(model=model, environment=environment, at=at)
        answer = {
            "model": model.name,
            "environment": environment,
            "at": at,
            "since": event.at if event else None,
            "event": event.pk if event else None,
            "served": served,
        }
        return Response(ServedSerializer(answer).data)
