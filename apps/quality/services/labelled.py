"""Predicted rows that have a label: kept one by one, since a label may be corrected."""

import json
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from django.db import connection
from django.db.models import QuerySet

from apps.quality.marks import Rows
from apps.quality.models import Labelled
from apps.quality.services.batches import Batch, Sent
from apps.quality.services.sums import Change
from apps.serving.models import Revision


def of(revisions: Iterable[int], sent: Sequence[Sent]) -> QuerySet[Labelled]:
    """The predictions of labels that have one already."""
    # One parameter: as many as there are labels would take longer to write than to answer.
    return Labelled.objects.filter(revision__in=list(revisions)).extra(
        where=["request_id = any(%s)"], params=[[one.request_id for one in sent]]
    )


def known(batch: Batch, again: Sequence[Sent]) -> dict[int, list[Labelled]]:
    """What of a batch has a label already, by revision; locked."""
    rows = of(batch.revisions, again).select_for_update() if again else Labelled.objects.none()
    found: dict[int, list[Labelled]] = {}
    for row in rows.order_by("pk"):
        if (row.request_id, row.row) in batch.places:
            found.setdefault(row.revision_id, []).append(row)
    return found


def keep(revision: Revision, table: pa.Table, sent: Sequence[Sent], change: Change) -> None:
    """It writes predictions whose label came now; `sent`: the label of each."""
    rows = change.rows
    score = [None if np.isnan(value) else value for value in rows.score.tolist()]
    each = [None] * len(sent) if rows.each is None else map(_array, rows.each.tolist())
    with connection.cursor() as cursor:
        cursor.execute(
            'insert into quality_labelled (revision_id, request_id, "row", shadow, at, label,'
            ' observed_at, score, "each", predicted, actual, slices)'
            " select %s, id, place, shadow, to_timestamp(us / 1e6), label, observed_at, score,"
            "   probabilities::float8[], predicted, actual, slices::bigint[]"
            " from unnest(%s::text[], %s::int[], %s::bool[], %s::bigint[], %s::jsonb[],"
            "   %s::timestamptz[], %s::float8[], %s::text[], %s::float8[], %s::float8[],"
            "   %s::text[]) as given(id, place, shadow, us, label, observed_at, score,"
            "     probabilities, predicted, actual, slices)",
            [
                revision.pk,
                [one.request_id for one in sent],
                [one.row for one in sent],
                change.shadow.tolist(),
                table["at"].cast(pa.int64()).to_pylist(),
                [json.dumps(one.label) for one in sent],
                [one.observed_at for one in sent],
                score,
                list(each),
                rows.predicted.tolist(),
                rows.actual.tolist(),
                [_array(pks) for pks in change.slices],
            ],
        )


def rewrite(rows: Sequence[Labelled]) -> None:
    """It writes the labels that took the place of others."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "update quality_labelled as kept set label = now.label,"
            "   observed_at = now.observed_at, actual = now.actual"
            " from unnest(%s::bigint[], %s::jsonb[], %s::timestamptz[], %s::float8[])"
            "   as now(id, label, observed_at, actual) where kept.id = now.id",
            [
                [row.pk for row in rows],
                [json.dumps(row.label) for row in rows],
                [row.observed_at for row in rows],
                [float(row.actual) for row in rows],
            ],
        )


def put_into(rows: Sequence[Labelled], slices: Sequence[Sequence[int]]) -> None:
    """It writes in which more slices rows are counted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update quality_labelled as kept set slices = kept.slices || more.slices::bigint[]"
            " from unnest(%s::bigint[], %s::text[]) as more(id, slices) where kept.id = more.id",
            [[row.pk for row in rows], [_array(pks) for pks in slices]],
        )


def change(
    rows: Sequence[Labelled],
    actual: Sequence[float],
    slices: Sequence[Sequence[int]],
    sign: int,
    *,
    whole: bool = True,
) -> Change:
    """What rows add to sums, or take out of them, with these labels and in these slices."""
    return Change(
        rows=Rows.kept(
            [
                (row.score, row.predicted, value, row.each)
                for row, value in zip(rows, actual, strict=True)
            ]
        ),
        at=np.array([int(row.at.timestamp() // 1) for row in rows], np.int64),
        shadow=np.array([row.shadow for row in rows], bool),
        slices=slices,
        sign=sign,
        whole=whole,
    )


def _array(values: Iterable[float]) -> str:
    """An array as PostgreSQL reads it; it takes no rows of arrays of several lengths."""
    return "{" + ",".join(map(repr, values)) + "}"
