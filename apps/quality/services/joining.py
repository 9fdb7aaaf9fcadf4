"""Joins labels that wait with the predictions that they are of.

Rows are the queue: a label waits until `next_try_at`. Files are searched outside of transactions;
what was found, the sums and the states of the labels then change in one.
"""

from datetime import datetime

import numpy as np
import pyarrow as pa
from django.db import transaction

from apps.baselines import meaning as meanings
from apps.baselines.meaning import Meaning
from apps.core import live
from apps.core.once import alone
from apps.quality import marks
from apps.quality.lifecycle import State
from apps.quality.marks import Rows, Ruler
from apps.quality.models import Labelled, Measure
from apps.quality.services import batches, labelled, measures, predictions, slices, states, sums
from apps.quality.services.batches import Batch, Scope, Tried
from apps.quality.services.sums import Change
from apps.serving.models import Revision

MOST_BATCHES = 8  # a sweep; what waits longer comes with the next


def sweep(*, now: datetime) -> int:
    """It tries the labels that are due, and tells how many were; one worker at a time.

    Then it counts some of those that were joined before a slice was made.
    """
    tried = 0
    with alone("quality.join") as mine:
        if mine:
            measures.renew(now)
            slices.notice(now)
        for _ in range(MOST_BATCHES if mine else 0):
            taken = [_try(scope, now) for scope in batches.due(now)]
            tried += sum(taken)
            if not any(taken):
                break
        if mine:
            slices.look_back(now)
    return tried


def _try(scope: Scope, now: datetime) -> int:
    """It tries one batch of a scope, and tells how many labels it had."""
    batch = batches.take(scope, now)
    if batch is None:
        return 0
    _join(batch, now)
    return len(batch.sent)


def _join(batch: Batch, now: datetime) -> None:
    found = predictions.of(batch)
    tried = Tried()
    with transaction.atomic():
        again = [sent for sent in batch.sent if sent.state != State.JOINED]
        for pk, known in labelled.known(batch, again).items():
            _correct(batch, batch.revisions[pk], known, tried, now)
        for pk, table in found.items():
            _count(batch, batch.revisions[pk], table, tried, now)
        states.settle(batch, tried, now)
        for endpoint in batch.endpoints if tried.joined else ():
            live.publish(f"endpoint:{endpoint.pk}")


def _correct(
    batch: Batch, revision: Revision, known: list[Labelled], tried: Tried, now: datetime
) -> None:
    """It takes labels that were observed again out of the sums, and the new ones in."""
    measure = Measure.objects.filter(revision=revision).first()
    if measure is None:
        return
    meaning, ruler = Meaning.from_json(measure.meaning), Ruler.from_json(measure.ruler)
    old: list[tuple[Labelled, float]] = []
    again: list[Labelled] = []
    for row in known:
        place = batch.places[row.request_id, row.row]
        sent = batch.sent[place]
        actual = meanings.label_of(meaning, sent.label)
        if actual is None:
            tried.wrong[place] = states.wrong(meaning, sent.label)
            continue
        tried.joined.add(place)
        if sent.label != row.label and sent.observed_at >= row.observed_at:
            again.append(row)
            if float(actual) != row.actual:
                old.append((row, row.actual))
            row.label, row.observed_at, row.actual = sent.label, sent.observed_at, actual
    labelled.rewrite(again)
    if old:
        changed = [row for row, _ in old]
        inside = slices.still_there([row.slices for row in changed])
        out = labelled.change(changed, [actual for _, actual in old], inside, -1)
        into = labelled.change(changed, [row.actual for row in changed], inside, 1)
        sums.write(revision, ruler, [out, into], now)


def _count(batch: Batch, revision: Revision, table: pa.Table, tried: Tried, now: datetime) -> None:
    """It counts predictions whose label came now."""
    found = table["place"].to_pylist()
    labels: list[object] = [batch.sent[place].label for place in found]
    measure = measures.of(revision, predictions.outputs(table), labels, now)
    if measure is None:
        tried.untold |= set(found)
        return
    meaning, ruler = Meaning.from_json(measure.meaning), Ruler.from_json(measure.ruler)
    table, rows = _readable(batch, table, meaning, ruler, tried)
    table, rows = _new(batch, revision, table, rows)
    if not table.num_rows:
        return
    change = Change(
        rows=rows,
        at=predictions.seconds(table),
        shadow=table["shadow"].to_numpy(),
        slices=predictions.inside(batch.slices_of(revision), table),
        sign=1,
    )
    sent = [batch.sent[place] for place in table["place"].to_pylist()]
    labelled.keep(revision, table, sent, change)
    sums.write(revision, ruler, [change], now)


def _readable(
    batch: Batch, table: pa.Table, meaning: Meaning, ruler: Ruler, tried: Tried
) -> tuple[pa.Table, Rows]:
    """It leaves the rows whose label and prediction can be measured, and says why not."""
    found = meanings.read(meaning, table)
    labels = [
        (place, meanings.label_of(meaning, batch.sent[place].label))
        for place in table["place"].to_pylist()
    ]
    rows = Rows(
        score=np.full(table.num_rows, np.nan) if found.score is None else found.score,
        predicted=found.predicted.astype(float),
        actual=np.array([np.nan if label is None else label for _, label in labels], float),
        each=ruler.each(found.each),
    )
    usable = marks.usable(ruler, rows)
    for (place, label), readable in zip(labels, usable.tolist(), strict=True):
        if label is None:
            tried.wrong[place] = states.wrong(meaning, batch.sent[place].label)
        elif not readable:
            tried.wrong[place] = "The model's answer could not be read"
        else:
            tried.joined.add(place)
    chosen = usable & ~np.isnan(rows.actual)
    return table.filter(pa.array(chosen)), rows.where(chosen)


def _new(batch: Batch, revision: Revision, table: pa.Table, rows: Rows) -> tuple[pa.Table, Rows]:
    """It leaves the rows that have no label yet: those that have one were corrected."""
    sent = [batch.sent[place] for place in table["place"].to_pylist()]
    there = labelled.of([revision.pk], sent)
    known = set(there.values_list("request_id", "row", "shadow"))
    shadow = table["shadow"].to_pylist()
    fresh = np.array(
        [(*one.key, copy) not in known for one, copy in zip(sent, shadow, strict=True)],
        dtype=bool,
    )
    return table.filter(pa.array(fresh)), rows.where(fresh)
