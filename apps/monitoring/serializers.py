"""Shapes of monitoring's API."""

from datetime import datetime, timedelta
from typing import Any

from rest_framework import serializers

from apps.monitoring import spans
from apps.monitoring.charts.requests import PERCENTILES, USUAL
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.selectors import charts
from apps.serving.models import Endpoint, Revision

CHART_KINDS = sorted(charts.KINDS)
COMPARE = (
    "What the columns of the revision are compared with: baseline, previous (the window of the "
    "same length before), or the number of another revision, whose rows of the same time are "
    "taken. Charts of requests show only the revisions named. Two with a comma: the first against "
    "the second. A revision is never compared with itself, but with the baseline."
)
DAY = timedelta(days=1)


class WindowSerializer(serializers.Serializer[dict[str, Any]]):
    window = serializers.ChoiceField(
        choices=list(spans.WINDOWS), required=False, help_text="Its length; instead of since"
    )
    since = serializers.DateTimeField(required=False, help_text="Default: an hour before until")
    until = serializers.DateTimeField(required=False, help_text="Default: now")
    origin = serializers.ChoiceField(
        choices=Rollup.From.choices,
        default=Rollup.From.GATEWAY,
        help_text="What callers got (gateway), or what the model itself did for them (server) "
        "and for copies of requests, whose answers reach nobody (shadow)",
    )

    usual = timedelta(hours=1)

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """It gives the window that was asked for. Raises: ValidationError."""
        asked = self.validated_data
        until = asked.get("until") or now - timedelta(seconds=spans.LATE_SECONDS)
        try:
            since = asked.get("since") or until - (
                spans.WINDOWS[asked["window"]] if "window" in asked else self.usual
            )
        except OverflowError as wrong:
            raise serializers.ValidationError({"until": ["Before all time"]}) from wrong
        if not since < until:
            raise serializers.ValidationError({"since": ["The beginning must lie before the end"]})
        if until - since > spans.LONGEST:
            raise serializers.ValidationError(
                {"since": [f"At most {spans.LONGEST.days} days at once"]}
            )
        return since, until


class RowsSerializer(WindowSerializer):
    """A window of one revision's rows, and what they are compared with."""

    revision = serializers.IntegerField(
        required=False, min_value=1, help_text="Its number; default: the stable one"
    )
    compare = serializers.RegexField(
        r"^(baseline|previous|\d{1,9}(,\d{1,9})?)$", default="baseline", help_text=COMPARE
    )
    slice = serializers.IntegerField(required=False, min_value=1, help_text="Its id")

    usual = DAY

    def revision_of(self, endpoint: Endpoint) -> Revision | None:
        """It gives the revision that was asked for, or the stable one, or else the newest."""
        rows = endpoint.revisions.select_related("version__model", "endpoint")
        number = self.validated_data.get("revision")
        if number is None and len(self.named) > 1:
            number = self.named[0]
        if number is None:
            newest = rows.order_by("-number")
            stable = newest.filter(pk=endpoint.stable_id) if endpoint.stable_id else newest
            return stable.first()
        return self._found(endpoint, number, "revision")

    def other_of(self, endpoint: Endpoint, revision: Revision | None) -> Revision | None:
        """It gives the revision whose rows those of `revision` are compared with, if one is."""
        found = [self._found(endpoint, number, "compare") for number in self.named]
        return next((one for one in found if revision is not None and one != revision), None)

    def _found(self, endpoint: Endpoint, number: int, field: str) -> Revision:
        rows = endpoint.revisions.select_related("version__model", "endpoint")
        found = rows.filter(number=number).first()
        if found is None:
            raise serializers.ValidationError({field: [f"There is no revision {number}"]})
        return found

    @property
    def named(self) -> list[int]:
        """The revisions to compare with, by their numbers."""
        compare = self.validated_data["compare"]
        return [int(part) for part in compare.split(",")] if compare[0].isdigit() else []

    def slice_of(self, endpoint: Endpoint) -> Slice | None:
        pk = self.validated_data.get("slice")
        found = endpoint.slices.filter(pk=pk).first() if pk else None
        if pk and found is None:
            raise serializers.ValidationError({"slice": [f"There is no slice {pk}"]})
        return found

    @property
    def against(self) -> str:
        return "previous" if self.validated_data["compare"] == "previous" else "baseline"


class ChartRequestSerializer(RowsSerializer):
    step = serializers.IntegerField(
        required=False, min_value=10, help_text="Seconds a point; default: about 180 points"
    )
    column = serializers.CharField(
        required=False, default="", max_length=300, help_text="One column, such as in.distance"
    )
    percentiles = serializers.CharField(
        required=False,
        default="",
        allow_blank=True,
        max_length=60,
        help_text=f"Of latency, with commas: {', '.join(PERCENTILES)}; default: all of them in the "
        f"table, of which {', '.join(USUAL)} are drawn",
    )
    only = serializers.ChoiceField(
        choices=["figure"], required=False, help_text="The Plotly figure alone, without its table"
    )
    width = serializers.IntegerField(
        default=720, min_value=200, max_value=2000, help_text="Of the picture, in pixels"
    )
    height = serializers.IntegerField(
        default=360, min_value=120, max_value=2000, help_text="Of the picture, in pixels"
    )

    usual = timedelta(hours=1)

    def validate_percentiles(self, given: str) -> tuple[str, ...]:
        wanted = tuple(part.strip() for part in given.split(",") if part.strip())
        if not set(wanted) <= set(PERCENTILES):
            raise serializers.ValidationError(f"Choose of {', '.join(PERCENTILES)}")
        return wanted

    def asked(self, endpoint: Endpoint, now: datetime) -> charts.Asked:
        """It gives what shall be drawn. Raises: ValidationError."""
        given = self.validated_data
        since, until = self.span(now)
        step = given.get("step") or spans.step_of_requests(since, until, now)
        if "until" not in given:
            until = spans.before(until, step)
        revision = self.revision_of(endpoint)
        return charts.Asked(
            since=since,
            until=until,
            step_seconds=step,
            row_step_seconds=spans.step_of_rows(since, until, now),
            origin=Rollup.From(given["origin"]),
            revision=revision,
            among=self._among(),
            against=self.against,
            other=self.other_of(endpoint, revision),
            slice=self.slice_of(endpoint),
            column=given["column"],
            percentiles=given["percentiles"],
        )

    def _among(self) -> frozenset[int]:
        """The revisions in charts of requests: all, unless some are compared with each other."""
        if not self.named:
            return frozenset()
        one = self.validated_data.get("revision")
        return frozenset([*self.named, *([one] if one else [])])


class TableSerializer(serializers.Serializer[dict[str, Any]]):
    unit = serializers.CharField()
    columns = serializers.ListField(child=serializers.CharField())
    rows = serializers.ListField(child=serializers.ListField(), help_text="null: not measured")


class ChartSerializer(serializers.Serializer[dict[str, Any]]):
    figure = serializers.DictField(help_text="A Plotly figure: data and layout")
    table = TableSerializer()
    note = serializers.CharField(
        allow_blank=True, help_text="What must be known to read it, such as bins that differ"
    )


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
    p90_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    p99_ms = serializers.FloatField(allow_null=True)
    p999_ms = serializers.FloatField(allow_null=True)


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
    left_out = serializers.IntegerField(
        help_text="Rows that stand in the log only, since their request had more than 10,000, of "
        "the last day at most"
    )


class ShareSerializer(serializers.Serializer[Any]):
    window = serializers.FloatField(allow_null=True)
    reference = serializers.FloatField(allow_null=True)
    state = serializers.CharField()


class ColumnDriftSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    role = serializers.CharField()
    kind = serializers.CharField()
    state = serializers.CharField(
        help_text="not_enough_data, redacted, quiet, drifted, critical, or incomparable: dates, "
        "columns without a value in the reference, bins of two revisions with too little in common"
    )
    js = serializers.FloatField(allow_null=True, help_text="JS*, which the state is judged by")
    psi = serializers.FloatField(allow_null=True)
    ks = serializers.FloatField(allow_null=True)
    p = serializers.FloatField(allow_null=True)
    threshold = serializers.FloatField()
    natural = serializers.FloatField(help_text="How far the reference differs from itself")
    smallest = serializers.FloatField(
        allow_null=True, help_text="The smallest JS* that so many rows could have found"
    )
    rows = serializers.IntegerField()
    reference_rows = serializers.IntegerField()
    importance = serializers.FloatField(allow_null=True)
    rank = serializers.FloatField(allow_null=True)
    missing = ShareSerializer()
    absent = ShareSerializer()
    wrong = ShareSerializer()
    unseen = ShareSerializer()
    below = ShareSerializer()
    above = ShareSerializer()
    non_finite = ShareSerializer()


class DriftSerializer(serializers.Serializer[Any]):
    revision = serializers.IntegerField(help_text="Its number")
    version = serializers.IntegerField()
    baseline = serializers.IntegerField(help_text="Its number among the version's")
    against = serializers.CharField(help_text="baseline, previous or revision")
    other = serializers.IntegerField(
        allow_null=True, help_text="The number of the revision that it is compared with"
    )
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    rows = serializers.IntegerField()
    widened = serializers.BooleanField(help_text="Further back, to have rows enough")
    columns = ColumnDriftSerializer(many=True)
    notes = serializers.DictField(
        child=serializers.CharField(),
        help_text="Of two revisions: columns that are compared in joined bins, or not, and why",
    )


class SliceSerializer(serializers.ModelSerializer[Slice]):
    condition = serializers.JSONField(
        help_text='All must hold: [{"column": "in.origin", "op": "eq", "value": "JFK"}]'
    )

    class Meta:
        model = Slice
        fields = ("id", "name", "condition", "created_at", "retired_at")
        read_only_fields = ("id", "created_at", "retired_at")
