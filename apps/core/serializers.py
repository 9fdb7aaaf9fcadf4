"""Shapes that every app's API shares."""

from typing import Any

from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[dict[str, Any]]):
    """What every refused or failed call answers."""

    code = serializers.CharField(help_text="For programs; never changes once released")
    message = serializers.CharField(help_text="For people: what happened and what to do")
    detail = serializers.JSONField(allow_null=True, help_text="Which field, where it is known")
