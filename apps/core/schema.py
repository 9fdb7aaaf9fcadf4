"""Documents the errors that every route can answer, so that no view has to repeat them."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

COMMON = {
    "400": "A value is missing or wrong",
    "401": "No valid token or session",
    "403": "The caller may not do this",
    "404": "No such object, or the caller may not see it",
    "405": "The route has no such method",
    "406": "Only JSON is answered",
    "409": "The state of things does not allow it now",
    "415": "The body is not of a type that the route reads",
    "503": "A server that this needs did not answer",
}


class Schema(AutoSchema):
    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        from apps.core.serializers import ErrorSerializer

        error = self.resolve_serializer(ErrorSerializer, "response").ref
        for status, words in COMMON.items():
            operation["responses"].setdefault(
                status, {"description": words, "content": {"application/json": {"schema": error}}}
            )
        return operation
