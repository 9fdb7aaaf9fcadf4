"""Reads an endpoint's monitors: what each rule saw in its last window.

All from sums: the cost depends on the rules and their windows, not on the predictions.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

from django.db.models import Sum

from apps.baselines import selectors as baselines
from apps.core.templatetags.formats import format_duration
from apps.incidents import columns, judging
from apps.incidents.lifecycle import Reading
from apps.monitoring import histogram
from apps.monitoring.models import Rollup
from apps.monitoring.selectors import drift
from apps.monitoring.selectors import requests as monitoring
from apps.quality import selectors as quality
from apps.quality.lifecycle import Kind
from apps.registry import selectors as registry
from apps.registry.monitors_policy import COLUMNS, LATENCIES, Monitors, Rule, monitors_of
from apps.serving import selectors as serving
from apps.serving.models import Endpoint, Revision

log = logging.getLogger(__name__)
SETTLE = timedelta(seconds=30)  # until what the gateway wrote of a window has been counted
DAY = timedelta(days=1)
AROUND = timedelta(hours=1)  # of the same time a day before: "the same hours"
GAP_WIDTH_SECONDS = 300  # of the spans in which silences are looked for
Totals = Mapping[int, Any]  # revision -> what monitoring.totals summed of it
# Of two classes the second where there is no score to order rows by, or no AUC to compare with.
MAIN = {"binary": ("roc_auc", "accuracy"), "multiclass": ("accuracy",), "regression": ("r2",)}


@dataclass(frozen=True)
class Found:
    """One reading of one monitor, of a revision or of the endpoint as a whole."""

    rule: Rule
    served: Revision | None
    reading: Reading
    subject: str = ""
    fires: bool = True  # False: the line of a monitor whose columns fire


@dataclass
class Look:
    """An endpoint at one moment; what several rules ask is read once."""

    endpoint: Endpoint
    now: datetime
    revisions: list[Revision] = field(default_factory=list)
    kept: dict[Any, Any] = field(default_factory=dict)

    def once(self, key: tuple[Any, ...], ask: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = ask()
        return self.kept[key]

    def totals(self, since: datetime, until: datetime) -> Totals:
        found: Totals = self.once(
            ("totals", since, until), lambda: monitoring.totals(self.endpoint, since, until)
        )
        return found

    @property
    def last_at(self) -> datetime | None:
        found: datetime | None = self.once(("last",), lambda: monitoring.last_at(self.endpoint))
        return found


def monitors(endpoint: Endpoint) -> Monitors:
    """The monitors that the policy in force gives this endpoint."""
    document = registry.documents([endpoint.model_id]).get(endpoint.model_id, {})
    return monitors_of(document, endpoint.environment.name)


def serving_revisions(endpoint: Endpoint) -> list[Revision]:
    """What callers are answered by: the revisions with traffic, the stable one first."""
    wanted = {int(pk) for pk, weight in endpoint.traffic_wanted.items() if weight}
    if endpoint.stable_id is not None:
        wanted.add(endpoint.stable_id)
    found = Revision.objects.filter(pk__in=wanted).select_related("version__model", "endpoint")
    return sorted(found, key=lambda one: (one.pk != endpoint.stable_id, -one.number))


def window_end(rule: Rule, now: datetime) -> datetime:
    """When the last window of a rule ended that can be read now."""
    at = now if rule.is_rolling else now - SETTLE
    step = rule.step_seconds
    return datetime.fromtimestamp(int(at.timestamp()) // step * step, UTC)


def of(look: Look, rules: tuple[Rule, ...], read: Mapping[str, datetime]) -> Iterator[Found]:
    """It reads each rule whose window has moved since it was read last (`read`, by name)."""
    for rule in rules:
        until = window_end(rule, look.now)
        if rule.name not in read or until > read[rule.name]:
            yield from _of(look, rule, until)


def _of(look: Look, rule: Rule, until: datetime) -> list[Found]:
    """One rule's readings; what cannot be read is said in its place, and the others go on."""
    try:
        return list(_READ[rule.family](look, rule, until))
    except Exception as error:
        log.exception("Monitor %s of %s could not be read", rule.name, look.endpoint)
        words = f"It could not be read: {type(error).__name__}: {error}"
        return [Found(rule, None, judging.unknown(words, until), fires=False)]


def _answered(look: Look, rule: Rule, until: datetime) -> Totals:
    """What callers got in the window; nothing is asked where nobody asked the endpoint."""
    since = until - timedelta(seconds=rule.window)
    if look.last_at is None or look.last_at + timedelta(days=1) < since:
        return {}
    return look.totals(since, until)


def _shares(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    field_of = {"errors": "server_errors", "rejected": "client_errors"}[rule.metric]
    sums = _answered(look, rule, until)
    for revision in look.revisions:
        one = sums.get(revision.pk)
        failed, requests = (getattr(one, field_of), one.requests) if one else (0, 0)
        reading = judging.share(rule, failed, requests, until)
        yield Found(rule, revision, reading)


def _latency(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    sums = _answered(look, rule, until)
    for revision in look.revisions:
        one = sums.get(revision.pk)
        bins = one.bins if one else histogram.empty()
        before = None
        if rule.times_previous is not None and bins.sum() >= rule.enough:
            before = _day_before(look, rule, until)
        yield Found(rule, revision, judging.latency(rule, bins, before, until))


def _day_before(look: Look, rule: Rule, until: datetime) -> Any:
    """Latencies of all callers around the same time a day before, whichever revision answered."""
    since = until - timedelta(seconds=rule.window)
    sums = look.totals(since - DAY - AROUND, until - DAY + AROUND)
    return histogram.merge(*(one.bins for one in sums.values()))


def _freshness(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    yield Found(rule, None, _silence(look, rule, until))


def _silence(look: Look, rule: Rule, until: datetime) -> Reading:
    last = look.last_at
    if last is None:
        return judging.unknown("Nobody has asked it yet", until)
    usual = _usual(look, rule, last)
    if usual.requests < rule.enough:
        return judging.too_few(rule, usual.requests, "requests", until)
    if usual.seconds < DAY.total_seconds() and rule.at_least is None:
        # The first night would be an alarm where nobody asks at night.
        known = format_duration(usual.seconds)
        return judging.unknown(f"Known for {known}; what is usual is told from a day on", until)
    return judging.silence(rule, last, usual.longest_seconds, usual.gap_seconds, look.now, until)


@dataclass(frozen=True)
class Usual:
    """How callers asked an endpoint lately."""

    requests: int = 0
    seconds: float = 0.0  # from the first request to the last
    gap_seconds: float = 0.0  # between two requests, while there were any
    longest_seconds: float = 0.0  # without any


def _usual(look: Look, rule: Rule, last: datetime) -> Usual:
    since = look.now - timedelta(seconds=rule.window)
    if last < since:
        return Usual()
    rows = Rollup.objects.filter(
        revision__in=list(look.endpoint.revisions.values_list("pk", flat=True)),
        origin=Rollup.From.GATEWAY,
        width_seconds=GAP_WIDTH_SECONDS,
        at__gte=since,
    )
    spans = list(rows.values("at").annotate(total=Sum("requests")).order_by("at"))
    if not spans:
        return Usual()
    starts = [span["at"] for span in spans]
    requests = int(sum(span["total"] for span in spans))
    apart = [(b - a).total_seconds() for a, b in pairwise(starts)]
    return Usual(
        requests,
        (last - starts[0]).total_seconds(),
        len(starts) * GAP_WIDTH_SECONDS / max(1, requests),
        max(0.0, *apart, GAP_WIDTH_SECONDS) - GAP_WIDTH_SECONDS if apart else 0.0,
    )


def _traffic(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    if look.last_at is None:
        yield Found(rule, None, judging.unknown("Nobody has asked it yet", until))
        return
    requests = sum(one.requests for one in _answered(look, rule, until).values())
    yield Found(rule, None, judging.rate(rule, requests, until))


def _dropped(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    since = until - timedelta(seconds=rule.window)
    if look.last_at is None or look.last_at + DAY < since:
        yield Found(rule, None, judging.unknown("Nobody asked it in this time", until))
        return
    # Counted up to now, but two windows never share a loss: this one ends where the next begins.
    lost = monitoring.dropped(look.endpoint, since) - monitoring.dropped(look.endpoint, until)
    yield Found(rule, None, judging.dropped(rule, lost, until))


def _saturation(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    scaling = serving.serving_part(look.endpoint).scaling
    for revision in look.revisions:
        replicas = [one for one in revision.sighted.all() if one.ready]
        busy = [one.in_flight for one in replicas if one.in_flight is not None]
        if not busy:
            reading = judging.unknown("No replica tells what it has in flight", until)
        else:
            room = len(busy) * scaling.in_flight_per_replica
            reading = judging.saturation(rule, sum(busy), room, until)
        yield Found(rule, revision, reading)


def _labels(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    measured = _measured(look, rule, until, None)
    yield Found(rule, None, judging.labels(rule, measured.labels, measured.predictions, until))


def _quality(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    for revision in look.revisions[:1]:
        measured = _measured(look, rule, until, revision)
        is_estimate = rule.family == "estimated"
        known = look.once(("reference", revision.pk), partial(quality.reference_of, revision))
        # What is estimated too well cannot be held against how good it truly was.
        values = {} if is_estimate and known.is_of_training else known.values
        name = rule.metric.partition(":")[2]
        name = _main(rule, measured, values) if name == "main" else name
        count = measured.predictions if is_estimate else measured.labels
        figure = measured.metrics.get(name)
        reading = judging.quality(rule, name, figure, count, values.get(name), until)
        # Which figure "main" was, so that the picture of an alert is of the same.
        reading = replace(reading, evidence={**reading.evidence, "metric": name})
        note = known.estimate_note if is_estimate else known.note if rule.drop else ""
        if note and count >= rule.enough:
            reading = replace(reading, words=f"{reading.words}. {note}")
        yield Found(rule, revision, reading)


def _main(rule: Rule, measured: Any, reference: Mapping[str, float]) -> str:
    """The figure that says most of such a model, of those that it can have."""
    names = MAIN.get(measured.task, ("accuracy",))
    ruler = measured.ruler
    only_classes = ruler is not None and ruler.kind == Kind.CLASSES
    fit = [
        name
        for name in names
        if not (only_classes and name == "roc_auc") and (rule.drop is None or name in reference)
    ]
    return fit[0] if fit else names[-1] if only_classes else names[0]


def _measured(look: Look, rule: Rule, until: datetime, revision: Revision | None) -> Any:
    since = until - timedelta(seconds=rule.window)
    part = _slice(look, rule)
    if rule.family == "estimated" and revision is not None:
        return look.once(
            ("estimated", revision, since, until, part),
            lambda: quality.estimated(revision, since, until, slice=part),
        )
    return look.once(
        ("measured", revision, since, until, part),
        lambda: quality.measured(look.endpoint, since, until, revision=revision, slice=part),
    )


def _columns(look: Look, rule: Rule, until: datetime) -> Iterator[Found]:
    for revision in look.revisions:
        yield from _columns_of(look, rule, until, revision)


def _columns_of(look: Look, rule: Rule, until: datetime, revision: Revision) -> Iterator[Found]:
    if rule.against == "baseline" and baselines.in_force(revision.version) is None:
        why = f"v{revision.version.number} has no baseline to compare with"
        yield Found(rule, revision, judging.unknown(why, until), fires=False)
        return
    since = until - timedelta(seconds=rule.window)
    part = _slice(look, rule)
    seen = look.once(
        ("drift", revision.pk, since, until, rule.against, part),
        lambda: drift.of(
            revision,
            since,
            until,
            against=rule.against,
            slice=part,
            at_least=rule.enough,
            now=look.now,
        ),
    )
    readings = columns.readings(rule, seen.columns, until)
    none = "There is no column that it could look at"
    yield Found(rule, revision, columns.whole(readings, until, none=none), fires=False)
    for name, reading in readings:
        yield Found(rule, revision, reading, subject=name)


def _slice(look: Look, rule: Rule) -> Any:
    if rule.slice is None:
        return None
    found = look.endpoint.slices.filter(name=rule.slice, retired_at=None).first()
    if found is None:
        raise LookupError(f"there is no slice {rule.slice!r} on {look.endpoint}")
    return found


_Read = Callable[[Look, Rule, datetime], Iterator[Found]]
_READ: dict[str, _Read] = {
    **dict.fromkeys(COLUMNS, _columns),
    "errors": _shares,
    "rejected": _shares,
    **dict.fromkeys(LATENCIES, _latency),
    "freshness": _freshness,
    "traffic": _traffic,
    "capture_dropped": _dropped,
    "saturation": _saturation,
    "labels": _labels,
    "quality": _quality,
    "estimated": _quality,
}
