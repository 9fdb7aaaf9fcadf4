"""The one chart of an incident: what its first alert saw, as a Plotly figure."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from apps.baselines import selectors as baselines
from apps.baselines.layout import SCORE_BINS, Kind
from apps.baselines.meaning import INPUT
from apps.core.templatetags.formats import revision_index
from apps.incidents.models import Alert, Incident
from apps.monitoring.selectors import requests as monitoring
from apps.monitoring.selectors import tallies
from apps.registry.monitors_policy import COLUMNS, LATENCIES
from apps.serving.models import Revision

Json = dict[str, Any]
HOURS = 6
STEP_SECONDS = 300
MOST_BARS = 50


def of(incident: Incident, alerts: Sequence[Alert], now: datetime) -> Json | None:
    """It draws the first alert that has something to draw; None where none has."""
    # An input tells more about the cause than what followed from it.
    for alert in sorted(alerts, key=lambda one: not _is_input(one)):
        drawn = _of(incident, alert, incident.resolved_at or max(now, incident.opened_at))
        if drawn is not None:
            return drawn
    return None


def _is_input(alert: Alert) -> bool:
    return str(alert.evidence.get("column") or "").startswith(INPUT)


def _of(incident: Incident, alert: Alert, until: datetime) -> Json | None:
    watch = alert.watch
    if watch.metric in COLUMNS:
        column = alert.evidence.get("column")
        if not column or watch.served is None:
            return None
        window = timedelta(days=1) if watch.metric == "drift" else timedelta(hours=1)
        return _bars(watch.served, column, alert.opened_at - window, alert.opened_at)
    if watch.metric in ("quality", "labels") or ":" in watch.metric:
        return None
    return _lines(incident, watch.metric, until)


def _bars(served: Revision, column: str, since: datetime, until: datetime) -> Json | None:
    """Shares of a column's bins, in the baseline and in the window."""
    baseline = baselines.in_force(served.version)
    if baseline is None:
        return None
    shape = baselines.shape(baseline)
    found = [one for one in shape.layout.columns if one.name == column]
    place = shape.layout.slices.get(column)
    if not found or place is None:
        return None
    window = tallies.window(served.endpoint, baseline, since, until, revisions=[served])
    before, now = (counts[place[0] : place[1]] for counts in (shape.counts, window.counts))
    labels = list(found[0].labels())
    if found[0].kind is Kind.SCORE:  # twice the same bins, by the class that was answered
        labels = [f"{bin / SCORE_BINS:.2f}" for bin in range(SCORE_BINS)]
        before, now = (counts.reshape(2, -1).sum(axis=0) for counts in (before, now))
    traces = [
        _bar("Reference", labels[:MOST_BARS], before, "var(--line-strong)"),
        _bar("Window", labels[:MOST_BARS], now, _colour(served)),
    ]
    return {
        "data": traces,
        "layout": {
            "barmode": "group",
            "xaxis": {"type": "category", "title": {"text": column.removeprefix("in.")}},
            "yaxis": {"title": {"text": "share of rows"}, "tickformat": ".0%"},
        },
    }


def _bar(name: str, labels: list[str], counts: Any, colour: str) -> Json:
    total = max(1, int(counts.sum()))
    return {
        "type": "bar",
        "name": name,
        "x": labels,
        "y": [int(count) / total for count in counts[: len(labels)]],
        "marker": {"color": colour},
    }


def _lines(incident: Incident, metric: str, until: datetime) -> Json:
    """The last hours of every revision, with a mark where it began."""
    since = min(incident.opened_at, until) - timedelta(hours=HOURS)
    since = max(since, until - timedelta(days=3))
    step = STEP_SECONDS if until - since <= timedelta(days=1) else 3600
    series = monitoring.series(incident.endpoint, since, until, step)
    value, unit = _value(metric)
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"v{one.revision.version.number}",
            "x": [at.isoformat() for at in one.at],
            "y": [value(one, place) for place in range(len(one.at))],
            "line": {"color": _colour(one.revision), "width": 2},
            "connectgaps": False,
        }
        for one in series
    ]
    began = incident.opened_at.isoformat()
    mark = {"type": "line", "xref": "x", "yref": "paper", "x0": began, "x1": began, "y0": 0,
            "y1": 1, "line": {"color": "var(--bad)", "width": 1, "dash": "dot"}}  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "xaxis": {"type": "date"},
            "yaxis": {"title": {"text": unit}, "rangemode": "tozero"},
            "shapes": [mark],
        },
    }


def _value(metric: str) -> tuple[Any, str]:
    """How a metric is read from a series, and its unit."""
    if metric in LATENCIES:
        field = f"{metric.removeprefix('latency_')}_ms"
        return (lambda one, place: getattr(one, field)[place]), "ms"
    if metric in ("errors", "rejected"):
        name = "errors" if metric == "errors" else "client_errors"
        return (lambda one, place: _share(getattr(one, name)[place], one.rate[place])), "% of all"
    return (lambda one, place: one.rate[place]), "requests / s"


def _share(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None


def _colour(revision: Revision) -> str:
    return f"var(--series-{revision_index(revision.version.number)})"
