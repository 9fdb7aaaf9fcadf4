"""Shapes of monitoring's API."""

from typing import Any

from rest_framework import serializers

from apps.monitoring.charts.requests import KINDS
from apps.monitoring.models import Rollup


class WindowSerializer(serializers.Serializer[dict[str, Any]]):
    since = serializers.DateTimeField(required=False, help_text="Default: an hour before until")
    until = serializers.DateTimeField(required=False, help_text="Default: now")
    origin = serializers.ChoiceField(
        choices=Rollup.From.choices,
        default=Rollup.From.GATEWAY,
        help_text="What callers got (gateway), or what the model itself did for them (server) "
        "and for copies of requests, whose answers reach nobody (shadow)",
    )


class ChartRequestSerializer(WindowSerializer):
    step = serializers.IntegerField(
        required=False, min_value=10, help_text="Seconds a point; default: about 180 points"
    )
    only = serializers.ChoiceField(
        choices=["figure"], required=False, help_text="The Plotly figure alone, without its table"
    )


class TableSerializer(serializers.Serializer[dict[str, Any]]):
    unit = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(), help_text="null: not measured")


class ChartSerializer(serializers.Serializer[dict[str, Any]]):
    figure = serializers.DictField(help_text="A Plotly figure: data and layout")
    table = TableSerializer()


class RevisionSummarySerializer(serializers.Serializer[dict[str, Any]]):
    revision = serializers.IntegerField()
    number = serializers.IntegerField()
    version = serializers.IntegerField()
    requests = serializers.IntegerField()
    rate = serializers.FloatField(help_text="Requests a second")
    client_errors = serializers.IntegerField()
    server_errors = serializers.IntegerField()
    error_rate = serializers.FloatField(allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)


class SummarySerializer(serializers.Serializer[dict[str, Any]]):
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    revisions = RevisionSummarySerializer(many=True)
    dropped = serializers.IntegerField(
        help_text="Records that the model servers could not keep, of the last day at most"
    )
    set_aside = serializers.IntegerField(
        help_text="Segments of records that could not be read or logged and lie in the data "
        "directory's spool/rejected, of the last day at most"
    )


class LogRequestSerializer(serializers.Serializer[dict[str, Any]]):
    request_id = serializers.CharField(max_length=500)
    days = serializers.IntegerField(default=2, min_value=1, max_value=31)


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


class LogSerializer(serializers.Serializer[dict[str, Any]]):
    results = LoggedSerializer(many=True)


CHART_KINDS = sorted(KINDS)
