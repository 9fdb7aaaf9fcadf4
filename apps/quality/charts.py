"""Draws quality: figures in, Plotly figure and the same as a table out. Pure.

Colours are names of the page's tokens, as in monitoring's charts.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.core.templatetags.formats import revision_index
from apps.quality.cbpe import BLIND
from apps.quality.marks import Ints
from apps.quality.metrics import LABELS, Calibrated

if TYPE_CHECKING:
    from apps.quality.selectors import Line

Json = dict[str, Any]


def trend(
    metric: str,
    lines: "Sequence[Line]",
    reference: float | None = None,
    span: tuple[datetime, datetime] | None = None,
) -> Json:
    """It shows a metric over time, a line a revision with its interval; estimates are dashed."""
    traces: list[Json] = []
    rows: list[list[Any]] = []
    for line in lines:
        name = f"v{line.revision.version.number}"
        if line.is_estimate:
            name = f"{name} {BLIND}" + (", too good: of training rows" * line.is_of_training)
        colour = f"var(--series-{revision_index(line.revision.version.number)})"
        at = [point.at.isoformat() for point in line.points]
        if not line.is_estimate:
            traces += _band(line, at, colour)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": at,
                "y": [point.figure.value for point in line.points],
                "line": {
                    "color": colour, "width": 2, "dash": "dash" if line.is_estimate else "solid",
                },
                "marker": {"size": 5},
                "connectgaps": False,
                "hovertemplate": "%{y:.3~f}",
            }
        )  # fmt: skip
        rows += [
            [moment, name, point.figure.value, point.figure.low, point.figure.high, point.labels]
            for moment, point in zip(at, line.points, strict=True)
        ]
    layout: Json = {
        "xaxis": {"type": "date"},
        "yaxis": {"title": {"text": LABELS.get(metric, metric)}, "rangemode": "normal"},
    }
    if reference is not None and traces:
        layout["shapes"] = [_level(reference)]
    if span is not None:  # of a single point no chart could tell how wide its axis is to be
        layout["xaxis"]["range"] = [moment.isoformat() for moment in span]
    return {
        "figure": {"data": traces, "layout": layout},
        "table": {
            "unit": LABELS.get(metric, metric),
            "columns": ["at", "version", "value", "low", "high", "labels"],
            "rows": sorted(rows, key=lambda row: (row[0], row[1])),
        },
    }


def calibration(curve: Sequence[Calibrated]) -> Json:
    """It shows how often the positive class came, by the score that foretold it."""
    scores = [one.score for one in curve]
    figure = {
        "data": [
            {
                "type": "scatter", "mode": "lines", "name": "as it should be", "x": [0, 1],
                "y": [0, 1], "line": {"color": "var(--line-strong)", "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
            },
            {
                "type": "scatter", "mode": "lines+markers", "name": "labels", "x": scores,
                "y": [one.share for one in curve],
                "error_y": {
                    "type": "data", "symmetric": False, "thickness": 1, "width": 0,
                    "array": [one.high - one.share for one in curve],
                    "arrayminus": [one.share - one.low for one in curve],
                },
                "line": {"color": "var(--series-0)", "width": 2},
                "hovertemplate": "%{y:.1%}",
            },
        ] if curve else [],
        "layout": {
            "xaxis": {"title": {"text": "score"}, "range": [0, 1]},
            "yaxis": {"title": {"text": "share of positive labels"}, "range": [0, 1]},
        },
    }  # fmt: skip
    return {
        "figure": figure,
        "table": {
            "unit": "share of positive labels",
            "columns": ["score", "share", "low", "high", "labels"],
            "rows": [[one.score, one.share, one.low, one.high, one.n] for one in curve],
        },
    }


def confusion(names: Sequence[str], matrix: Ints) -> Json:
    """It gives the confusion matrix as a table: a row what was predicted, a column the label."""
    return {
        "names": list(names),
        "rows": [
            {"name": name, "counts": [int(count) for count in row], "place": place}
            for place, (name, row) in enumerate(zip(names, matrix, strict=True))
        ],
    }


def _band(line: "Line", at: list[str], colour: str) -> list[Json]:
    """The interval as a band: its lower edge, and the upper one filled down to it."""
    edge: Json = {
        "type": "scatter", "mode": "lines", "x": at, "line": {"width": 0}, "showlegend": False,
        "hoverinfo": "skip",
    }  # fmt: skip
    low = [point.figure.low for point in line.points]
    high = [point.figure.high for point in line.points]
    fill = f"color-mix(in oklab, {colour} 18%, transparent)"
    return [edge | {"y": low}, edge | {"y": high, "fill": "tonexty", "fillcolor": fill}]


def _level(value: float) -> Json:
    line = {"color": "var(--line-strong)", "width": 1, "dash": "dot"}
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": line,
    }
