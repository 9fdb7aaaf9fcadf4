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

FEWEST = 30  # labels that must be there before the model's task is told by them alone


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
    return Measure.objects.create(
        revision=revision,
        baseline=baseline,
        meaning=told.as_json(),
        ruler=ruler_of(told, labels, baseline.quality if baseline else {}).as_json(),
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


def ruler_of(meaning: Meaning, labels: list[object], reference: Mapping[str, float]) -> Ruler:
    """How the sums of a meaning are made.

    Amounts are measured in spreads of the reference's labels, or else of the first that came.
    """
    if meaning.task is Task.REGRESSION:
        mean, spread = reference.get("label_mean"), reference.get("label_std")
        if mean is None or not spread:
            mean, spread = _spread(meaning, labels)
        return Ruler(Kind.VALUES, mean=mean, spread=spread if spread > 0 else 1.0)
    kind = Kind.SCORES if meaning.has_score else Kind.CLASSES
    if meaning.task is Task.MULTICLASS and meaning.form is Form.PROBABILITIES:
        kind = Kind.PROBABILITIES
    positive = meaning.positive if meaning.positive >= 0 else 1
    return Ruler(kind, meaning.classes, positive)


def _spread(meaning: Meaning, labels: list[object]) -> tuple[float, float]:
    read = [meanings.label_of(meaning, label) for label in labels]
    values = np.array([value for value in read if value is not None], dtype=float)
    return (float(np.median(values)), float(values.std())) if values.size else (0.0, 1.0)


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
