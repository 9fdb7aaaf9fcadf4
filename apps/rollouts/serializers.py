"""Shapes of rollouts in the API. They translate and decide nothing."""

from typing import Any

from rest_framework import serializers

from apps.rollouts.models import Observation, Rollback, Rollout
from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.models import Endpoint


class ObservationSerializer(serializers.ModelSerializer[Observation]):
    weight_percent = serializers.SerializerMethodField()
    shadow_percent = serializers.SerializerMethodField()

    class Meta:
        model = Observation
        fields = (
            "at", "phase", "step", "weight_percent", "shadow_percent", "verdict", "reason",
            "evidence",
        )  # fmt: skip

    def get_weight_percent(self, observation: Observation) -> float:
        return observation.weight / 10

    def get_shadow_percent(self, observation: Observation) -> float:
        return observation.shadow / 10


class RolloutSerializer(serializers.ModelSerializer[Rollout]):
    """A candidate on its way to an endpoint's traffic."""

    model = serializers.CharField(source="endpoint.model.name")
    environment = serializers.CharField(source="endpoint.environment.name")
    version = serializers.IntegerField(source="candidate.version.number")
    stable_version = serializers.IntegerField(
        source="stable.version.number", allow_null=True, default=None
    )
    digest = serializers.CharField(source="promotion.digest")
    weight_percent = serializers.SerializerMethodField(
        help_text="share of the traffic that the candidate should have now"
    )
    shadow_percent = serializers.SerializerMethodField(
        help_text="share of the requests that should be copied to it now; nobody sees its answers"
    )

    class Meta:
        model = Rollout
        fields = (
            "id", "model", "environment", "version", "stable_version", "promotion", "digest",
            "phase", "step", "weight_percent", "shadow_percent", "reason", "cause",
            "pause_wanted", "abort_wanted", "abort_reason", "plan", "evidence", "revision",
            "created_at", "reached_at", "finished_at",
        )  # fmt: skip

    def get_weight_percent(self, rollout: Rollout) -> float:
        return rollout.weight / 10

    def get_shadow_percent(self, rollout: Rollout) -> float:
        return rollout.shadow / 10


class RolloutDetailSerializer(RolloutSerializer):
    observations = ObservationSerializer(many=True, help_text="what happened, oldest first")

    class Meta(RolloutSerializer.Meta):
        fields = (*RolloutSerializer.Meta.fields, "observations")  # type: ignore[assignment]


class StartSerializer(serializers.Serializer[dict[str, Any]]):
    promotion = serializers.IntegerField(min_value=1, help_text="id of an approved promotion")


class AbortSerializer(serializers.Serializer[dict[str, Any]]):
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=2000)


class AskRollbackSerializer(serializers.Serializer[dict[str, Any]]):
    version = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=2_147_483_647,
        default=None,
        help_text="one that still runs there; without it, the one that was replaced last",
    )
    reason = serializers.CharField(max_length=2000, help_text="the owners are told")


class RollbackSerializer(serializers.ModelSerializer[Rollback]):
    """All traffic of an endpoint, taken back by a person."""

    model = serializers.CharField(source="endpoint.model.name")
    environment = serializers.CharField(source="endpoint.environment.name")
    endpoint = serializers.CharField(source="endpoint.name")
    from_version = serializers.IntegerField(source="left.version.number")
    to_version = serializers.IntegerField(source="to.version.number")

    class Meta:
        model = Rollback
        fields = (
            "id", "model", "environment", "endpoint", "from_version", "to_version", "reason", "at",
        )  # fmt: skip


class CopySerializer(serializers.Serializer[dict[str, Any]]):
    revision = serializers.IntegerField(min_value=1, help_text="Its number on this endpoint")
    percent = serializers.FloatField(min_value=0, max_value=100, help_text="In tenths; 0: none")


class ShadowRequestSerializer(serializers.Serializer[dict[str, Any]]):
    copies = CopySerializer(many=True, help_text="All that there should be; none: []")
    reason = serializers.CharField(max_length=500)

    def validate_copies(self, copies: list[dict[str, Any]]) -> dict[int, int]:
        """Revision number -> thousandths."""
        shares = {one["revision"]: round(one["percent"] * WEIGHT_TOTAL / 100) for one in copies}
        if len(shares) != len(copies):
            raise serializers.ValidationError("A revision stands here twice")
        return shares


class EndpointShadowSerializer(serializers.ModelSerializer[Endpoint]):
    """Which revisions of an endpoint are to get copies, and what the gateway makes of it."""

    shadow_wanted = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Revision id -> thousandths of all requests that are copied to it",
    )
    shadow_seen = serializers.DictField(child=serializers.IntegerField(), allow_null=True)

    class Meta:
        model = Endpoint
        fields = ("id", "shadow_wanted", "shadow_seen")
