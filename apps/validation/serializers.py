"""Shapes of validation runs in the API."""

from typing import Any, ClassVar

from rest_framework import serializers

from apps.validation.models import CheckResult, ValidationRun


class CheckSerializer(serializers.ModelSerializer[CheckResult]):
    class Meta:
        model = CheckResult
        fields: ClassVar[Any] = [
            "number", "gate", "title", "verdict", "summary", "evidence", "seconds",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields


class ValidationSerializer(serializers.ModelSerializer[ValidationRun]):
    """What a list shows of a run."""

    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    environment = serializers.CharField(source="environment.name")
    digest = serializers.CharField(source="build.digest")
    progress = serializers.CharField(source="job.progress", default="")

    class Meta:
        model = ValidationRun
        fields: ClassVar[Any] = [
            "id", "model", "version", "environment", "build", "digest", "status", "verdict",
            "reason", "created_at", "finished_at", "job", "progress",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields


class ValidationDetailSerializer(ValidationSerializer):
    """One run with its checks and what they were made on."""

    checks = CheckSerializer(many=True)
    dataset = serializers.CharField(source="dataset.name", default="")
    fingerprint = serializers.CharField(source="dataset.fingerprint", default="")
    compared_with = serializers.IntegerField(
        source="compared_with.version.number", default=None, allow_null=True
    )
    policy_number = serializers.IntegerField(source="policy.number", default=None, allow_null=True)

    class Meta(ValidationSerializer.Meta):
        fields: ClassVar[Any] = [
            *ValidationSerializer.Meta.fields,
            "gates", "dataset", "fingerprint", "positive_class", "compared_with", "policy_number",
            "figures", "checks",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields
