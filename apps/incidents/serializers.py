"""Shapes of incidents and monitors in the API. They translate and decide nothing."""

from typing import Any

from rest_framework import serializers

from apps.incidents.models import Alert, Incident, IncidentNote

BIGGEST = 2_147_483_647


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """One firing of a monitor."""

    monitor = serializers.CharField(source="watch.rule")
    metric = serializers.CharField(source="watch.metric")
    column = serializers.CharField(source="watch.subject", help_text='"": not of one column')
    version = serializers.IntegerField(
        source="watch.served.version.number", allow_null=True, default=None
    )

    class Meta:
        model = Alert
        fields = (
            "id", "monitor", "metric", "column", "version", "severity", "headline", "words",
            "rank", "evidence", "opened_at", "closed_at",
        )  # fmt: skip


class NoteSerializer(serializers.ModelSerializer[IncidentNote]):
    author = serializers.CharField(source="author.username")

    class Meta:
        model = IncidentNote
        fields = ("id", "author", "at", "text")


class IncidentSerializer(serializers.ModelSerializer[Incident]):
    """All alerts of an endpoint that have one cause."""

    model = serializers.CharField(source="endpoint.model.name")
    environment = serializers.CharField(source="endpoint.environment.name")
    version = serializers.IntegerField(
        source="served.version.number", allow_null=True, default=None
    )
    assignee = serializers.CharField(source="assignee.username", allow_null=True, default=None)
    acknowledged_by = serializers.CharField(
        source="acknowledged_by.username", allow_null=True, default=None
    )
    resolved_by = serializers.CharField(
        source="resolved_by.username",
        allow_null=True,
        default=None,
        help_text="null with a time: it ended by itself",
    )

    class Meta:
        model = Incident
        fields = (
            "id", "endpoint", "number", "model", "environment", "version", "title", "severity",
            "state", "assignee", "acknowledged_by", "acknowledged_at", "muted_until", "opened_at",
            "resolved_at", "resolved_by", "revision",
        )  # fmt: skip


class ChangeSerializer(serializers.Serializer[Any]):
    """Something that changed shortly before an incident."""

    at = serializers.DateTimeField()
    kind = serializers.CharField()
    words = serializers.CharField()
    detail = serializers.CharField()
    url = serializers.CharField()


class IncidentDetailSerializer(serializers.Serializer[dict[str, Any]]):
    incident = IncidentSerializer()
    alerts = AlertSerializer(many=True, help_text="open ones first, the most important first")
    notes = NoteSerializer(many=True)
    changes = ChangeSerializer(many=True, help_text="in the day before it began, newest first")


class IncidentTableSerializer(serializers.Serializer[dict[str, Any]]):
    unit = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(), help_text="null: not measured")


class IncidentChartSerializer(serializers.Serializer[dict[str, Any]]):
    """What an incident's first alert saw; without data where it has no chart."""

    figure = serializers.DictField(help_text="A Plotly figure: data and layout")
    table = IncidentTableSerializer()
    words = serializers.CharField(help_text="What it shows, and of when", allow_blank=True)
    note = serializers.CharField(help_text="Why there is nothing", allow_blank=True)


class IncidentChartRequestSerializer(serializers.Serializer[dict[str, Any]]):
    only = serializers.ChoiceField(
        choices=["figure"], required=False, help_text="The Plotly figure alone, without its table"
    )
    width = serializers.IntegerField(
        default=720, min_value=200, max_value=2000, help_text="Of the picture, in pixels"
    )
    height = serializers.IntegerField(
        default=360, min_value=120, max_value=2000, help_text="Of the picture, in pixels"
    )


class MonitorSerializer(serializers.Serializer[Any]):
    """A monitor of an endpoint: where it stands, and what it could have seen."""

    name = serializers.CharField(source="rule.name")
    metric = serializers.CharField(source="rule.metric")
    version = serializers.IntegerField(allow_null=True)
    window_seconds = serializers.IntegerField(source="rule.window")
    severity = serializers.CharField(source="rule.severity")
    state = serializers.CharField(help_text="waiting, quiet, firing or held")
    words = serializers.CharField(help_text="the last reading, or why there is none")
    value = serializers.SerializerMethodField()
    is_blind = serializers.BooleanField(help_text="its last window had too little data")
    is_muted = serializers.BooleanField()
    last_enough_at = serializers.DateTimeField(
        source="watch.last_enough_at", allow_null=True, default=None
    )
    smallest = serializers.FloatField(
        source="watch.smallest",
        allow_null=True,
        default=None,
        help_text="the smallest change that its last window could have shown",
    )
    smallest_words = serializers.CharField()
    evaluated_at = serializers.DateTimeField(
        source="watch.evaluated_at", allow_null=True, default=None
    )
    error = serializers.CharField(
        source="broken.error",
        default="",
        help_text='why no monitor of this endpoint can be read; "" where they can',
    )
    error_since = serializers.DateTimeField(
        source="broken.broken_since", allow_null=True, default=None
    )

    def get_value(self, monitor: Any) -> float | None:
        return None if monitor.watch is None else monitor.watch.reading.get("value")


class RevisionSerializer(serializers.Serializer[dict[str, Any]]):
    revision = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=BIGGEST,
        default=None,
        help_text="the one you know: refused when the incident has changed since",
    )


class ReasonSerializer(RevisionSerializer):
    reason = serializers.CharField(required=False, allow_blank=True, default="", max_length=2000)


class AssignSerializer(RevisionSerializer):
    username = serializers.CharField(max_length=150, allow_null=True, help_text="null: to nobody")


class MuteSerializer(RevisionSerializer):
    until = serializers.DateTimeField(
        allow_null=True, help_text="within 31 days; null: mails come again"
    )


class MonitorMuteSerializer(serializers.Serializer[dict[str, Any]]):
    until = serializers.DateTimeField(
        allow_null=True, help_text="within 31 days; null: it fires again"
    )


class WriteNoteSerializer(serializers.Serializer[dict[str, Any]]):
    text = serializers.CharField(max_length=10_000)
