"""Shapes of serving in the API."""

from typing import Any, ClassVar

from rest_framework import serializers

from apps.serving.models import Endpoint, Environment, Revision


class EnvironmentSerializer(serializers.ModelSerializer[Environment]):
    class Meta:
        model = Environment
        fields: ClassVar = ["id", "name", "order"]


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    version = serializers.IntegerField(source="version.number")
    digest = serializers.CharField(source="build.digest")
    build = serializers.IntegerField(source="build_id")

    class Meta:
        model = Revision
        fields: ClassVar = [
            "id", "number", "version", "build", "digest", "replicas", "wanted", "state",
            "ready_replicas", "reason", "seen_at", "created_at",
        ]  # fmt: skip


class EndpointSerializer(serializers.ModelSerializer[Endpoint]):
    model = serializers.CharField(source="model.name")
    environment = serializers.CharField(source="environment.name")
    stable = serializers.IntegerField(source="stable_id", allow_null=True)
    traffic_wanted = serializers.DictField(
        child=serializers.IntegerField(), help_text="Revision id -> thousandths"
    )
    traffic_seen = serializers.DictField(
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="As the gateway confirmed it; null: it did not answer",
    )
    revisions = RevisionSerializer(many=True)

    class Meta:
        model = Endpoint
        fields: ClassVar = [
            "id", "name", "model", "environment", "stable", "traffic_wanted",
            "traffic_changed_at", "traffic_seen", "traffic_seen_at", "traffic_reason",
            "revisions", "created_at",
        ]  # fmt: skip


class RevisionKeySerializer(serializers.Serializer[dict[str, Any]]):
    header = serializers.CharField(help_text="To be sent with a request to the endpoint")
    value = serializers.CharField(help_text="Opens this revision past the split while it runs")


class ServedQuestionSerializer(serializers.Serializer[dict[str, Any]]):
    environment = serializers.CharField(max_length=60, default="production")
    at = serializers.DateTimeField(required=False, help_text="Default: now")


class ServedVersionSerializer(serializers.Serializer[dict[str, Any]]):
    version = serializers.IntegerField()
    percent = serializers.FloatField()
    digest = serializers.CharField()


class ServedSerializer(serializers.Serializer[dict[str, Any]]):
    model = serializers.CharField()
    environment = serializers.CharField()
    at = serializers.DateTimeField()
    since = serializers.DateTimeField(allow_null=True, help_text="null: nothing had served yet")
    event = serializers.IntegerField(allow_null=True, help_text="The audit event that says so")
    served = ServedVersionSerializer(many=True)
