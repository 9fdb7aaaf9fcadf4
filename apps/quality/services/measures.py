"""Says how the labels of a revision are measured: by its baseline, or by what came in."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
from django.db import connection, transaction

from apps.baselines import meaning as meanings
from apps.baselines import selectors as baselines
from apps.baselines.meaning import UNKNOWN, Form, Meaning, Task
from apps.baselines.models import Baseline
from apps.quality.lifecycle import Kind, State
from apps.quality.marks import Ruler
from apps.quality.models import Labelled, Marks, Measure
from apps.serving.models import Revision

# Labels that must be there before the model's task, or how far its labels lie apart, is told by
# them alone. Of fewer no figure is shown either (`metrics.FEWEST`).
FEWEST = 30


def of(
    revision: Revision, outputs: pa.Table, labels: list[object], now: datetime
) -> Measure | None:
    """It gives how a revision's labels are measured; None: that cannot be said yet.

    Frozen by the first labels that are joined.
    """
    kept = Measure.objects.filter(revision=revision).first()
    if kept is not None:
        return kept
    baseline = baselines.in_force(revision.version)
    told = _told(baseline)
    if told.task is Task.UNKNOWN:
        baseline, told = None, _inferred(revision, outputs, labels)
    if told.task is Task.UNKNOWN:
        return None
    ruler = ruler_of(told, outputs, labels, baseline.quality if baseline else {})
    if ruler is None:
        return None
    return Measure.objects.create(
        revision=revision,
        baseline=baseline,
        meaning=told.as_json(),
        ruler=ruler.as_json(),
        created_at=now,
    )


def renew(now: datetime) -> None:
    """A baseline that came later, and reads outputs otherwise, is followed: all is counted anew."""
    kept = list(Measure.objects.select_related("revision"))
    newest = baselines.in_force_of(one.revision.version_id for one in kept)
    for one in kept:
        told = _told(newest.get(one.revision.version_id))
        if told.task is not Task.UNKNOWN and told != Meaning.from_json(one.meaning):
            _forget(one, now)


def _told(baseline: Baseline | None) -> Meaning:
    return Meaning.from_json(baseline.meaning) if baseline and baseline.meaning else UNKNOWN


def ruler_of(
    meaning: Meaning, outputs: pa.Table, labels: list[object], reference: Mapping[str, float]
) -> Ruler | None:
    """How the sums of a meaning are made; None: too few labels came to say it.

    Amounts are measured in spreads of the reference's labels, or else of the first that came.
    """
    if meaning.task is Task.REGRESSION:
        mean, spread = reference.get("label_mean"), reference.get("label_std")
        if mean is not None and spread:
            return Ruler(Kind.VALUES, mean=mean, spread=spread)
        return _by_first(meaning, outputs, labels)
    kind = Kind.SCORES if meaning.has_score else Kind.CLASSES
    if meaning.task is Task.MULTICLASS and meaning.form is Form.PROBABILITIES:
        kind = Kind.PROBABILITIES
    positive = meaning.positive if meaning.positive >= 0 else 1
    return Ruler(kind, meaning.classes, positive)


def _by_first(meaning: Meaning, outputs: pa.Table, labels: list[object]) -> Ruler | None:
    """The ruler of the first labels: of one alone the spread was 0, and stayed so for ever.

    How far they are from their median, in the middle: one of 1e300 does not widen it. Where nearly
    all are the same, as of amounts that are mostly 0, the model's errors tell the size as well.
    """
    read = [meanings.label_of(meaning, label) for label in labels]
    actual = np.array([np.nan if value is None else value for value in read], dtype=float)
    error = np.abs(actual - meanings.read(meaning, outputs).predicted)
    known = np.isfinite(actual)
    if known.sum() < FEWEST:
        return None
    middle = float(np.median(actual[known]))
    sizes = np.abs(actual[known] - middle)
    sizes = sizes[sizes > 0]
    if sizes.size < known.sum() / 10:
        sizes = np.concatenate([sizes, error[np.isfinite(error) & (error > 0)]])
    spread = float(np.median(sizes)) if sizes.size else abs(middle)
    return Ruler(Kind.VALUES, mean=middle, spread=spread if spread > 0 else 1.0)


def _inferred(revision: Revision, outputs: pa.Table, labels: list[object]) -> Meaning:
    if len(labels) < FEWEST:
        return UNKNOWN
    try:
        column = pa.array(labels)
    except pa.ArrowInvalid:  # texts among numbers
        column = pa.array([str(label) for label in labels])
    return meanings.infer(outputs, column, baselines.positive_class(revision.version))


@transaction.atomic
def _forget(kept: Measure, now: datetime) -> None:
    """What was joined waits again, to be read as the new baseline says."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update quality_feedback as sent set state = %s, tried_at = null, next_try_at = %s"
            " from quality_labelled as kept where kept.revision_id = %s"
            ' and sent.request_id = kept.request_id and sent."row" = kept."row"'
            " and sent.state = %s",
            [State.WAITING.value, now, kept.revision_id, State.JOINED.value],
        )
    Labelled.objects.filter(revision=kept.revision_id).delete()
    Marks.objects.filter(revision=kept.revision_id).delete()
    kept.delete()
