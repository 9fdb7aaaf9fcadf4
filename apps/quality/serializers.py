"""Shapes of quality's API."""

from typing import Any

from rest_framework import serializers

from apps.quality.asked import WINDOWS
from apps.quality.metrics import LABELS

Shape = serializers.Serializer[dict[str, Any]]


class RefusalSerializer(Shape):
    index = serializers.IntegerField(help_text="Place of the item in the batch, from 0")
    code = serializers.CharField()
    message = serializers.CharField()


class ReceiptSerializer(Shape):
    """How many labels; an item with a list of labels has one a row."""

    accepted = serializers.IntegerField(help_text="New ones")
    repeated = serializers.IntegerField(help_text="Sent before")
    corrected = serializers.IntegerField(help_text="Take the place of what was observed earlier")
    older = serializers.IntegerField(help_text="Observed before what is known: ignored")
    refused = RefusalSerializer(many=True)


class WindowSerializer(Shape):
    window = serializers.ChoiceField(
        choices=list(WINDOWS), required=False, help_text="Its length; instead of since"
    )
    since = serializers.DateTimeField(required=False, help_text="Default: 7 days before until")
    until = serializers.DateTimeField(required=False, help_text="Default: now")
    revision = serializers.IntegerField(
        required=False, min_value=1, help_text="Number of a revision; default: all that add up"
    )


class AskedSerializer(WindowSerializer):
    slice = serializers.IntegerField(required=False, help_text="Id of a slice of the endpoint")
    shadow = serializers.BooleanField(default=False, help_text="Of copies of requests")


class ChartRequestSerializer(AskedSerializer):
    only = serializers.ChoiceField(
        choices=["figure"], required=False, help_text="The Plotly figure alone, without its table"
    )
    width = serializers.IntegerField(
        default=720, min_value=200, max_value=2000, help_text="Of the picture, in pixels"
    )
    height = serializers.IntegerField(
        default=360, min_value=120, max_value=2000, help_text="Of the picture, in pixels"
    )


class SeriesRequestSerializer(ChartRequestSerializer):
    metric = serializers.ChoiceField(choices=sorted(LABELS), required=False)
    step = serializers.IntegerField(
        required=False, min_value=60, max_value=86_400 * 31, help_text="Seconds a point"
    )


class FigureSerializer(Shape):
    name = serializers.CharField()
    value = serializers.FloatField(allow_null=True)
    low = serializers.FloatField(allow_null=True, help_text="Of the 95 % interval")
    high = serializers.FloatField(allow_null=True)
    reason = serializers.CharField(help_text="Why there is no value")
    bound = serializers.FloatField(
        allow_null=True, help_text="How far the value may be off since scores are in bins"
    )
    note = serializers.CharField(help_text="What the value is of, where that is not all")
    reference = serializers.FloatField(
        allow_null=True,
        help_text="The value on labels that the model was not trained on: of the baseline, or of "
        "its validation",
    )


class MeasuredSerializer(Shape):
    task = serializers.CharField()
    labels = serializers.IntegerField()
    predictions = serializers.IntegerField()
    reason = serializers.CharField(help_text="Why nothing could be measured")
    is_estimate = serializers.BooleanField()
    note = serializers.CharField(help_text="What must be known of the figures")
    metrics = FigureSerializer(many=True)


class QualitySerializer(MeasuredSerializer):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    extreme = serializers.IntegerField(
        help_text="Labels in no figure: over a million spreads from the others or their prediction"
    )
    left_out = serializers.IntegerField(
        help_text="Labels of revisions that are measured otherwise; name one to see them"
    )
    is_inferred = serializers.BooleanField(
        help_text="No baseline tells what the outputs mean; the labels that came had to"
    )
    is_counting = serializers.BooleanField(
        help_text="The slice has yet to count labels that were joined before it was made"
    )
    counted_back_to = serializers.DateTimeField(
        allow_null=True, help_text="While it is counting, newest first; null: of no time yet"
    )
    reference_note = serializers.CharField(
        help_text="Where references are from, or why there are none, if the baseline is of rows "
        "that the model may have been trained on"
    )
    median_delay_seconds = serializers.FloatField(allow_null=True)
    estimated = MeasuredSerializer(help_text="From scores alone; blind to concept drift")
    calibration = serializers.ListField(child=serializers.DictField())
    confusion = serializers.DictField(allow_null=True)
    uncounted = serializers.ListField(
        child=serializers.DictField(), help_text="Labels that wait, are unknown or of a wrong type"
    )


class TableSerializer(Shape):
    unit = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField())


class ChartSerializer(Shape):
    figure = serializers.DictField()
    table = TableSerializer()


class GroupSerializer(Shape):
    value = serializers.CharField(help_text="Of the column: a text, or a bin of numbers")
    labels = serializers.IntegerField()
    metrics = FigureSerializer(many=True)


class ByColumnSerializer(Shape):
    column = serializers.CharField()
    revision = serializers.IntegerField()
    labels = serializers.IntegerField(help_text="That were looked at")
    extreme = serializers.IntegerField(help_text="Of these, too far from all others to count")
    is_cut = serializers.BooleanField(help_text="There are older labels, more than are looked at")
    groups = GroupSerializer(many=True)


LABEL: dict[str, Any] = {
    "oneOf": [
        {"type": "string", "maxLength": 200},
        {"type": "number"},
        {"type": "boolean"},
        {
            "type": "array",
            "description": "One a row of the request",
            "items": {
                "oneOf": [
                    {"type": "string", "maxLength": 200},
                    {"type": "number"},
                    {"type": "boolean"},
                ]
            },
        },
    ]
}
ITEMS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "maxItems": 10_000,
    "items": {
        "type": "object",
        "required": ["request_id", "label"],
        "properties": {
            "request_id": {"type": "string", "maxLength": 500},
            "label": LABEL,
            "row": {"type": "integer", "minimum": 0, "default": 0},
            "observed_at": {"type": "string", "format": "date-time"},
            "endpoint": {"type": "string", "description": "environment/name"},
        },
    },
}
# As a list, or as {"items": [...]}.
BATCH: dict[str, Any] = {
    "oneOf": [
        ITEMS,
        {"type": "object", "required": ["items"], "properties": {"items": ITEMS}},
    ]
}
