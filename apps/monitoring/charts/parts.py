"""What the charts have in common: traces, marks, and a figure with the same as a table. Pure.

Colours are names of the page's tokens ("var(--series-3)"), which static/core/charts.js replaces by
those of the reader's theme, and pictures.py by the light ones. A version has the same colour on
every page.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from apps.core.templatetags.formats import revision_index

if TYPE_CHECKING:
    from apps.monitoring.selectors.requests import Series
    from apps.serving.models import Revision

Json = dict[str, Any]
Values = Sequence[float | None]
REFERENCE = "var(--line-strong)"
LEAST_ROOM = 0.3  # of the width, from one mark with words to the next, on a narrow screen as well


@dataclass(frozen=True)
class Mark:
    """Something that happened to the endpoint, as a thin upright line through its charts."""

    at: datetime
    words: str  # two or three
    url: str = ""
    state: str = "current"
    detail: str = ""


class OfRevision(Protocol):
    """Something of one revision, whose colour and name it has."""

    @property
    def revision(self) -> "Revision": ...


def names(series: "Sequence[OfRevision]") -> list[str]:
    """A version's number says it, unless two revisions serve the same version."""
    numbers = Counter(one.revision.version.number for one in series)
    return [
        f"v{one.revision.version.number}"
        if numbers[one.revision.version.number] == 1
        else f"v{one.revision.version.number} (revision {one.revision.number})"
        for one in series
    ]


def pairs(series: "Sequence[Series]") -> "list[tuple[str, Series]]":
    return list(zip(names(series), series, strict=True))


def of_revision(one: "OfRevision") -> str:
    return f"var(--series-{revision_index(one.revision.version.number)})"


def line(
    name: str,
    at: Sequence[datetime],
    values: Values,
    colour: str,
    *,
    dash: str = "solid",
    **more: Any,
) -> Json:
    alone = _alone(values)
    # A value between two gaps has no length and would not be seen.
    dots = {"mode": "lines+markers", "marker": {"size": alone}} if any(alone) else {}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [moment.isoformat() for moment in at],
        "y": list(values),
        "line": {"color": colour, "width": 2, "dash": dash},
        "connectgaps": False,
        **dots,
        **more,
    }


def _alone(values: Values) -> list[int]:
    """The size of each value's dot: 5 for one between two gaps, else none."""
    around = [None, *values, None]
    return [
        5 if value is not None and around[place] is None and around[place + 2] is None else 0
        for place, value in enumerate(values)
    ]


def level(value: float, dash: str = "dash", colour: str = "var(--warn)") -> Json:
    """A limit, drawn from edge to edge."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": value,
        "y1": value,
        "line": {"color": colour, "width": 1, "dash": dash},
    }


def over_time(
    traces: Sequence[Json],
    unit: str,
    at: Sequence[datetime],
    columns: Mapping[str, Values],
    **layout: Any,
) -> Json:
    """A figure over time, and the same figures as a table."""
    axis_y = {"title": {"text": unit}} | layout.pop("yaxis", {})
    return {
        "figure": {
            "data": list(traces),
            "layout": {
                "xaxis": {"type": "date", "tickangle": 0, "nticks": 7},
                "yaxis": axis_y,
                **layout,
            },
        },
        "table": {
            "unit": unit,
            "columns": ["at", *columns],
            "rows": [
                [moment.isoformat(), *(values[place] for values in columns.values())]
                for place, moment in enumerate(at)
            ],
        },
    }


def marked(chart: Json, marks: Sequence[Mark], since: datetime, until: datetime) -> Json:
    """It draws what happened as thin upright lines, with their words where there is room.

    The axis shows the whole window: words at its edge would otherwise widen it into the future.
    """
    layout = chart["figure"]["layout"]
    if layout["xaxis"].get("type") != "date":
        return chart
    layout["xaxis"]["range"] = [since.isoformat(), until.isoformat()]
    if not marks:
        return chart
    layout["shapes"] = [*layout.get("shapes", []), *(_upright(mark) for mark in marks)]
    layout["annotations"] = [*layout.get("annotations", []), *_worded(marks, since, until)]
    return chart


def _upright(mark: Mark) -> Json:
    return {
        "type": "line",
        "yref": "paper",
        "x0": mark.at.isoformat(),
        "x1": mark.at.isoformat(),
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--line-strong)", "width": 1, "dash": "dot"},
    }


def _worded(marks: Sequence[Mark], since: datetime, until: datetime) -> list[Json]:
    """It words the last marks that stand far enough from each other to be read.

    Of the steps of a rollout that follow within minutes a chart of a day has room for the last: its
    words say where it led to. All of them stand in the list beside the charts.
    """
    room = (until - since) * LEAST_ROOM
    kept: list[Mark] = []
    for mark in reversed(marks):
        if not kept or kept[-1].at - mark.at >= room:
            kept.append(mark)
    return [
        _words(mark, is_late=mark.at > since + 0.75 * (until - since)) for mark in reversed(kept)
    ]


def _words(mark: Mark, *, is_late: bool) -> Json:
    return {
        "x": mark.at.isoformat(),
        "yref": "paper",
        "y": 1,
        "text": mark.words,
        "xanchor": "right" if is_late else "left",
        "yanchor": "top",
        "showarrow": False,
        "font": {"color": "var(--muted)", "size": 11},
    }
