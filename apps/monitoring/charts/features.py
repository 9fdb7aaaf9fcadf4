"""Draws what the columns of an endpoint's rows did against its reference. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from apps.monitoring.charts.parts import REFERENCE, Json, Values, level, line, over_time

MOST_LINES = 8  # as many as there are colours
SHARE = {"hovertemplate": "%{y:.2%}"}


def drift(
    at: Sequence[datetime],
    distances: Mapping[str, Values],
    *,
    threshold: float,
    critical: float,
) -> Json:
    """It shows how far each column is from the reference, in stretches with enough rows.

    `at` holds the start of each stretch and the end of the last; `distances`, column -> JS* of each
    stretch, the columns that matter most first.
    """
    shown = dict(list(distances.items())[:MOST_LINES])
    traces = [
        _stepped(name, at, values, place, "%{y:.3f}")
        for place, (name, values) in enumerate(shown.items())
    ]
    most = max((v for values in shown.values() for v in values if v is not None), default=0.0)
    return over_time(
        traces,
        "distance JS*",
        at[:-1],
        distances,
        shapes=[level(threshold), level(critical, "dot", "var(--bad)")],
        yaxis={"range": [0, max(critical * 1.2, most * 1.1)]},
    )


def missing(at: Sequence[datetime], shares: Mapping[str, Values]) -> Json:
    """It shows the share of rows without a usable value, of the columns that have any."""
    seen = {name: values for name, values in shares.items() if any(values)}
    order = sorted(seen, key=lambda name: -max(value or 0.0 for value in seen[name]))
    traces = [
        _stepped(name, at, seen[name], place, "%{y:.2%}")
        for place, name in enumerate(order[:MOST_LINES])
    ]
    ordered = {name: seen[name] for name in order}
    return over_time(
        traces,
        "share of rows",
        at[:-1],
        ordered,
        yaxis={"tickformat": ".1~%", "rangemode": "tozero"},
    )


def distribution(
    labels: Sequence[str],
    reference: Sequence[int],
    window: Sequence[int],
    *,
    names: tuple[str, str] = ("reference", "window"),
    title: str = "",
) -> Json:
    """It shows one column's shares in the bins of its reference, both side by side."""
    whole = [sum(reference) or 1, sum(window) or 1]
    before = [count / whole[0] for count in reference]
    now = [count / whole[1] for count in window]
    traces = [
        _bars(names[0], labels, before, REFERENCE),
        _bars(names[1], labels, now, "var(--series-0)"),
    ]
    axis: Json = {"type": "category", "title": {"text": title}}
    return {
        "figure": {
            "data": traces,
            "layout": {
                "barmode": "group",
                "bargap": 0.15,
                "xaxis": axis,
                "yaxis": {"title": {"text": "share of rows"}, "tickformat": ".1~%"},
            },
        },
        "table": {
            "unit": "share of rows",
            "columns": ["values", *names],
            "rows": [list(row) for row in zip(labels, before, now, strict=True)],
        },
    }


def replicas(rows: Sequence[tuple[str, str, int | None, int | None]]) -> Json:
    """It shows each replica as it was last seen: name, state, requests in flight, MiB."""
    return {
        "figure": {
            "data": [
                _bars("in flight", [row[0] for row in rows], [row[2] for row in rows])
                | {"hovertemplate": "%{y} in flight"}
            ]
            if rows
            else [],
            "layout": {
                "xaxis": {"type": "category"},
                "yaxis": {"title": {"text": "requests in flight"}},
            },
        },
        "table": {
            "unit": "as last seen",
            "columns": ["replica", "state", "in flight", "memory MiB"],
            "rows": [list(row) for row in rows],
        },
    }


def _bars(
    name: str, labels: Sequence[str], values: Sequence[Any], colour: str = "var(--series-0)"
) -> Json:
    return {
        "type": "bar",
        "name": name,
        "x": list(labels),
        "y": list(values),
        "marker": {"color": colour},
        **SHARE,
    }


def _stepped(name: str, at: Sequence[datetime], values: Values, place: int, template: str) -> Json:
    """A line whose values hold from the start of their stretch to its end."""
    held = [*values, values[-1]] if values else []
    trace = line(name, at, held, f"var(--series-{place})", hovertemplate=template)
    trace["line"]["shape"] = "hv"
    return trace
