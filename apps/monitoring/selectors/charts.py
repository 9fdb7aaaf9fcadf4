"""Reads what a chart shows and has it drawn. The cost depends on the span of time alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from apps.audit.models import Event
from apps.baselines import distances
from apps.baselines import selectors as baselines
from apps.baselines.layout import Layout
from apps.baselines.models import Baseline
from apps.baselines.selectors import Frozen
from apps.core.errors import Refused
from apps.monitoring import drift
from apps.monitoring.charts import features, requests
from apps.monitoring.charts.parts import Json, Mark, marked
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.selectors import requests as rollups
from apps.monitoring.selectors import sliced, tallies
from apps.monitoring.selectors.drift import Drift
from apps.monitoring.selectors.requests import Series
from apps.serving.models import Endpoint, Replica, Revision

Ints = npt.NDArray[np.int64]
LEAST_ROWS = 500  # of a stretch: fewer say nothing of a distance
MOST_MARKS = 40
MARKED = ("traffic.changed", "incident.opened", "incident.resolved")


class NothingToCompare(Refused):
    """The revision has no baseline yet, or no such column."""

    code = "no_baseline"


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
    slice: Slice | None = None
    column: str = ""
    percentiles: tuple[str, ...] = requests.USUAL

    @property
    def shadow(self) -> bool:
        return self.origin == Rollup.From.SHADOW


def of(endpoint: Endpoint, kind: str, asked: Asked) -> Json:
    """It gives a chart as a Plotly figure and as a table.

    Raises: NothingToCompare where a chart of columns has nothing to compare with; ValueError for a
    step that is too short for the span.
    """
    chart = KINDS[kind](endpoint, asked)
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
    span = (asked.since, asked.until, asked.step_seconds)
    if asked.slice is not None:
        found = sliced.series(endpoint, asked.slice, *span, shadow=asked.shadow)
    else:
        found = rollups.series(endpoint, *span, origin or asked.origin)
    return [one for one in found if not asked.among or one.revision.number in asked.among]


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


# ---- columns --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A revision's rows in stretches of time, in the bins of its baseline."""

    frozen: Frozen
    at: list[datetime]  # starts of the stretches and the end of the last
    counts: list[Ints]  # one array of all slots a stretch
    reference: Ints


def _drift(endpoint: Endpoint, asked: Asked) -> Json:
    rows = _rows(endpoint, asked)
    found: dict[str, list[float | None]] = {}
    is_fitted = asked.against != "previous"
    for counts in rows.counts:
        for one in distances.compare(
            rows.frozen.layout, rows.reference, counts, is_fitted=is_fitted
        ):
            found.setdefault(one.column, []).append(one.js)
    wanted = {
        column: values
        for column, values in found.items()
        if not asked.column or column == asked.column
    }
    order = sorted(wanted, key=lambda column: -max(value or 0.0 for value in wanted[column]))
    natural = rows.frozen.natural.get(asked.column, {}).get("js", 0.0)
    return features.drift(
        rows.at,
        {label_of(column): wanted[column] for column in order},
        threshold=max(drift.LEAST_JS, drift.NATURAL_TIMES * natural),
        critical=drift.CRITICAL_JS,
    )


def _missing(endpoint: Endpoint, asked: Asked) -> Json:
    rows = _rows(endpoint, asked)
    layout = rows.frozen.layout
    shares = [_unusable(layout, counts) for counts in rows.counts]
    return features.missing(
        rows.at,
        {
            label_of(column.name): [share[place] for share in shares]
            for place, column in enumerate(layout.columns)
            if asked.column in ("", column.name)
        },
    )


def _unusable(layout: Layout, counts: Ints) -> list[float | None]:
    """The share of rows whose value is missing, absent, of a wrong type or not finite."""
    rows = distances.rows_of(layout, counts)
    bad = rows - distances.values_of(layout, counts)
    return [
        part / whole if whole else None
        for part, whole in zip(bad.tolist(), rows.tolist(), strict=True)
    ]


def _distribution(endpoint: Endpoint, asked: Asked) -> Json:
    revision, baseline, frozen = _compared(asked)
    column = next((c for c in frozen.layout.columns if c.name == asked.column), None)
    if column is None:
        known = ", ".join(c.name for c in frozen.layout.columns[:10])
        raise NothingToCompare(
            f"There is no column {asked.column!r}; some there are: {known}", "no_column"
        )
    now = _window(endpoint, baseline, asked, asked.since, asked.until)
    reference, name = frozen.counts, "reference"
    if asked.against == "previous":
        span = asked.until - asked.since
        reference, name = (
            _window(endpoint, baseline, asked, asked.since - span, asked.since),
            "window before",
        )
    start, stop = frozen.layout.slices[column.name]
    return features.distribution(
        column.labels(),
        reference[start:stop].tolist(),
        now[start:stop].tolist(),
        names=(name, f"v{revision.version.number} now"),
        title=label_of(column.name),
    )


def _rows(endpoint: Endpoint, asked: Asked) -> Rows:
    revision, baseline, frozen = _compared(asked)
    starts, counts, numbers = tallies.series(
        endpoint,
        baseline,
        asked.since,
        asked.until,
        asked.row_step_seconds,
        slice=asked.slice,
        revisions=[revision],
        shadow=asked.shadow,
    )
    at, merged = stretches(starts, counts, numbers, asked.row_step_seconds)
    reference = frozen.counts
    if asked.against == "previous":
        span = asked.until - asked.since
        reference = _window(endpoint, baseline, asked, asked.since - span, asked.since)
    return Rows(frozen, at, merged, reference)


def stretches(
    starts: Sequence[datetime], counts: Ints, rows: Ints, step_seconds: int
) -> tuple[list[datetime], list[Ints]]:
    """It joins neighbouring steps until each holds rows enough, and drops what is left over.

    Of a time of which only wider spans are kept, the steps are wider than asked for. Gives the
    starts of the stretches with the end of the last, and the counts of each.
    """
    step = starts[1] - starts[0] if len(starts) > 1 else timedelta(seconds=step_seconds)
    at: list[datetime] = []
    joined: list[Ints] = []
    first, held, end = 0, 0, 0
    for place, number in enumerate(rows.tolist()):
        first = first if held else place  # a stretch begins with rows
        held += number
        if held >= LEAST_ROWS:
            at.append(starts[first])
            joined.append(counts[first : place + 1].sum(axis=0))
            held, end = 0, place
    if at:
        at.append(starts[end] + step)
    return at, joined


def _window(
    endpoint: Endpoint, baseline: Baseline, asked: Asked, since: datetime, until: datetime
) -> Ints:
    revisions = [asked.revision] if asked.revision else None
    seen = tallies.window(
        endpoint,
        baseline,
        since,
        until,
        slice=asked.slice,
        revisions=revisions,
        shadow=asked.shadow,
    )
    return seen.counts


def counted(
    revision: Revision, seen: Drift, *, against: str, part: Slice | None
) -> tuple[Layout, Ints, Ints]:
    """It gives the counts that a drift was judged by: of what it is compared with, of the window.

    In the bins of the layout.
    """
    if seen.baseline is None:
        raise without_baseline(revision)
    frozen = baselines.shape(seen.baseline)
    asked = Asked(seen.since, seen.until, 0, 0, revision=revision, slice=part)
    now = _window(revision.endpoint, seen.baseline, asked, seen.since, seen.until)
    reference = frozen.counts
    if against == "previous":
        before = seen.since - (seen.until - seen.since)
        reference = _window(revision.endpoint, seen.baseline, asked, before, seen.since)
    return frozen.layout, reference, now


def without_baseline(revision: Revision) -> NothingToCompare:
    return NothingToCompare(
        f"Version {revision.version.number} has no baseline yet, which its rows would be compared "
        "with"
    )


def _compared(asked: Asked) -> tuple[Revision, Baseline, Frozen]:
    if asked.revision is None:
        raise NothingToCompare("No revision was ever deployed here", "no_revision")
    baseline = baselines.in_force(asked.revision.version)
    if baseline is None:
        raise without_baseline(asked.revision)
    return asked.revision, baseline, baselines.shape(baseline)


def label_of(column: str) -> str:
    return column.removeprefix("in.")


KINDS: dict[str, Callable[[Endpoint, Asked], Json]] = {
    "traffic": _traffic,
    "errors": _errors,
    "latency": _latency,
    "gateway": _gateway,
    "drift": _drift,
    "missing": _missing,
    "distribution": _distribution,
    "replicas": _replicas,
}
