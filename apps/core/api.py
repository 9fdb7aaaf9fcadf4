"""The one shape of the REST API: pages of results, errors as {code, message, detail}."""

from collections import OrderedDict
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.views import exception_handler

from apps.core.errors import Refused, Unavailable

CODES = {
    400: "invalid",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "refused",
    415: "unsupported_media_type",
    429: "throttled",
    503: "unavailable",
}


class Pages(CursorPagination):
    """Newest first, by cursor: a page stays right while new rows arrive."""

    ordering = "-pk"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_paginated_response(self, data: Any) -> Response:
        return Response(
            OrderedDict(next=self.get_next_link(), previous=self.get_previous_link(), results=data)
        )


def explain(error: Exception, context: dict[str, Any]) -> Response | None:
    """It turns an exception of a view into the API's error shape; None leaves it to Django."""
    if isinstance(error, Refused):
        return said(409, error.code, error.message)
    if isinstance(error, Unavailable):
        return said(503, error.code, error.message)
    response = exception_handler(error, context)
    if response is None:
        return None
    if isinstance(error, Http404):
        return said(404, "not_found", "There is no such object, or you may not see it")
    if isinstance(error, PermissionDenied):
        return said(403, "forbidden", str(error) or "You may not do this")
    if isinstance(error, exceptions.ValidationError):
        return said(400, "invalid", "Some values are not right", response.data)
    code = CODES.get(response.status_code, "error")
    answer = said(response.status_code, code, _words(error))
    for name in ("WWW-Authenticate", "Retry-After", "Allow"):
        if name in response:
            answer[name] = response[name]
    return answer


def checked(serializer: type[Any], given: Any) -> dict[str, Any]:
    """It gives the values of what was sent. Raises: rest_framework's ValidationError."""
    asked = serializer(data=given)
    asked.is_valid(raise_exception=True)
    values: dict[str, Any] = asked.validated_data
    return values


def said(code: int, name: str, message: str, detail: Any = None) -> Response:
    return Response({"code": name, "message": message, "detail": detail}, status=code)


def _words(error: Exception) -> str:
    detail = getattr(error, "detail", None)
    return str(detail) if detail is not None else "The request failed"
