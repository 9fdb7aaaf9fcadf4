from typing import Any

from rest_framework import serializers

from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Alias, Dataset, Model, Policy, RunInput, Version


class ModelSerializer(serializers.ModelSerializer[Model]):
    team = serializers.CharField(source="team.slug")

    class Meta:
        model = Model
        fields = ("id", "name", "team", "description", "created_at")
        read_only_fields: Any = fields


class RunInputSerializer(serializers.ModelSerializer[RunInput]):
    class Meta:
        model = RunInput
        fields = ("name", "digest", "context", "source")
        read_only_fields = fields


class VersionSerializer(serializers.ModelSerializer[Version]):
    model = serializers.CharField(source="model.name")
    registered_by = serializers.CharField(source="registered_by.username", default=None)
    inputs = RunInputSerializer(many=True)

    class Meta:
        model = Version
        fields = ("id", "model", "number", "run_id", "source", "description", "registered_at",
                  "registered_by", "seen_at", "seen_by", "run", "digest", "gone_at",
                  "inputs")  # fmt: skip
        read_only_fields: Any = fields


class DatasetSerializer(serializers.ModelSerializer[Dataset]):
    model = serializers.CharField(source="model.name")

    class Meta:
        model = Dataset
        fields = ("id", "model", "name", "role", "fingerprint", "rows", "columns", "label_column",
                  "time_column", "time_from", "time_to", "created_at")  # fmt: skip
        read_only_fields: Any = fields


class DatasetRequestSerializer(serializers.Serializer[dict[str, Any]]):
    """Sent as multipart/form-data; as JSON when the rows lie at an address."""

    name = serializers.CharField(max_length=200)
    role = serializers.ChoiceField(choices=[r.value for r in DatasetRole])
    label_column = serializers.CharField(max_length=200, required=False, default="")
    time_column = serializers.CharField(max_length=200, required=False, default="")
    file = serializers.FileField(required=False, help_text="a Parquet or CSV file")
    uri = serializers.CharField(
        max_length=1000,
        required=False,
        default="",
        allow_blank=True,
        help_text="instead of a file: runs:/, models:/ or mlflow-artifacts:/ of a run or version "
        "of this team, or http(s):// of a host that is allowed",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if bool(attrs.get("file")) == bool(attrs["uri"]):
            raise serializers.ValidationError({"file": "Send a file, or a uri instead of it."})
        return attrs


class PolicySerializer(serializers.ModelSerializer[Policy]):
    model = serializers.CharField(source="model.name")
    author = serializers.CharField(source="author.username", default=None)

    class Meta:
        model = Policy
        fields = ("model", "number", "text", "document", "author", "created_at")
        read_only_fields: Any = fields


class PolicyRequestSerializer(serializers.Serializer[dict[str, Any]]):
    """JSON with the document as text; a body of type application/yaml is taken as it is."""

    text = serializers.CharField(max_length=200_000, trim_whitespace=False)


class AliasSerializer(serializers.ModelSerializer[Alias]):
    class Meta:
        model = Alias
        fields = ("name", "wanted", "seen", "changed_at", "error")
        read_only_fields: Any = fields
