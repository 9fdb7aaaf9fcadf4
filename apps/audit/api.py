from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.selectors import require
from apps.audit import selectors
from apps.audit.forms import EventFilter
from apps.audit.models import Event
from apps.audit.serializers import EventSerializer
from apps.core.api import said


class Events(generics.GenericAPIView[Event]):
    """What happened, newest first."""

    serializer_class = EventSerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "view")
        return selectors.visible_to(self.request.user)

    @extend_schema(
        responses=EventSerializer(many=True),
        parameters=[
            OpenApiParameter(name, str, description=words)
            for name, words in (
                ("model", "name of the model"),
                ("environment", "name of the environment"),
                ("verb", "for instance rollout.reverted; a prefix ending in . takes all of them"),
                ("object_type", "for instance rollout"),
                ("object_id", "its number"),
                ("since", "an instant, ISO 8601"),
                ("until", "an instant, ISO 8601"),
            )
        ],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked = EventFilter(request.query_params)
        if not asked.is_valid():
            return said(400, "invalid", "Some values are not right", asked.errors.get_json_data())
        page = self.paginate_queryset(asked.narrow(self.get_queryset()))
        return self.get_paginated_response(EventSerializer(page, many=True).data)
