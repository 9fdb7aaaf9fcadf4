"""Draws what the columns of an endpoint's rows did against its reference. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.core.templatetags.formats import revision_index
from apps.monitoring.charts.parts import REFERENCE, Json, Values, level, line, over_time

if TYPE_CHECKING:
    from apps.monitoring.shared_bins import Span
    from apps.serving.models import Revision

MOST_LINES = 8  # as many as there are colours
MOST_NAMED, SOME_NAMED = 60, 12  # bins, below their bars
SHARE = {"hovertemplate": "%{y:.2%}"}
# Stands in the picture too, which is sent around without the page's words.
APART: Json = {
    "text": "Bins of their own: no distance can be told",
    "xref": "paper", "yref": "paper", "x": 1, "y": 1, "xanchor": "right", "yanchor": "top",
    "showarrow": False, "font": {"color": "var(--muted)", "size": 11},
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The two sides of a distribution, that which is compared with first."""

    names: tuple[str, str] = ("reference", "window")
    title: str = ""
    colours: tuple[str, str] = (REFERENCE, "var(--series-0)")


def colours_of(first: "Revision", second: "Revision") -> tuple[str, str]:
    """A version's own colours, unless both have the same: then the first is grey."""
    one, two = (f"var(--series-{revision_index(each.version.number)})" for each in (first, second))
    return (REFERENCE if one == two else one, two)


def drift(
    at: Sequence[datetime],
    distances: Mapping[str, Values],
    *,
    threshold: float,
    critical: float,
    unit: str = "distance JS*",
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
        unit,
        at[:-1],
        distances,
        shapes=[level(threshold), level(critical, "dot", "var(--bad)")],
        yaxis={"range": [0, max(critical * 1.2, most * 1.1)]},
    )


def missing(at: Sequence[datetime], shares: Mapping[str, Values]) -> Json:
    """It shows the share of rows without a usable value, of the columns that have any.

    Where none has, that is shown: it is not the same as a time without rows.
    """
    seen = {name: values for name, values in shares.items() if any(values)}
    whole = next(iter(shares.values()), [])
    if not seen and any(value is not None for value in whole):
        seen = {"each column" if len(shares) > 1 else next(iter(shares)): whole}
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
    look: Look = Look(),
) -> Json:
    """It shows one column's shares in the same bins, both side by side."""
    return _side_by_side(labels, _shares(reference), _shares(window), look)


def apart(reference: Mapping[str, int], window: Mapping[str, int], look: Look) -> Json:
    """It shows one column's shares in bins that either side has of its own."""
    labels = list(dict.fromkeys([*reference, *window]))
    first, second = (
        dict(zip(bins, _shares(list(bins.values())), strict=True)) for bins in (reference, window)
    )
    before, now = ([one.get(label) for label in labels] for one in (first, second))
    chart = _side_by_side(labels, before, now, look)
    chart["figure"]["layout"]["annotations"] = [APART]
    return chart


def densities(reference: "Sequence[Span]", window: "Sequence[Span]", look: Look) -> Json:
    """It shows one column's numbers as two densities, each over spans of its own.

    A share stands for its whole span, so that wide spans are low: the areas can be compared.
    """
    traces = [
        _outline(name, spans, colour)
        for name, spans, colour in zip(look.names, (reference, window), look.colours, strict=True)
    ]
    return {
        "figure": {
            "data": traces,
            "layout": {
                "xaxis": {"title": {"text": look.title}},
                "yaxis": {"title": {"text": "density"}, "rangemode": "tozero"},
                "annotations": [APART],
            },
        },
        "table": {
            "unit": "share of values, each in spans of its own",
            "columns": ["values", *look.names],
            "rows": [
                *([_span(span), span[2], None] for span in reference),
                *([_span(span), None, span[2]] for span in window),
            ],
        },
    }


def _side_by_side(labels: Sequence[str], before: Values, now: Values, look: Look) -> Json:
    names = look.names
    traces = [
        _bars(name, labels, values, colour)
        for name, values, colour in zip(names, (before, now), look.colours, strict=True)
    ]
    axis: Json = {"type": "category", "title": {"text": look.title}}
    if len(labels) > MOST_NAMED:  # their names would lie upon each other; hovering tells each
        axis["nticks"] = SOME_NAMED
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


def _shares(counts: Sequence[int]) -> list[float]:
    whole = sum(counts) or 1
    return [count / whole for count in counts]


def _outline(name: str, spans: "Sequence[Span]", colour: str) -> Json:
    """The upper edge of a density, from nothing to nothing."""
    if not spans:
        return {"type": "scatter", "mode": "lines", "name": name, "x": [], "y": []}
    ends = [spans[0][0], *(begin for begin, _, _ in spans), spans[-1][1], spans[-1][1]]
    heights = [share / (stop - begin) for begin, stop, share in spans]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": ends,
        "y": [0.0, *heights, heights[-1], 0.0],
        "line": {"color": colour, "width": 2, "shape": "hv"},
        "hovertemplate": "%{y:.3~g} from %{x:.6~g}",
    }


def _span(span: "Span") -> str:
    return f"{span[0]:.6g} to {span[1]:.6g}"


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
