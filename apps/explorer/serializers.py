"""Shapes of the explorer's API."""

from typing import Any

from rest_framework import serializers

from apps.explorer.lifecycle import MOST_CONDITIONS, MOST_ROWS, State
from apps.explorer.models import Replay, Search
from apps.explorer.question import OPS, ORDERS, SHADOWS, STATUS
from apps.explorer.replayer import WORST_FIRST

LARGEST_ID = 2**63 - 1


class ConditionSerializer(serializers.Serializer[dict[str, Any]]):
    column = serializers.CharField(
        max_length=1000, help_text='"in.<name>", "out.<place>", caller, status or latency_us'
    )
    op = serializers.ChoiceField(choices=OPS)
    value = serializers.JSONField(
        required=False,
        allow_null=True,
        default=None,
        help_text="As the column's type; two of them for between, a list for in",
    )


class AskSerializer(serializers.Serializer[dict[str, Any]]):
    since = serializers.DateTimeField(required=False, help_text="Default: a day before until")
    until = serializers.DateTimeField(required=False, help_text="Default: now")
    revisions = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**31 - 1),
        default=list,
        max_length=100,
        help_text="Numbers; none: all",
    )
    shadow = serializers.ChoiceField(
        choices=SHADOWS, default="no", help_text="Copies of requests: without, only, or with them"
    )
    status = serializers.RegexField(
        rf"^({STATUS.pattern})$", default="", allow_blank=True, help_text="5xx or 503"
    )
    latency_from_ms = serializers.FloatField(default=None, allow_null=True, min_value=0)
    latency_to_ms = serializers.FloatField(default=None, allow_null=True, min_value=0)
    request_id = serializers.CharField(
        default="", allow_blank=True, max_length=500, trim_whitespace=False
    )
    caller = serializers.CharField(
        default="", allow_blank=True, max_length=500, trim_whitespace=False
    )
    error = serializers.CharField(
        default="", allow_blank=True, max_length=500, help_text="What the error's words contain"
    )
    conditions = serializers.ListField(
        child=ConditionSerializer(), default=list, max_length=MOST_CONDITIONS
    )
    order = serializers.ChoiceField(choices=ORDERS, default="newest")
    limit = serializers.IntegerField(default=1000, min_value=1, max_value=MOST_ROWS)


class SearchSerializer(serializers.ModelSerializer[Search]):
    asked_by = serializers.CharField(source="asked_by.username", allow_null=True)
    state = serializers.ChoiceField(choices=[s.value for s in State])
    question = serializers.DictField()
    has_result = serializers.BooleanField(help_text="There is something to read or download")

    class Meta:
        model = Search
        fields = (
            "id", "endpoint", "question", "asked_by", "state", "files_total", "files_done", "found",
            "shown", "truncated", "has_result", "size_bytes", "reason", "created_at",
            "finished_at", "expires_at",
        )  # fmt: skip
        read_only_fields = fields


class PageSerializer(serializers.Serializer[dict[str, Any]]):
    start = serializers.IntegerField(default=0, min_value=0, max_value=MOST_ROWS)
    count = serializers.IntegerField(default=50, min_value=0, max_value=1000)
    sort = serializers.CharField(
        default="", allow_blank=True, max_length=1001, help_text="A column; -column: downwards"
    )


class SearchPageSerializer(PageSerializer):
    bodies = serializers.BooleanField(
        default=False, help_text="With request, response and error as they were recorded"
    )


class SearchDetailSerializer(SearchSerializer):
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.DictField())
    waiting_rows = serializers.IntegerField(
        help_text="Requests that are counted and in no file yet; a search does not see them"
    )

    class Meta(SearchSerializer.Meta):
        fields: Any = (*SearchSerializer.Meta.fields, "columns", "rows", "waiting_rows")
        read_only_fields = fields


class DownloadSerializer(serializers.Serializer[dict[str, Any]]):
    def get_fields(self) -> dict[str, Any]:
        # "as" is a word of Python's.
        return {"as": serializers.ChoiceField(choices=["parquet", "csv"], default="parquet")}


class AskReplaySerializer(serializers.Serializer[dict[str, Any]]):
    revision = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, help_text="The number of the one that is asked"
    )
    search = serializers.IntegerField(
        required=False, min_value=1, max_value=LARGEST_ID, help_text="Whose result is replayed"
    )
    request_id = serializers.CharField(required=False, max_length=500, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("search" in attrs) == ("request_id" in attrs):
            raise serializers.ValidationError("Give either search or request_id")
        return attrs


class ReplaySerializer(serializers.ModelSerializer[Replay]):
    asked_by = serializers.CharField(source="asked_by.username", allow_null=True)
    revision = serializers.IntegerField(source="revision.number")
    version = serializers.IntegerField(source="revision.version.number")
    state = serializers.ChoiceField(choices=[s.value for s in State])

    class Meta:
        model = Replay
        fields = (
            "id", "endpoint", "search", "request_id", "revision", "version", "asked_by", "state",
            "total", "done", "equal", "differing", "failed", "left_out", "largest_difference",
            "reason", "created_at", "finished_at", "expires_at",
        )  # fmt: skip
        read_only_fields = fields


class ReplayedSerializer(serializers.Serializer[dict[str, Any]]):
    id = serializers.CharField()
    at = serializers.DateTimeField()
    revision = serializers.IntegerField(help_text="The id of the one that answered then")
    version = serializers.IntegerField()
    outcome = serializers.ChoiceField(choices=WORST_FIRST)
    words = serializers.CharField()
    difference = serializers.FloatField(allow_null=True)
    status_before = serializers.IntegerField()
    status_after = serializers.IntegerField(allow_null=True)
    error_before = serializers.CharField(
        allow_null=True, help_text="What the model raised when it was asked first"
    )
    request = serializers.CharField(allow_null=True, help_text="JSON")
    before = serializers.CharField(allow_null=True, help_text="JSON")
    after = serializers.CharField(allow_null=True, help_text="JSON")


class ReplayDetailSerializer(ReplaySerializer):
    rows = ReplayedSerializer(many=True)

    class Meta(ReplaySerializer.Meta):
        fields: Any = (*ReplaySerializer.Meta.fields, "rows")
        read_only_fields = fields


class LogRequestSerializer(serializers.Serializer[dict[str, Any]]):
    request_id = serializers.CharField(max_length=500)
    days = serializers.IntegerField(default=2, min_value=1, max_value=31)
    at = serializers.DateTimeField(
        required=False, help_text="When it came, where that is known: it is found at once"
    )


class LoggedSerializer(serializers.Serializer[dict[str, Any]]):
    id = serializers.CharField()
    at = serializers.DateTimeField()
    revision = serializers.IntegerField()
    version = serializers.IntegerField()
    status = serializers.IntegerField()
    latency_us = serializers.IntegerField()
    format = serializers.CharField()
    caller = serializers.CharField()
    shadow = serializers.BooleanField()
    request = serializers.JSONField()
    response = serializers.JSONField()
    error = serializers.CharField()
    share = serializers.FloatField(
        help_text="How likely it was that this request would be kept; failures always are"
    )
    differs = serializers.CharField(help_text="From the first answer, in words; empty: the same")


class OneLabelSerializer(serializers.Serializer[Any]):
    row = serializers.IntegerField()
    label = serializers.JSONField()  # type: ignore[assignment]  # DRF takes it for a field
    observed_at = serializers.DateTimeField()


class LogSerializer(serializers.Serializer[dict[str, Any]]):
    results = LoggedSerializer(many=True, help_text="What a caller got first, then its copies")
    labels = OneLabelSerializer(many=True)
    not_before = serializers.DateTimeField(
        allow_null=True, help_text="Older rows were not looked at, for want of time; search for it"
    )
