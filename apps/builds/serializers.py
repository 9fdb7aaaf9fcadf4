"""Shapes of builds in the API."""

from typing import Any, ClassVar

from rest_framework import serializers

from apps.builds.models import Build


class BuildSerializer(serializers.ModelSerializer[Build]):
    """What a list shows of a build."""

    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    progress = serializers.CharField(source="job.progress", default="")
    attempt = serializers.IntegerField(source="job.attempt", default=0)

    class Meta:
        model = Build
        fields: ClassVar[Any] = [
            "id", "model", "version", "number", "status", "reason", "failure", "digest",
            "python_version", "durations", "created_at", "finished_at", "job", "progress",
            "attempt",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields


class BuildDetailSerializer(BuildSerializer):
    """Everything that is known of one build."""

    class Meta(BuildSerializer.Meta):
        fields: ClassVar[Any] = [
            *BuildSerializer.Meta.fields,
            "python_wanted", "requirements", "lock", "packages", "files", "model_digest",
            "signature", "flavors", "probe",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields
