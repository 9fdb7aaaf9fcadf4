"""Draws an endpoint's traffic, errors and latency: series in, Plotly figure and table out. Pure.

Colours are names of the page's tokens ("var(--series-3)"), which static/core/charts.js replaces by
those of the reader's theme. A version has the same colour on every page.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from apps.core.templatetags.formats import revision_index

if TYPE_CHECKING:
    from apps.monitoring.selectors.requests import Series

Json = dict[str, Any]
PERCENTILES = {"p50": "solid", "p95": "dash", "p99": "dot"}


def traffic(series: "Sequence[Series]") -> Json:
    """It shows who answered how many requests a second, as layers that add up."""
    names = _names(series)
    traces = [
        _trace(one, name, one.rate, stackgroup="all") | {"hovertemplate": "%{y:.3~s} /s"}
        for one, name in zip(series, names, strict=True)
    ]
    return _chart(traces, "requests / s", series, {n: s.rate for n, s in _pairs(names, series)})


def errors(series: "Sequence[Series]") -> Json:
    """It shows the answers that failed: ours in full lines, callers' mistakes dotted."""
    traces, columns = [], {}
    for name, one in _pairs(_names(series), series):
        for label, values, dash in (
            (f"{name} 5xx", one.errors, "solid"),
            (f"{name} 4xx", one.client_errors, "dot"),
        ):
            if dash == "solid" or any(values):
                traces.append(_trace(one, label, values, dash) | {"hovertemplate": "%{y:.3~s} /s"})
                columns[label] = values
    return _chart(traces, "failed / s", series, columns)


def latency(series: "Sequence[Series]") -> Json:
    """It shows how long callers waited for answers, in percentiles."""
    traces, columns = [], {}
    for name, one in _pairs(_names(series), series):
        for label, dash in PERCENTILES.items():
            values = getattr(one, f"{label}_ms")
            traces.append(
                _trace(one, f"{name} {label}", values, dash) | {"hovertemplate": "%{y:.3~s} ms"}
            )
            columns[f"{name} {label}"] = values
    return _chart(traces, "ms", series, columns)


KINDS: dict[str, Callable[["Sequence[Series]"], Json]] = {
    "traffic": traffic,
    "errors": errors,
    "latency": latency,
}


def _names(series: "Sequence[Series]") -> list[str]:
    """A version's number says it, unless two revisions serve the same version."""
    numbers = Counter(one.revision.version.number for one in series)
    return [
        f"v{one.revision.version.number}"
        if numbers[one.revision.version.number] == 1
        else f"v{one.revision.version.number} (revision {one.revision.number})"
        for one in series
    ]


def _pairs(names: list[str], series: "Sequence[Series]") -> "list[tuple[str, Series]]":
    return list(zip(names, series, strict=True))


def _trace(
    one: "Series", name: str, values: Sequence[float | None], dash: str = "solid", **more: str
) -> Json:
    colour = f"var(--series-{revision_index(one.revision.version.number)})"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [at.isoformat() for at in one.at],
        "y": list(values),
        "line": {"color": colour, "width": 2, "dash": dash},
        "connectgaps": False,
        **more,
    }


def _chart(
    traces: list[Json],
    unit: str,
    series: "Sequence[Series]",
    columns: dict[str, list[float]] | dict[str, list[float | None]],
) -> Json:
    times = series[0].at if series else []
    return {
        "figure": {
            "data": traces,
            "layout": {"xaxis": {"type": "date"}, "yaxis": {"title": {"text": unit}}},
        },
        "table": {
            "unit": unit,
            "columns": ["at", *columns],
            "rows": [
                [at.isoformat(), *(values[i] for values in columns.values())]
                for i, at in enumerate(times)
            ],
        },
    }
