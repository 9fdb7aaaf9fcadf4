"""Questions about quality: from sums, so that they cost the same for any number of predictions."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import Count, Q, QuerySet, Sum
from django.utils import timezone

from apps.accounts.selectors import people_who_may
from apps.baselines import selectors as baselines
from apps.baselines.layout import SCORE
from apps.baselines.models import Baseline
from apps.monitoring import windows
from apps.monitoring.models import RowFile, Slice
from apps.monitoring.selectors import tallies
from apps.monitoring.windows import TALLIES
from apps.quality import cbpe, marks, metrics, reference
from apps.quality.amounts import Values
from apps.quality.lifecycle import Kind, State
from apps.quality.marks import BINS, Ints, Ruler, Scores, Sums
from apps.quality.metrics import Figure
from apps.quality.models import Feedback, Labelled, Lookback, Marks, Measure
from apps.quality.reference import Reference
from apps.serving.models import Endpoint, Revision

MOST_POINTS = 200
NO_LABELS = "No label has come"


@dataclass(frozen=True)
class Measured:
    """How good predictions of a span of time were."""

    task: str  # binary, multiclass, regression; "" when nothing is known
    labels: int
    predictions: int
    metrics: dict[str, Figure] = field(default_factory=dict)
    is_estimate: bool = False
    reason: str = ""  # why there is nothing
    sums: Sums | None = None
    ruler: Ruler | None = None
    is_inferred: bool = False  # no baseline told what the outputs mean
    note: str = ""  # what people must know of the figures
    left_out: int = 0  # labels of revisions that are measured otherwise
    extreme: int = 0  # labels so far from all others that no sum has room for them


@dataclass(frozen=True)
class Point:
    at: datetime
    labels: int
    figure: Figure


@dataclass(frozen=True)
class Line:
    """One revision's metric over time."""

    revision: Revision
    points: list[Point]
    is_estimate: bool = False
    is_of_training: bool = False  # an estimate that is too good, see `reference`


@dataclass(frozen=True)
class Lateness:
    """How late labels come: from prediction to observation."""

    labels: int
    median_seconds: float | None


def measured(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    *,
    revision: Revision | None = None,
    slice: Slice | None = None,
    shadow: bool = False,
    only: Iterable[str] | None = None,
) -> Measured:
    """It computes the quality of the predictions made in a span of time, from their labels.

    Of one revision, or of all that are measured as the newest of them is. A new slice has yet to
    count some of them (`looking_back`).
    """
    known = _measures(endpoint, revision)
    predictions = predicted(endpoint, since, until, revision=revision, slice=slice, shadow=shadow)
    if not known:
        return Measured("", 0, predictions, reason=NO_LABELS)
    task = _task(known[0])
    total: Sums | None = None
    left_out = 0
    for one in known:
        vector, labels = _sum(_marks(one, slice, shadow), since, until, Ruler.from_json(one.ruler))
        if not _alike(one, known[0]):
            left_out += labels
        elif labels:
            part = marks.read(Ruler.from_json(one.ruler), vector)
            # Those that are alike have sums of one kind, which the union of kinds does not say.
            total = part if total is None else total + part  # type: ignore[operator]
    if total is None:
        return Measured(task, 0, predictions, reason=NO_LABELS, left_out=left_out)
    return Measured(
        task=task,
        labels=total.n,
        predictions=predictions,
        metrics=metrics.of(total, only),
        sums=total,
        ruler=Ruler.from_json(known[0].ruler),
        is_inferred=known[0].baseline_id is None,
        left_out=left_out,
        extreme=total.extreme if isinstance(total, Values) else 0,
    )


def series(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    step_seconds: int,
    metric: str,
    *,
    revision: Revision | None = None,
    slice: Slice | None = None,
    shadow: bool = False,
) -> list[Line]:
    """It gives one metric by buckets of time, a line a revision; buckets without labels are left.

    Raises: ValueError for a step that is no multiple of a minute, or too many buckets.
    """
    step, width = windows.step_for(windows.down(since, step_seconds), step_seconds, _kept())
    starts = _buckets(since, until, step)
    lines = []
    for one in sorted(_measures(endpoint, revision), key=lambda one: one.revision.number):
        ruler = Ruler.from_json(one.ruler)
        end = datetime.fromtimestamp(starts[-1] + step, since.tzinfo)
        rows = _marks(one, slice, shadow).filter(
            width_seconds=width,
            at__gte=datetime.fromtimestamp(starts[0], since.tzinfo),
            at__lt=end,
        )
        found: dict[int, Ints] = {}
        for at, labels, sums in rows.values_list("at", "labels", "sums").iterator(500):
            place = int(at.timestamp()) // step * step
            vector = np.concatenate([[labels], marks.unpack(sums)])
            found[place] = found[place] + vector if place in found else vector
        points = [
            Point(
                datetime.fromtimestamp(start, since.tzinfo),
                int(found[start][0]),
                metrics.of(marks.read(ruler, found[start][1:]), [metric]).get(
                    metric, Figure(None, reason="Not measured of this model")
                ),
            )
            for start in starts
            if start in found and found[start][0] > 0
        ]
        if points:
            lines.append(Line(one.revision, points))
    return lines


def estimated(
    revision: Revision,
    since: datetime,
    until: datetime,
    *,
    slice: Slice | None = None,
    shadow: bool = False,
) -> Measured:
    """It estimates quality without labels, from scores and what the reference's labels said.

    It is blind to concept drift: the same rows may mean something else today; and too good where
    the baseline is of rows that the model was trained on, which `note` says.
    """
    baseline, shares, reason = _calibrated(revision)
    if baseline is None or shares is None:
        return Measured("", 0, 0, is_estimate=True, reason=reason)
    window = tallies.window(
        revision.endpoint,
        baseline,
        since,
        until,
        slice=slice,
        revisions=[revision],
        shadow=shadow,
    )
    counts = _score_counts(baseline, window.counts)
    found = cbpe.estimate(shares, counts)
    note = reference.of(revision).estimate_note
    return Measured("binary", 0, int(counts.sum()), found, is_estimate=True, note=note)


def estimated_series(
    revision: Revision,
    since: datetime,
    until: datetime,
    step_seconds: int,
    metric: str,
    *,
    slice: Slice | None = None,
    shadow: bool = False,
) -> Line | None:
    """It estimates one metric by buckets of time; None where that cannot be done."""
    baseline, shares, _ = _calibrated(revision)
    if baseline is None or shares is None:
        return None
    starts, counts, _rows = tallies.series(
        revision.endpoint,
        baseline,
        since,
        until,
        step_seconds,
        slice=slice,
        revisions=[revision],
        shadow=shadow,
    )
    points = []
    for at, vector in zip(starts, counts, strict=True):
        scores = _score_counts(baseline, vector)
        figure = cbpe.estimate(shares, scores).get(metric)
        if figure is not None and figure.value is not None:
            points.append(Point(at, int(scores.sum()), figure))
    if not points:
        return None
    return Line(revision, points, True, baselines.is_of_training(baseline))


def reference_of(revision: Revision | None) -> Reference:
    """What figures of a revision are held against."""
    return reference.of(revision)


def predicted(
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    *,
    revision: Revision | None = None,
    slice: Slice | None = None,
    shadow: bool = False,
) -> int:
    """It counts the predictions of a span of time, by the baselines in force.

    Of revisions without a baseline by their files of rows, whose edges lie where they lie.
    """
    revisions = [revision] if revision else list(endpoint.revisions.select_related("version"))
    known = baselines.in_force_of(one.version_id for one in revisions)
    total = 0
    for version_id, baseline in known.items():
        mine = [one for one in revisions if one.version_id == version_id]
        total += tallies.window(
            endpoint, baseline, since, until, slice=slice, revisions=mine, shadow=shadow
        ).rows
    bare = [one.pk for one in revisions if one.version_id not in known]
    if slice is None and not shadow:
        files = RowFile.objects.filter(revision__in=bare, first_at__gte=since, last_at__lt=until)
        total += int(files.aggregate(rows=Sum("rows"))["rows"] or 0)
    return total


def lateness(endpoint: Endpoint, since: datetime, until: datetime) -> Lateness:
    """It tells how late the labels of a span's predictions came."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*), percentile_cont(0.5) within group"
            " (order by extract(epoch from observed_at - at))"
            " from quality_labelled where revision_id = any(%s) and at >= %s and at < %s"
            " and not shadow",
            [list(endpoint.revisions.values_list("pk", flat=True)), since, until],
        )
        labels, median = cursor.fetchone()
    return Lateness(int(labels), None if median is None else max(0.0, float(median)))


def uncounted(endpoint: Endpoint) -> list[dict[str, Any]]:
    """The labels that count nowhere, by who sent them and why: named for this endpoint, or for any
    by people who may send to it."""
    senders = people_who_may("feedback.send", endpoint).values("pk")
    # Who may do everything stands in no team.
    theirs = Q(sender__in=senders) | Q(sender__is_superuser=True)
    rows = Feedback.objects.exclude(state=State.JOINED).filter(
        Q(endpoint=endpoint) | Q(endpoint=None) & theirs
    )
    counted = (
        rows.values("sender__username", "state", "reason")
        .annotate(labels=Count("pk"))
        .order_by("state", "-labels", "sender__username", "reason")
    )
    return [dict(row) for row in counted[:100]]


def by_slice(endpoint: Endpoint, since: datetime, until: datetime) -> list[tuple[Slice, Measured]]:
    """The quality in each slice that is counted."""
    slices = Slice.objects.filter(endpoint=endpoint, retired_at=None)
    return [(one, measured(endpoint, since, until, slice=one)) for one in slices]


def by_revision(
    endpoint: Endpoint, since: datetime, until: datetime
) -> list[tuple[Revision, Measured]]:
    """The quality of each revision that has labels, newest first."""
    known = _measures(endpoint, None)
    found = [
        (one.revision, measured(endpoint, since, until, revision=one.revision)) for one in known
    ]
    return [(revision, seen) for revision, seen in found if seen.labels]


def task_of(endpoint: Endpoint, revision: Revision | None = None) -> str:
    """binary, multiclass or regression; "" as long as nothing is known."""
    known = _measures(endpoint, revision)
    if known:
        return _task(known[0])
    serves = revision or endpoint.stable
    baseline = baselines.in_force(serves.version) if serves else None
    return str(baseline.meaning.get("task", "")) if baseline else ""


def slices_of(endpoint: Endpoint) -> list[Slice]:
    """Those that are counted."""
    return list(Slice.objects.filter(endpoint=endpoint, retired_at=None))


def looking_back(endpoint: Endpoint, since: datetime) -> dict[int, datetime | None]:
    """The slices that have yet to count labels of predictions since a moment, and back to when
    they have; None: of no time yet."""
    if not has_labels(endpoint):
        return {}
    slices = Slice.objects.filter(endpoint=endpoint, retired_at=None)
    known = {one.slice_id: one for one in Lookback.objects.filter(slice__in=slices)}
    found: dict[int, datetime | None] = {}
    for pk in slices.values_list("pk", flat=True):
        one = known.get(pk)
        if one is None or (one.done_at is None and (one.at is None or one.at >= since)):
            found[pk] = one.at if one else None
    return found


def has_labels(endpoint: Endpoint) -> bool:
    return Labelled.objects.filter(revision__endpoint=endpoint).exists()


def _measures(endpoint: Endpoint, revision: Revision | None) -> list[Measure]:
    """How each revision with labels is measured, newest first."""
    rows = Measure.objects.filter(revision__endpoint=endpoint)
    if revision is not None:
        rows = rows.filter(revision=revision)
    return list(rows.select_related("revision__version").order_by("-revision__number"))


def _task(measure: Measure) -> str:
    return str(measure.meaning.get("task", ""))


def _alike(one: Measure, other: Measure) -> bool:
    """Whether sums of two revisions add up; amounts do in the label's own unit."""
    a, b = Ruler.from_json(one.ruler), Ruler.from_json(other.ruler)
    if a.kind == Kind.VALUES:
        return b.kind == Kind.VALUES
    return (a.kind, a.names) == (b.kind, b.names)


def _marks(
    measure: Measure,
    slice: Slice | None,
    shadow: bool,
) -> QuerySet[Marks]:
    return Marks.objects.filter(revision=measure.revision_id, slice=slice, shadow=shadow)


def _kept() -> dict[int, datetime]:
    return windows.oldest(TALLIES, timezone.now())


def _sum(rows: QuerySet[Marks], since: datetime, until: datetime, ruler: Ruler) -> tuple[Ints, int]:
    vector, labels = np.zeros(ruler.size, np.int64), 0
    for width, first, last in windows.cover(since, until, _kept()):
        parts = rows.filter(width_seconds=width, at__gte=first, at__lt=last)
        for found, sums in parts.values_list("labels", "sums").iterator(500):
            vector += marks.unpack(sums)
            labels += found
    return vector, labels


def _buckets(since: datetime, until: datetime, step: int) -> list[int]:
    first = int(since.timestamp()) // step * step
    count = math.ceil((until.timestamp() - first) / step)
    if count < 1:
        raise ValueError("The end must lie after the beginning")
    if count > MOST_POINTS:
        raise ValueError(f"{count} points are too many to draw; choose a longer step")
    return [first + place * step for place in range(count)]


def _calibrated(revision: Revision) -> tuple[Baseline | None, cbpe.Floats | None, str]:
    baseline = baselines.in_force(revision.version)
    if baseline is None:
        return None, None, "The version has no baseline"
    frozen = baselines.shape(baseline)
    if SCORE not in frozen.layout.slices:
        return None, None, "The model gives no probability of a positive class"
    shares = cbpe.shares_of(frozen.calibration)
    if shares is None:
        return None, None, "The reference data has no labels"
    return baseline, shares, ""


def _score_counts(baseline: Baseline, counts: Ints) -> Ints:
    """(bin of score, predicted class) of a window's counts."""
    start, stop = baselines.shape(baseline).layout.slices[SCORE]
    return counts[start:stop].reshape(2, BINS).T


def calibration_of(seen: Measured) -> list[metrics.Calibrated]:
    return metrics.calibration(seen.sums) if isinstance(seen.sums, Scores) else []


def confusion_of(seen: Measured) -> tuple[list[str], Ints] | None:
    """Names of the classes, and counts by (predicted, label)."""
    if seen.ruler is None or seen.sums is None:
        return None
    if isinstance(seen.sums, Scores):
        return seen.ruler.names, seen.sums.cells.sum(axis=0)
    if isinstance(seen.sums, marks.Classes | marks.Probabilities):
        return seen.ruler.names, seen.sums.matrix
    return None
