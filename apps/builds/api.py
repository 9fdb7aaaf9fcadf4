"""The REST API of builds."""

from typing import Any

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.selectors import require
from apps.builds import selectors, services
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.builds.serializers import BuildDetailSerializer, BuildSerializer
from apps.registry.selectors import visible_versions


@extend_schema(
    parameters=[
        OpenApiParameter("model", str, description="Only builds of this model"),
        OpenApiParameter("status", str, enum=[s.value for s in BuildStatus]),
    ]
)
class Builds(generics.ListAPIView[Build]):
    """The builds of the caller's models, newest first."""

    serializer_class = BuildSerializer
    queryset = Build.objects.none()

    def get_queryset(self) -> QuerySet[Build]:
        require(self.request.user, "view")
        rows = selectors.visible_to(self.request.user)
        asked = {"version__model__name": "model", "status": "status"}
        given = {f: self.request.query_params.get(name) for f, name in asked.items()}
        return rows.filter(**{field: value for field, value in given.items() if value})


class BuildDetail(APIView):
    @extend_schema(responses=BuildDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One build with its lock, packages, files and what the probe saw."""
        build = get_object_or_404(selectors.visible_to(request.user), pk=pk)
        require(request.user, "view", build)
        return Response(BuildDetailSerializer(build).data)


class VersionBuilds(APIView):
    @extend_schema(request=None, responses={201: BuildSerializer})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Build the version again; its artifacts are fetched anew."""
        versions = visible_versions(request.user)
        version = get_object_or_404(versions, model__name=name, number=number)
        require(request.user, "build.start", version)
        actor: Any = request.user
        build = services.start(version=version, actor=actor, now=timezone.now())
        return Response(BuildSerializer(build).data, status=status.HTTP_201_CREATED)
