"""The one chart of an incident: what its first alert saw, as a Plotly figure and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.baselines.layout import SCORE_BINS, Kind
from apps.baselines.meaning import INPUT
from apps.core.templatetags.formats import format_duration, format_instant
from apps.incidents.models import Alert, Incident
from apps.monitoring.charts import features
from apps.monitoring.charts.parts import (
    REFERENCE,
    Json,
    Values,
    level,
    line,
    of_revision,
    over_time,
    pairs,
)
from apps.monitoring.models import Slice
from apps.monitoring.selectors import charts, columns, drift
from apps.monitoring.selectors import requests as monitoring
from apps.quality import charts as quality_charts
from apps.quality import selectors as quality
from apps.registry.monitors_policy import COLUMN_SHARES, COLUMNS, FAMILIES, LATENCIES, SHARES
from apps.serving.models import Revision

HOURS = 6
STEP_SECONDS = 300
STEPS = (300, 900, 3600, 10_800, 21_600, 86_400, 604_800)
POINTS = 60  # of a line of quality: each has an interval, which takes labels
LABEL_POINTS = 14  # each is counted anew
NAMES = {"baseline": "Reference", "previous": "Window before"}
SIGNALS = {
    "missing": "missing",
    "absent": "absent",
    "wrong": "wrong type",
    "non_finite": "not finite",
    "unseen": "never seen",
    "below": "below range",
    "above": "above range",
}
NOT_DRAWN = {
    "capture_dropped": "Records that were not kept have no chart: nobody can draw what was lost."
    " How many they were stands below."
}
NOTHING = "What it saw can be drawn no longer: its rows, baseline or slice are not there any more."


@dataclass(frozen=True)
class Rows:
    """Of which rows an alert's figures are."""

    until: datetime
    window: timedelta
    enough: int | None
    against: str
    slice: Slice | None

    @property
    def since(self) -> datetime:
        return self.until - self.window


def of(incident: Incident, alerts: Sequence[Alert], now: datetime) -> Json | None:
    """It draws the first alert that has something to draw; None where none has.

    With the same as a table, and in words what of when it is.
    """
    # An input tells more about the cause than what followed from it.
    for alert in sorted(alerts, key=lambda one: not _is_input(one)):
        drawn = _of(incident, alert, incident.resolved_at or max(now, incident.opened_at), now)
        if drawn is not None:
            return {"note": "", **drawn}
    return None


def empty(alerts: Sequence[Alert]) -> Json:
    """A chart without data, which says why: where none of the alerts has anything to draw."""
    why = why_none(alerts) or NOTHING
    return {
        "figure": {"data": [], "layout": {"meta": {"empty": why}}},
        "table": {"unit": "", "columns": [], "rows": []},
        "note": why,
        "words": "",
    }


def why_none(alerts: Sequence[Alert]) -> str:
    """It says why there is no picture, where none of the alerts could ever have one."""
    if not alerts or any(alert.watch.metric not in NOT_DRAWN for alert in alerts):
        return ""
    return NOT_DRAWN[alerts[0].watch.metric]


def _is_input(alert: Alert) -> bool:
    return str(alert.evidence.get("column") or "").startswith(INPUT)


def _of(incident: Incident, alert: Alert, until: datetime, now: datetime) -> Json | None:
    watch = alert.watch
    family = watch.metric.partition(":")[0]
    if watch.metric in NOT_DRAWN:
        return None
    if watch.metric in COLUMNS or watch.metric == "labels" or family in FAMILIES:
        rows = _rows(incident, alert)
        if rows is None:
            return None
        if watch.metric in COLUMNS:
            return _column(alert, rows, now)
        return _labels(incident, rows) if family == "labels" else _quality(incident, alert, rows)
    if watch.metric == "saturation":
        return _saturation(incident, until)
    return _lines(incident, alert, until)


def _rows(incident: Incident, alert: Alert) -> Rows | None:
    """None where they are of a slice that is gone: other rows would be another story."""
    seen = alert.evidence
    part = None
    if seen.get("slice"):
        # A name may have been given twice, after the first one was retired.
        named = incident.endpoint.slices.filter(name=seen["slice"])
        part = named.filter(created_at__lte=alert.opened_at).order_by("-created_at").first()
        if part is None:
            return None
    if "window_seconds" not in seen:
        return None
    return Rows(
        datetime.fromisoformat(seen["until"]),
        timedelta(seconds=seen["window_seconds"]),
        seen.get("enough"),
        seen.get("against", "baseline"),
        part,
    )


# ---- columns --------------------------------------------------------------------------------


def _column(alert: Alert, rows: Rows, now: datetime) -> Json | None:
    """The rows that the alert was of: with those before that it took to have rows enough."""
    served, name = alert.watch.served, alert.evidence.get("column")
    if not name or served is None:
        return None
    seen = drift.of(
        served,
        rows.since,
        rows.until,
        against=rows.against,
        slice=rows.slice,
        at_least=rows.enough,
        now=now,
    )
    found = next((one for one in seen.columns if one.name == name), None)
    if found is None:
        return None
    look = features.Look(
        (NAMES[rows.against], "Window"),
        found.label,
        (REFERENCE, of_revision(_Serving(served))),
    )
    if alert.watch.metric in COLUMN_SHARES:
        drawn = _shares(found, look)
    else:
        drawn = _bins(served, name, rows, seen, look)
    window = format_duration((seen.until - seen.since).total_seconds())
    words = f"{found.label} of {seen.rows:,} rows in {window} until {format_instant(seen.until)}"
    part = f", slice {rows.slice.name}" if rows.slice else ""
    wider = ", longer than asked for, to have rows enough" if seen.widened else ""
    return drawn | {"words": f"{words}{part}{wider}"}


@dataclass(frozen=True)
class _Serving:
    """What has a version's colour."""

    revision: Revision


def _bins(served: Revision, name: str, rows: Rows, seen: drift.Drift, look: features.Look) -> Json:
    """Shares of a column's bins, of what it is compared with and of the window."""
    wanted = columns.Wanted(
        served, seen.since, seen.until, against=rows.against, slice=rows.slice, column=name
    )
    layout, reference, window = columns.counted(wanted, seen)
    column, (start, stop) = layout.by_name[name], layout.slices[name]
    labels, before, now = column.labels(), reference[start:stop], window[start:stop]
    if column.kind is Kind.SCORE:  # twice the same bins, by the class that was answered
        labels = [f"{place / SCORE_BINS:.2f}" for place in range(SCORE_BINS)]
        before, now = (counts.reshape(2, -1).sum(axis=0) for counts in (before, now))
    return features.distribution(labels, before.tolist(), now.tolist(), look)


def _shares(found: Any, look: features.Look) -> Json:
    """What is wrong with rows, each by its share of all: bins of the values would hide it."""
    told = [
        (words, share.reference, share.window)
        for name, words in SIGNALS.items()
        for share in [getattr(found, name)]
        if share.window is not None
    ]
    labels = [words for words, _, _ in told]
    sides = ([before for _, before, _ in told], [now for _, _, now in told])
    traces = [
        {"type": "bar", "name": name, "x": labels, "y": values, "marker": {"color": colour},
         "hovertemplate": "%{y:.2%}"}
        for name, values, colour in zip(look.names, sides, look.colours, strict=True)
    ]  # fmt: skip
    return {
        "figure": {
            "data": traces,
            "layout": {
                "barmode": "group",
                "bargap": 0.15,
                "xaxis": {"type": "category", "title": {"text": look.title}},
                "yaxis": {
                    "title": {"text": "share of rows"},
                    "tickformat": ".1~%",
                    "rangemode": "tozero",
                },
            },
        },
        "table": {
            "unit": "share of rows; never seen and out of range: of values",
            "columns": ["what", *look.names],
            "rows": [list(row) for row in told],
        },
    }


# ---- quality --------------------------------------------------------------------------------


def _quality(incident: Incident, alert: Alert, rows: Rows) -> Json | None:
    """The metric over the window and the one before, by when it was predicted."""
    served, family = alert.watch.served, alert.watch.metric.partition(":")[0]
    name = alert.evidence.get("metric")
    if served is None or name is None:
        return None
    span = (rows.since - rows.window, rows.until)
    step = _step((span[1] - span[0]) / POINTS)
    if family == "estimated":
        estimate = quality.estimated_series(served, *span, step, name, slice=rows.slice)
        lines = [estimate] if estimate else []
    else:
        lines = quality.series(
            incident.endpoint, *span, step, name, revision=served, slice=rows.slice
        )
    if not lines:
        return None
    reference = quality.reference_of(served).values.get(name)
    drawn = quality_charts.trend(name, lines, reference, span)
    part = f", slice {rows.slice.name}" if rows.slice else ""
    return drawn | {"words": f"{name} by when it was predicted, with its reference{part}"}


def _labels(incident: Incident, rows: Rows) -> Json | None:
    """The share of predictions whose label has come, over the window and the one before."""
    step = timedelta(seconds=_step(2 * rows.window / LABEL_POINTS))
    first = rows.since - rows.window
    at = [first + place * step for place in range(-(-2 * rows.window // step))]
    shares: list[float | None] = []
    for begin in at:
        end = min(begin + step, rows.until)
        seen = quality.measured(incident.endpoint, begin, end, slice=rows.slice, only=())
        shares.append(seen.labels / seen.predictions if seen.predictions else None)
    if not any(share is not None for share in shares):
        return None
    name = "labelled"
    drawn = over_time(
        [line(name, at, shares, "var(--series-0)", hovertemplate="%{y:.1%}")],
        "share of predictions",
        at,
        {name: shares},
        yaxis={"tickformat": ".0~%", "rangemode": "tozero"},
    )
    return drawn | {"words": "Predictions whose label has come, by when they were made"}


def _step(wanted: timedelta) -> int:
    return next((step for step in STEPS if step >= wanted.total_seconds()), STEPS[-1])


# ---- requests and replicas ------------------------------------------------------------------


def _span(incident: Incident, until: datetime) -> tuple[datetime, datetime, int]:
    """The last hours before it began, up to its end, and how fine they are drawn."""
    since = min(incident.opened_at, until) - timedelta(hours=HOURS)
    since = max(since, until - timedelta(days=3))
    return since, until, STEP_SECONDS if until - since <= timedelta(days=1) else 3600


def _saturation(incident: Incident, until: datetime) -> Json | None:
    """How near the replicas were to their limits: requests in flight, processors and memory."""
    since, until, step = _span(incident, until)
    drawn = charts.of(incident.endpoint, "saturation", charts.Asked(since, until, step, step))
    if not drawn["figure"]["data"]:
        return None
    return drawn | {"words": "Requests in flight, processors and memory, of what there is room for"}


def _lines(incident: Incident, alert: Alert, until: datetime) -> Json:
    """The last hours of every revision, with a mark where it began and the alert's limit."""
    metric = alert.watch.metric
    since, until, step = _span(incident, until)
    series = monitoring.series(incident.endpoint, since, until, step)
    value, unit = _value(metric)
    named: dict[str, Values] = {}
    traces = []
    for name, one in pairs(series):
        named[name] = [value(one, place) for place in range(len(one.at))]
        traces.append(line(name, one.at, named[name], of_revision(one)))
    began = incident.opened_at.isoformat()
    shapes = [{"type": "line", "xref": "x", "yref": "paper", "x0": began, "x1": began, "y0": 0,
               "y1": 1, "line": {"color": "var(--bad)", "width": 1, "dash": "dot"}}]  # fmt: skip
    limit = alert.evidence.get("limit")
    if limit is not None and metric != "freshness":  # whose limit is of another unit
        shapes.append(level(100 * limit if metric in SHARES else limit))
    drawn = over_time(
        traces,
        unit,
        series[0].at if series else [],
        named,
        shapes=shapes,
        yaxis={"rangemode": "tozero"},
    )
    return drawn | {"words": f"{unit}, of each version; the upright line: where it began"}


def _value(metric: str) -> tuple[Any, str]:
    """How a metric is read from a series, and its unit."""
    if metric in LATENCIES:
        field = f"{metric.removeprefix('latency_')}_ms"
        return (lambda one, place: getattr(one, field)[place]), "ms"
    if metric in SHARES:
        name = "errors" if metric == "errors" else "client_errors"
        return (lambda one, place: _share(getattr(one, name)[place], one.rate[place])), "% of all"
    return (lambda one, place: one.rate[place]), "requests / s"


def _share(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None
