"""The REST API of validation runs."""

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.selectors import require
from apps.validation import selectors
from apps.validation.lifecycle import RunStatus
from apps.validation.models import ValidationRun
from apps.validation.serializers import ValidationDetailSerializer, ValidationSerializer


@extend_schema(
    parameters=[
        OpenApiParameter("model", str, description="Only runs over this model's versions"),
        OpenApiParameter("environment", str, description="Only runs for this environment"),
        OpenApiParameter("status", str, enum=[s.value for s in RunStatus]),
    ]
)
class Validations(generics.ListAPIView[ValidationRun]):
    """The validation runs of the caller's models, newest first."""

    serializer_class = ValidationSerializer
    queryset = ValidationRun.objects.none()

    def get_queryset(self) -> QuerySet[ValidationRun]:
        require(self.request.user, "view")
        rows = selectors.visible_to(self.request.user)
        asked = {
            "version__model__name": "model",
            "environment__name": "environment",
            "status": "status",
        }
        given = {f: self.request.query_params.get(name) for f, name in asked.items()}
        return rows.filter(**{field: value for field, value in given.items() if value})


class ValidationDetail(APIView):
    @extend_schema(responses=ValidationDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        """One run with every check, its evidence and its summary."""
        run = get_object_or_404(selectors.visible_to(request.user), pk=pk)
        require(request.user, "view", run)
        return Response(ValidationDetailSerializer(run).data)
