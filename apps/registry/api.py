import json
from collections.abc import Mapping
from typing import IO, Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.parsers import BaseParser, JSONParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import Caller, require
from apps.registry import policy, selectors, signatures
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model, Version
from apps.registry.serializers import (
    AliasSerializer,
    DatasetRequestSerializer,
    DatasetSerializer,
    ModelSerializer,
    PolicyRequestSerializer,
    PolicySerializer,
    VersionSerializer,
)
from apps.registry.services import datasets, policies, webhooks


class YamlParser(BaseParser):
    media_type = "application/yaml"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, str]:
        return {"text": stream.read().decode("utf-8", errors="replace")}


def model_for(user: Caller, name: str, verb: str = "view") -> Model:
    """The model of this name, for somebody who may do the verb to it; 404 tells nothing."""
    model = get_object_or_404(Model.objects.select_related("team"), name=name)
    require(user, verb, model)
    return model


class Models(generics.ListAPIView[Model]):
    """Registered models of the caller's teams."""

    serializer_class = ModelSerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "view")
        return selectors.visible_models(self.request.user)


class ModelDetail(APIView):
    @extend_schema(responses=ModelSerializer)
    def get(self, request: Request, name: str) -> Response:
        return Response(ModelSerializer(model_for(request.user, name)).data)


class Versions(generics.ListAPIView[Version]):
    """Versions of a model, newest first."""

    serializer_class = VersionSerializer

    def get_queryset(self) -> Any:
        if getattr(self, "swagger_fake_view", False):
            return Version.objects.none()
        model = model_for(self.request.user, self.kwargs["name"])
        return (
            model.versions.select_related("model", "registered_by").prefetch_related("inputs").all()
        )


class VersionDetail(APIView):
    @extend_schema(responses=VersionSerializer)
    def get(self, request: Request, name: str, number: int) -> Response:
        model = model_for(request.user, name)
        version = get_object_or_404(model.versions.newest(), number=number)
        return Response(VersionSerializer(version).data)


class Aliases(APIView):
    @extend_schema(responses=AliasSerializer(many=True))
    def get(self, request: Request, name: str) -> Response:
        """The MLflow aliases that the panel keeps: what it wants and what MLflow confirmed."""
        model = model_for(request.user, name)
        return Response(AliasSerializer(model.aliases.order_by("name"), many=True).data)


class Datasets(generics.GenericAPIView[Dataset]):
    serializer_class = DatasetSerializer
    parser_classes = (MultiPartParser, JSONParser)

    def get_queryset(self) -> Any:
        if getattr(self, "swagger_fake_view", False):
            return Dataset.objects.none()
        return model_for(self.request.user, self.kwargs["name"]).datasets.select_related("model")

    @extend_schema(responses=DatasetSerializer(many=True))
    def get(self, request: Request, name: str) -> Response:
        """Data sets of a model, newest first."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(DatasetSerializer(page, many=True).data)

    @extend_schema(
        request={
            "multipart/form-data": DatasetRequestSerializer,
            "application/json": DatasetRequestSerializer,
        },
        responses={201: DatasetSerializer},
    )
    def post(self, request: Request, name: str) -> Response:
        """Register a Parquet or CSV file. The same file, name and columns: the same data set."""
        model = model_for(request.user, name, "dataset.register")
        asked = DatasetRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        assert isinstance(request.user, User)
        given = asked.validated_data
        said: dict[str, Any] = {
            "model": model,
            "name": given["name"],
            "role": DatasetRole(given["role"]),
            "label_column": given["label_column"],
            "time_column": given["time_column"],
            "actor": request.user,
            "now": timezone.now(),
        }
        if given["uri"]:
            dataset = datasets.register_dataset_from(uri=given["uri"], **said)
        else:
            dataset = datasets.register_dataset(file=given["file"], **said)
        return Response(DatasetSerializer(dataset).data, status=201)


class PolicyDetail(APIView):
    parser_classes = (JSONParser, YamlParser)

    @extend_schema(responses=PolicySerializer)
    def get(self, request: Request, name: str) -> Response:
        """The policy in force."""
        return Response(PolicySerializer(selectors.policy_of(model_for(request.user, name))).data)

    @extend_schema(
        request={"application/json": PolicyRequestSerializer, "application/yaml": str},
        responses=PolicySerializer,
    )
    def put(self, request: Request, name: str) -> Response:
        """Make this document the policy. Promotions already asked for keep the one they had."""
        model = model_for(request.user, name)
        given = request.data.get("text", "") if isinstance(request.data, Mapping) else ""
        require(request.user, selectors.verb_to_put(model, str(given)), model)
        asked = PolicyRequestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        assert isinstance(request.user, User)
        edition = policies.put_policy(
            model=model,
            text=asked.validated_data["text"],
            actor=request.user,
            now=timezone.now(),
        )
        return Response(PolicySerializer(edition).data)


class PolicySchema(APIView):
    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """The JSON schema of the policy document."""
        require(request.user, "view")
        return Response(policy.schema())


@csrf_exempt
@require_POST
def mlflow_webhook(request: HttpRequest) -> HttpResponse:
    """MLflow tells of a new version. Who says so is proven by the signature."""
    now = timezone.now()
    refusal = signatures.why_not(request.headers, request.body, now)
    if refusal:
        return JsonResponse({"code": "signature", "message": refusal, "detail": None}, status=401)
    try:
        told = json.loads(request.body)
        kind = (told["entity"], told["action"])
        name, number = str(told["data"]["name"]), int(told["data"]["version"])
    except (ValueError, KeyError, TypeError):
        return JsonResponse(
            {"code": "invalid", "message": "Not a model_version event", "detail": None}, status=400
        )
    if kind == ("model_version", "created"):
        webhooks.take_webhook(
            delivery_id=request.headers[signatures.DELIVERY], name=name, number=number, now=now
        )
    return HttpResponse(status=204)
