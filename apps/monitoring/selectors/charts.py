"""Reads what a chart shows and has it drawn. The cost depends on the span of time alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from apps.audit.models import Event
from apps.monitoring.charts import features, requests, usage
from apps.monitoring.charts.parts import Json, Mark, marked
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.selectors import columns, sliced
from apps.monitoring.selectors import requests as rollups
from apps.monitoring.selectors import usage as uses
from apps.monitoring.selectors.requests import Series
from apps.monitoring.selectors.usage import Series as UseSeries
from apps.serving.models import Endpoint, Replica, Revision

MOST_MARKS = 40
MARKED = ("traffic.changed", "incident.opened", "incident.resolved")


@dataclass(frozen=True)
class Asked:
    """What of an endpoint a chart shall show."""

    since: datetime
    until: datetime
    step_seconds: int
    row_step_seconds: int
    origin: Rollup.From = Rollup.From.GATEWAY
    revision: Revision | None = None  # whose columns are shown
    among: frozenset[int] = frozenset()  # numbers of the revisions in charts of requests; {}: all
    against: str = "baseline"  # or "previous": the window of the same length before
    other: Revision | None = None  # whose rows of the same time are compared with instead
    slice: Slice | None = None
    column: str = ""
    percentiles: tuple[str, ...] = ()  # none: the usual ones, and the others on demand

    @property
    def shadow(self) -> bool:
        return self.origin == Rollup.From.SHADOW


def of(endpoint: Endpoint, kind: str, asked: Asked) -> Json:
    """It gives a chart as a Plotly figure, as a table, and what must be known to read it.

    Raises: NothingToCompare where a chart of columns has nothing to compare with; ValueError for a
    step that is too short for the span.
    """
    chart = {"note": "", **KINDS[kind](endpoint, asked)}
    happened = marks(endpoint, asked.since, asked.until)
    return marked(chart, happened, asked.since, asked.until)


def marks(endpoint: Endpoint, since: datetime, until: datetime) -> list[Mark]:
    """It lists what happened to the endpoint: changes of traffic and incidents, oldest first."""
    found = Event.objects.filter(
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        verb__in=MARKED,
        at__gte=since,
        at__lt=until,
    ).order_by("-at", "-pk")[:MOST_MARKS]
    return [_mark(event) for event in reversed(found)]


def _mark(event: Event) -> Mark:
    verb = event.verb.partition(".")[2]
    if event.verb == "traffic.changed":
        weights = event.evidence.get("weights") or {}
        return Mark(event.at, _share(weights), event.url, "current", event.reason)
    # Its label says where, which this page does as well.
    words = f"{event.object_label.partition(' of ')[0]} {verb}"
    state = "open" if verb == "opened" else "resolved"
    return Mark(event.at, words, event.url, state, event.reason)


def _share(weights: dict[str, float]) -> str:
    """The newest version's share says what a rollout did."""
    if not weights:
        return "no traffic"
    newest = max(weights, key=int)
    return f"v{newest} {weights[newest]:g} %"


# ---- requests -------------------------------------------------------------------------------


def _series(endpoint: Endpoint, asked: Asked, origin: Rollup.From | None = None) -> list[Series]:
    origin = origin or asked.origin
    among = asked.among
    found = _read(endpoint, asked, origin)
    if origin == Rollup.From.SHADOW and asked.other is not None and asked.revision is not None:
        # Copies beside what the other answered callers: the gateway never saw the copies.
        callers = _read(endpoint, asked, Rollup.From.SERVER)
        found = [one for one in found if one.revision == asked.revision]
        found += [one for one in callers if one.revision == asked.other]
    return [one for one in found if not among or one.revision.number in among]


def _read(endpoint: Endpoint, asked: Asked, origin: Rollup.From) -> list[Series]:
    span = (asked.since, asked.until, asked.step_seconds)
    if asked.slice is not None:
        shadow = origin == Rollup.From.SHADOW
        return sliced.series(endpoint, asked.slice, *span, shadow=shadow)
    return rollups.series(endpoint, *span, origin)


def _traffic(endpoint: Endpoint, asked: Asked) -> Json:
    return requests.traffic(_series(endpoint, asked))


def _errors(endpoint: Endpoint, asked: Asked) -> Json:
    return requests.errors(_series(endpoint, asked))


def _latency(endpoint: Endpoint, asked: Asked) -> Json:
    return requests.latency(_series(endpoint, asked), asked.percentiles)


def _gateway(endpoint: Endpoint, asked: Asked) -> Json:
    # The gateway's log knows nothing of columns, so that a slice has no gateway time of its own.
    whole = replace(asked, slice=None)
    return requests.gateway(
        _series(endpoint, whole, Rollup.From.GATEWAY), _series(endpoint, whole, Rollup.From.SERVER)
    )


def _replicas(endpoint: Endpoint, asked: Asked) -> Json:
    rows = Replica.objects.filter(revision__endpoint=endpoint).select_related("revision__version")
    return features.replicas(
        [
            (
                f"v{row.revision.version.number}, replica {row.index}",
                "ready" if row.ready else "not ready",
                row.in_flight,
                row.memory_mb,
            )
            for row in rows
        ]
    )


def _used(draw: Callable[[Sequence[UseSeries]], Json]) -> Callable[[Endpoint, Asked], Json]:
    """A chart of what replicas used; the gateway's or the servers' word makes no difference."""

    def chart(endpoint: Endpoint, asked: Asked) -> Json:
        span = (asked.since, asked.until, asked.step_seconds)
        return draw(uses.series(endpoint, *span, among=asked.among))

    return chart


def _use(endpoint: Endpoint, asked: Asked) -> Json:
    return usage.summary(uses.totals(endpoint, asked.since, asked.until, among=asked.among))


# ---- columns --------------------------------------------------------------------------------


def _of_columns(asked: Asked) -> columns.Wanted:
    return columns.Wanted(
        revision=asked.revision,
        since=asked.since,
        until=asked.until,
        step_seconds=asked.row_step_seconds,
        against=asked.against,
        other=asked.other,
        slice=asked.slice,
        shadow=asked.shadow,
        column=asked.column,
    )


def _drift(_: Endpoint, asked: Asked) -> Json:
    return columns.drift_chart(_of_columns(asked))


def _missing(_: Endpoint, asked: Asked) -> Json:
    return columns.missing_chart(_of_columns(asked))


def _distribution(_: Endpoint, asked: Asked) -> Json:
    return columns.distribution_chart(_of_columns(asked))


KINDS: dict[str, Callable[[Endpoint, Asked], Json]] = {
    "traffic": _traffic,
    "errors": _errors,
    "latency": _latency,
    "gateway": _gateway,
    "drift": _drift,
    "missing": _missing,
    "distribution": _distribution,
    "replicas": _replicas,
    "processors": _used(usage.processors),
    "memory": _used(usage.memory),
    "in_flight": _used(usage.in_flight),
    "saturation": _used(usage.saturation),
    "use": _use,
}
