"""Shapes of promotions in the API. They translate and decide nothing."""

from typing import Any

from rest_framework import serializers

from apps.promotions.models import Approval, Promotion


class ApprovalSerializer(serializers.ModelSerializer[Approval]):
    user = serializers.CharField(source="user.username", help_text="Who answered")

    class Meta:
        model = Approval
        fields = ("user", "answer", "words", "digest", "at")


class PromotionSerializer(serializers.ModelSerializer[Promotion]):
    """A request that a version enter an environment."""

    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    environment = serializers.CharField(source="environment.name")
    requester = serializers.CharField(
        source="requester.username", allow_null=True, default=None, help_text="null: the policy"
    )
    approvals_required = serializers.IntegerField(source="rules.approvals")
    approvals = ApprovalSerializer(many=True)
    rollout = serializers.SerializerMethodField(help_text="id of the rollout that took it up")

    class Meta:
        model = Promotion
        fields = (
            "id", "model", "version", "environment", "status", "reason", "revision", "digest",
            "words", "requester", "approvals_required", "approvals", "build", "validation",
            "policy_number", "rollout", "created_at", "decided_at", "served_at",
        )  # fmt: skip

    def get_rollout(self, promotion: Promotion) -> int | None:
        # The rollout's row points down to us; its app stands above and is not imported here.
        rollout = getattr(promotion, "rollout", None)
        return rollout.pk if rollout is not None else None


class RequestSerializer(serializers.Serializer[dict[str, Any]]):
    """What to promote, and where to."""

    model = serializers.CharField(max_length=200)
    version = serializers.IntegerField(min_value=1, max_value=2_147_483_647)
    environment = serializers.CharField(max_length=60)
    words = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)


class AnswerSerializer(serializers.Serializer[dict[str, Any]]):
    """One person's answer."""

    words = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)
    digest = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=80,
        help_text="Of the bundle you looked at; refused when the request is about another one",
    )


class CancelSerializer(serializers.Serializer[dict[str, Any]]):
    words = serializers.CharField(required=False, allow_blank=True, default="", max_length=5000)
