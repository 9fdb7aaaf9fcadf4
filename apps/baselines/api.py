"""The REST API of baselines."""

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.baselines import services
from apps.baselines.serializers import BaselineDetailSerializer, BaselineSerializer
from apps.registry.models import Version
from apps.registry.selectors import visible_versions


def version_for(request: Request, name: str, number: int, verb: str) -> Version:
    versions = visible_versions(request.user)
    version = get_object_or_404(versions, model__name=name, number=number)
    require(request.user, verb, version)
    return version


class VersionBaseline(APIView):
    @extend_schema(responses=BaselineDetailSerializer)
    def get(self, request: Request, name: str, number: int) -> Response:
        """The newest baseline: what live data of the version is compared with, or will be."""
        version = version_for(request, name, number, "view")
        baseline = version.baselines.select_related("version__model", "dataset").first()
        if baseline is None:
            raise Http404(f"{version} has no baseline yet")
        return Response(BaselineDetailSerializer(baseline).data)

    @extend_schema(request=None, responses={201: BaselineSerializer})
    def post(self, request: Request, name: str, number: int) -> Response:
        """Freeze it anew from the newest reference set; the old one stays as it is."""
        version = version_for(request, name, number, "baseline.freeze")
        assert isinstance(request.user, User)
        baseline = services.ask(version=version, actor=request.user, now=timezone.now())
        return Response(BaselineSerializer(baseline).data, status=status.HTTP_201_CREATED)
