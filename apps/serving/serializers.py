"""Shapes of serving in the API."""

from typing import Any, ClassVar

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.serving import selectors
from apps.serving.models import Endpoint, Environment, Replica, Revision


class EnvironmentSerializer(serializers.ModelSerializer[Environment]):
    class Meta:
        model = Environment
        fields: ClassVar = ["id", "name", "order"]


class ReplicaSerializer(serializers.ModelSerializer[Replica]):
    class Meta:
        model = Replica
        fields: ClassVar = [
            "index", "ready", "started_at", "start_seconds", "restarts", "memory_mb", "in_flight",
            "reason",
        ]  # fmt: skip


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    version = serializers.IntegerField(source="version.number")
    digest = serializers.CharField(source="build.digest")
    build = serializers.IntegerField(source="build_id")
    replicas_seen = ReplicaSerializer(many=True, source="sighted")

    class Meta:
        model = Revision
        fields: ClassVar = [
            "id", "number", "version", "build", "digest", "replicas", "wanted", "state",
            "ready_replicas", "reason", "seen_at", "created_at", "scaled_at", "scaled_reason",
            "most_memory_mb", "replicas_seen",
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
    shadow_wanted = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Revision id -> thousandths of all requests that are copied to it",
    )
    shadow_seen = serializers.DictField(child=serializers.IntegerField(), allow_null=True)
    revisions = RevisionSerializer(many=True)

    class Meta:
        model = Endpoint
        fields: ClassVar = [
            "id", "name", "model", "environment", "stable", "traffic_wanted",
            "traffic_changed_at", "traffic_seen", "traffic_seen_at", "traffic_reason",
            "shadow_wanted", "shadow_seen", "revisions", "created_at",
        ]  # fmt: skip


class UseSerializer(serializers.Serializer[selectors.Use]):
    days = serializers.IntegerField()
    replica_hours = serializers.FloatField(help_text="What its replicas ran, together")
    saved_hours = serializers.FloatField(help_text="Less than `max` replicas all the time")


class EndpointDetailSerializer(EndpointSerializer):
    policy = serializers.SerializerMethodField(help_text="Edition of the model's policy in force")
    serving = serializers.SerializerMethodField(help_text="Its part about serving, completed")
    use = serializers.SerializerMethodField(help_text="Within the last days")

    class Meta(EndpointSerializer.Meta):
        fields: ClassVar = [*EndpointSerializer.Meta.fields, "policy", "serving", "use"]

    @extend_schema_field(UseSerializer)
    def get_use(self, endpoint: Endpoint) -> Any:
        return UseSerializer(selectors.used_lately(endpoint, timezone.now().date())).data

    def get_policy(self, endpoint: Endpoint) -> int | None:
        return selectors.policy_number(endpoint)

    def get_serving(self, endpoint: Endpoint) -> dict[str, Any]:
        return selectors.serving_part(endpoint).model_dump(mode="json")


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
