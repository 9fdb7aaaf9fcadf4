from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.jobs import selectors, services
from apps.jobs.models import Job
from apps.jobs.serializers import JobDetailSerializer, JobSerializer


class Jobs(generics.ListAPIView[Job]):
    """Long work of the caller's teams, newest first."""

    serializer_class = JobSerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "view")
        return selectors.visible_to(self.request.user)


class JobDetail(APIView):
    @extend_schema(responses=JobDetailSerializer)
    def get(self, request: Request, pk: int) -> Response:
        job = get_object_or_404(Job, pk=pk)
        require(request.user, "view", job)
        return Response(JobDetailSerializer(job).data)


class CancelJob(APIView):
    @extend_schema(request=None, responses=JobSerializer)
    def post(self, request: Request, pk: int) -> Response:
        """Ask it to stop: at once while it is queued, else at its next step."""
        job = get_object_or_404(Job, pk=pk)
        require(request.user, "job.cancel", job)
        assert isinstance(request.user, User)
        services.cancel(job=job, actor=request.user, now=timezone.now())
        job.refresh_from_db()
        return Response(JobSerializer(job).data)
