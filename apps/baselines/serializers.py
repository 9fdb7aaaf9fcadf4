"""Shapes of baselines in the API."""

from typing import Any, ClassVar

from rest_framework import serializers

from apps.baselines import selectors
from apps.baselines.models import Baseline


class ColumnSerializer(serializers.Serializer[Any]):
    """One column that live data is compared in."""

    name = serializers.CharField()
    role = serializers.CharField()
    kind = serializers.CharField()
    bins = serializers.DictField(
        child=serializers.IntegerField(), help_text="bin, as charts name it -> reference rows"
    )
    counters = serializers.DictField(child=serializers.IntegerField())
    natural = serializers.DictField(
        child=serializers.FloatField(),
        help_text="how far the reference's own blocks of time lie; without js where "
        "its rows are in no order of time",
    )
    importance = serializers.FloatField(allow_null=True)


class BaselineSerializer(serializers.ModelSerializer[Baseline]):
    model = serializers.CharField(source="version.model.name")
    version = serializers.IntegerField(source="version.number")
    dataset = serializers.CharField(source="dataset.name", default=None)
    fingerprint = serializers.CharField(source="dataset.fingerprint", default=None)
    is_of_training = serializers.SerializerMethodField(
        help_text="Its rows may be those that the model was trained on: `quality` is too good, and "
        "no alert is held against it"
    )

    class Meta:
        model = Baseline
        fields: ClassVar[Any] = [
            "id", "model", "version", "number", "origin", "dataset", "fingerprint",
            "is_of_training", "state", "reason", "job", "rows", "time_from", "time_to", "meaning",
            "quality", "created_at", "frozen_at",
        ]  # fmt: skip
        read_only_fields: ClassVar[Any] = fields

    def get_is_of_training(self, baseline: Baseline) -> bool:
        return selectors.is_of_training(baseline)


class BaselineDetailSerializer(BaselineSerializer):
    """With its columns, by importance: none until it is frozen."""

    columns = serializers.SerializerMethodField()
    in_force = serializers.SerializerMethodField(
        help_text="number of the one that live data is compared with now"
    )

    class Meta(BaselineSerializer.Meta):
        fields: ClassVar[Any] = [*BaselineSerializer.Meta.fields, "in_force", "columns"]
        read_only_fields: ClassVar[Any] = fields

    # The schema is made from this annotation: only an instance says that it is a list.
    def get_columns(self, baseline: Baseline) -> ColumnSerializer(many=True):  # type: ignore[valid-type]
        return ColumnSerializer(selectors.columns_of(baseline), many=True).data

    def get_in_force(self, baseline: Baseline) -> int | None:
        found = selectors.in_force(baseline.version)
        return found.number if found else None
