"""Draws what replicas use and what is in flight at them: series in, Plotly figure and table out.

Pure. A few replicas have a line each; of many, each revision has the mean of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from apps.monitoring.charts.parts import Json, Values, line, names, of_revision, over_time

if TYPE_CHECKING:
    from apps.monitoring.selectors.usage import Series, Summary, Use

MOST_LINES = 8  # as many as can be told apart
DASHES = ("solid", "dash", "dashdot", "longdash")
LIMIT = {"width": 1, "dash": "dash", "color": "var(--warn)"}
Reads = Callable[["Series"], "Use"]


def processors(series: "Sequence[Series]") -> Json:
    """It shows how many processors each replica kept busy, and how many it may."""
    return _used(series, lambda one: one.processors, "processors", "%{y:.3~r}")


def memory(series: "Sequence[Series]") -> Json:
    """It shows the memory of each replica, and what it is replaced at."""
    return _used(series, lambda one: one.memory_mb, "MiB", "%{y:.4~r} MiB")


def in_flight(series: "Sequence[Series]") -> Json:
    """It shows the requests under way at each replica, and how many one is to have."""
    return _used(series, lambda one: one.in_flight, "requests in flight", "%{y:.3~r}")


def saturation(series: "Sequence[Series]") -> Json:
    """It shows how near each revision is to its limits.

    In flight: of all its replicas together, as the scaler reckons. Processors and memory: of the
    replica that is fullest, since that one waits or is replaced.
    """
    traces, columns = [], dict[str, Values]()
    for name, ones in _by_revision(series).items():
        for words, values, dash in (
            ("in flight", _together([one.in_flight for one in ones]), "solid"),
            ("processors", _fullest([one.processors for one in ones]), "dash"),
            ("memory", _fullest([one.memory_mb for one in ones]), "dot"),
        ):
            if any(value is not None for value in values):
                label = f"{name} {words}"
                traces.append(_line(label, ones[0], values, dash=dash, hovertemplate="%{y:.1%}"))
                columns[label] = values
    return over_time(
        traces,
        "share of the limit",
        _times(series),
        columns,
        yaxis={"tickformat": ".0~%", "rangemode": "tozero"},
    )


def summary(rows: "Sequence[Summary]") -> Json:
    """It shows what share of its limits a replica of each revision used, mean and most."""
    named = dict(zip(names(rows), rows, strict=True))
    kinds = {"processors": "processors", "memory": "memory_mb", "in flight": "in_flight"}
    return {
        "figure": {
            "data": [
                {
                    "type": "bar",
                    "name": f"{words}, {what}",
                    "x": list(named),
                    "y": [_share(getattr(row, kind), what) for row in named.values()],
                    "marker": {"color": f"var(--series-{place})"},
                    "opacity": 1.0 if what == "most" else 0.5,
                    "hovertemplate": "%{y:.1%}",
                }
                for place, (words, kind) in enumerate(kinds.items())
                for what in ("mean", "most")
            ]
            if rows
            else [],
            "layout": {
                "barmode": "group",
                "xaxis": {"type": "category"},
                "yaxis": {"title": {"text": "share of the limit"}, "tickformat": ".0~%"},
            },
        },
        "table": {
            "unit": "of one replica; memory in MiB",
            "columns": ["revision", "replicas"]
            + [f"{words} {what}" for words in kinds for what in ("mean", "most", "limit")],
            "rows": [
                [name, row.replicas]
                + [
                    getattr(getattr(row, kind), what)
                    for kind in kinds.values()
                    for what in ("mean", "most", "limit")
                ]
                for name, row in named.items()
            ],
        },
    }


def _used(series: "Sequence[Series]", reads: Reads, unit: str, template: str) -> Json:
    """Means as lines, the most of any replica dotted, limits dashed."""
    traces: list[Json] = []
    columns: dict[str, Values] = {}
    limits: dict[str, Values] = {}
    for name, ones in _by_revision(series).items():
        uses = [reads(one) for one in ones]
        if not any(_is_known(use.mean) for use in uses):
            continue
        lines: dict[str, tuple[Series, Values]]
        if len(series) <= MOST_LINES:
            lines = {_label(name, one, ones): (one, reads(one).mean) for one in ones}
        else:
            lines = {f"{name} mean": (ones[0], _across(_mean, [use.mean for use in uses]))}
        lines[f"{name} most"] = (ones[0], _across(max, [use.most for use in uses]))
        for place, (label, (one, values)) in enumerate(lines.items()):
            dash = "dot" if label.endswith(" most") else DASHES[place % len(DASHES)]
            traces.append(_line(label, one, values, dash=dash, hovertemplate=template))
            columns[label] = values
        limits[name] = _across(max, [use.limit for use in uses])
    for label, values in _limits(limits).items():
        trace = line(label, _times(series), values, "", hovertemplate=template)
        traces.append(trace | {"line": LIMIT})
        columns[label] = values
    return over_time(traces, unit, _times(series), columns)


def _limits(found: Mapping[str, Values]) -> dict[str, Values]:
    """One line where all revisions have the same limit, wherever they have any."""
    there = {name: values for name, values in found.items() if _is_known(values)}
    joined = _across(max, list(there.values())) if there else []
    for values in there.values():
        if any(a is not None and a != b for a, b in zip(values, joined, strict=True)):
            return {f"{name} limit": values for name, values in there.items()}
    return {"limit": joined} if there else {}


def _by_revision(series: "Sequence[Series]") -> "dict[str, list[Series]]":
    found: dict[int, list[Series]] = {}
    for one in series:
        found.setdefault(one.revision.pk, []).append(one)
    return dict(zip(names([ones[0] for ones in found.values()]), found.values(), strict=True))


def _line(name: str, one: "Series", values: Values, **look: Any) -> Json:
    return line(name, one.at, values, of_revision(one), **look)


def _label(name: str, one: "Series", among: "Sequence[Series]") -> str:
    return name if len(among) == 1 else f"{name}, replica {one.index}"


def _times(series: "Sequence[Series]") -> list[datetime]:
    return series[0].at if series else []


def _is_known(values: Values) -> bool:
    return any(value is not None for value in values)


def _across(merge: Callable[[list[float]], float], columns: Sequence[Values]) -> list[float | None]:
    """It merges the values of each step, of those replicas that have one."""
    steps = zip(*columns, strict=True)
    known = [[value for value in step if value is not None] for step in steps]
    return [merge(values) if values else None for values in known]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _together(uses: "Sequence[Use]") -> list[float | None]:
    """The sum of what is used over the sum of the limits, of the replicas that tell both."""
    pairs = [
        [(a, b) for a, b in zip(means, limits, strict=True) if a is not None and b]
        for means, limits in zip(
            zip(*(use.mean for use in uses), strict=True),
            zip(*(use.limit for use in uses), strict=True),
            strict=True,
        )
    ]
    return [sum(a for a, _ in step) / sum(b for _, b in step) if step else None for step in pairs]


def _fullest(uses: "Sequence[Use]") -> list[float | None]:
    return _across(max, [_together([use]) for use in uses])


def _share(total: Any, what: str) -> float | None:
    value = getattr(total, what)
    return None if value is None or not total.limit else value / total.limit
