"""Draws an endpoint's traffic, errors and latency: series in, Plotly figure and table out. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from apps.monitoring.charts.parts import Json, Values, line, names, of_revision, over_time, pairs

if TYPE_CHECKING:
    from apps.monitoring.selectors.requests import Series

# Percentile -> (field of a Series, dash of its line)
PERCENTILES = {
    "p50": ("p50_ms", "solid"),
    "p90": ("p90_ms", "dashdot"),
    "p95": ("p95_ms", "dash"),
    "p99": ("p99_ms", "dot"),
    "p99.9": ("p999_ms", "longdashdot"),
}
USUAL = ("p50", "p95", "p99")
ON_DEMAND: Json = {"visible": "legendonly"}  # drawn when clicked
MOST_ON_DEMAND = 2  # revisions: of more the legend would be longer than the chart is high
SECOND = {"hovertemplate": "%{y:.3~s} /s"}
MS = {"hovertemplate": "%{y:.3~s} ms"}


def traffic(series: "Sequence[Series]") -> Json:
    """It shows who answered how many requests a second, as layers that add up."""
    traces = [
        line(name, one.at, one.rate, of_revision(one), stackgroup="all", **SECOND)
        for name, one in pairs(series)
    ]
    columns: dict[str, Values] = {name: one.rate for name, one in pairs(series)}
    return over_time(traces, "requests / s", _times(series), columns)


def errors(series: "Sequence[Series]") -> Json:
    """It shows the answers that failed: ours in full lines, callers' mistakes dotted."""
    traces, columns = [], dict[str, Values]()
    for name, one in pairs(series):
        for label, values, dash in (
            (f"{name} 5xx", one.errors, "solid"),
            (f"{name} 4xx", one.client_errors, "dot"),
        ):
            if dash == "solid" or any(values):
                traces.append(line(label, one.at, values, of_revision(one), dash=dash, **SECOND))
                columns[label] = values
    return over_time(traces, "failed / s", _times(series), columns)


def latency(series: "Sequence[Series]", percentiles: Sequence[str] = ()) -> Json:
    """It shows how long callers waited for answers, in percentiles.

    Of none that are named, all stand in the table and, of few revisions, in the legend; the usual
    ones are drawn.
    """
    traces, columns = [], dict[str, Values]()
    for name, one in pairs(series):
        for label in percentiles or PERCENTILES:
            field, dash = PERCENTILES[label]
            values = getattr(one, field)
            is_drawn = bool(percentiles) or label in USUAL
            if is_drawn or len(series) <= MOST_ON_DEMAND:
                more = MS if is_drawn else MS | ON_DEMAND
                traces.append(
                    line(f"{name} {label}", one.at, values, of_revision(one), dash=dash, **more)
                )
            columns[f"{name} {label}"] = values
    return over_time(traces, "ms", _times(series), columns)


def gateway(callers: "Sequence[Series]", servers: "Sequence[Series]") -> Json:
    """It shows what the way to the model and back took, apart from the model's own time.

    Both percentiles are of their own histogram, so that their difference is what a caller at that
    percentile waited more; clocks and bins may make it a hair less than nothing, shown as 0.
    """
    inside = {one.revision.pk: one for one in servers}
    traces, columns = [], dict[str, Values]()
    for name, one in zip(names(callers), callers, strict=True):
        model = inside.get(one.revision.pk)
        for label, outer in (("p50", one.p50_ms), ("p95", one.p95_ms)):
            dash = PERCENTILES[label][1]
            inner: Values = getattr(model, f"{label}_ms") if model else [None] * len(one.at)
            between = _less(outer, inner)
            traces.append(
                line(f"{name} gateway {label}", one.at, between, of_revision(one), dash=dash, **MS)
            )
            columns |= {f"{name} gateway {label}": between, f"{name} model {label}": inner}
    return over_time(traces, "ms beside the model", _times(callers), columns)


def _less(outer: Values, inner: Values) -> list[float | None]:
    return [
        None if a is None or b is None else max(0.0, a - b)
        for a, b in zip(outer, inner, strict=True)
    ]


def _times(series: "Sequence[Series]") -> list[datetime]:
    return series[0].at if series else []
