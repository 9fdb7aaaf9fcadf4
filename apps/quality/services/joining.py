"""Joins labels that wait with the predictions that they are of.

Rows are the queue: a label waits until `next_try_at`. Files are searched outside of transactions;
what was found, the sums and the states of the labels then change in one.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from django.db import connection, transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet

from apps.accounts.models import User
from apps.accounts.selectors import may, teams_of
from apps.baselines import meaning as meanings
from apps.baselines.meaning import Meaning
from apps.core import live
from apps.core.once import alone
from apps.monitoring import conditions, places
from apps.monitoring.models import RowFile, Slice
from apps.quality import marks
from apps.quality.found import Search, Wanted, searching
from apps.quality.items import Label
from apps.quality.lifecycle import State
from apps.quality.marks import Rows, Ruler
from apps.quality.models import Feedback, Labelled, Measure
from apps.quality.services import measures, sums
from apps.quality.services.sums import Change
from apps.serving import selectors as serving
from apps.serving.models import Endpoint, Revision

log = logging.getLogger(__name__)

BATCH = 50_000
MOST_BATCHES = 8  # a sweep; what waits longer comes with the next
CHUNK_ROWS = 3_000_000  # of files that are searched at once
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(hours=1)
LATE = timedelta(minutes=10)  # a copy's row may come so much later than its original's
KEEP_DAYS = 30.0  # labels of predictions that never came, where the log's policy names no time
Key = tuple[str, int]


@dataclass(frozen=True)
class Sent:
    """A label that is tried now."""

    pk: int
    request_id: str
    row: int
    label: Label
    observed_at: datetime
    received_at: datetime
    state: State

    @property
    def key(self) -> Key:
        return self.request_id, self.row


@dataclass
class Tried:
    """What came of a batch, by the place of its labels."""

    joined: set[int] = field(default_factory=set)
    wrong: dict[int, str] = field(default_factory=dict)  # why
    untold: set[int] = field(default_factory=set)  # found, but too few to tell what they are


def sweep(*, now: datetime) -> int:
    """It tries the labels that are due, and tells how many were; one worker at a time."""
    tried = 0
    with alone("quality.join") as mine:
        if mine:
            measures.renew(now)
        for _ in range(MOST_BATCHES if mine else 0):
            batches = [_join(*scope, now) for scope in _due(now)]
            tried += sum(batches)
            if not any(batches):
                break
    return tried


def _due(now: datetime) -> list[tuple[int, int | None, bool]]:
    """Whose labels are due, for which endpoint, and whether they were tried before."""
    due = Feedback.objects.filter(next_try_at__lte=now).annotate(
        is_first=ExpressionWrapper(Q(tried_at__isnull=True), BooleanField())
    )
    scopes = due.values_list("sender", "endpoint", "is_first").distinct()
    return sorted(scopes, key=lambda scope: (scope[0], scope[1] or 0, scope[2]))


def _join(sender: int, endpoint: int | None, is_first: bool, now: datetime) -> int:
    """It tries one batch of one sender's labels for one endpoint, or for any."""
    due = Feedback.objects.filter(sender=sender, endpoint=endpoint, next_try_at__lte=now)
    due = due.filter(tried_at__isnull=is_first).order_by("next_try_at", "pk")
    rows = list(due[:BATCH])
    if not rows:
        return 0
    batch = [
        Sent(
            one.pk, one.request_id, one.row, one.label, one.observed_at, one.received_at,
            State(one.state),
        )
        for one in rows
    ]  # fmt: skip
    endpoints = _endpoints(User.objects.get(pk=sender), endpoint)
    tried_at = [one.tried_at for one in rows if one.tried_at]
    since = None if is_first else min(tried_at) - LATE
    _Batch(batch, endpoints, now).join(since)
    return len(batch)


def _endpoints(sender: User, endpoint: int | None) -> list[Endpoint]:
    """Where the sender's labels may count now; not where they might when they sent them."""
    rows = Endpoint.objects.select_related("model", "environment")
    if endpoint is None:
        return list(rows.filter(model__team__in=teams_of(sender, "feedback.send")))
    return [found for found in rows.filter(pk=endpoint) if may(sender, "feedback.send", found)]


class _Batch:
    def __init__(self, batch: Sequence[Sent], endpoints: list[Endpoint], now: datetime) -> None:
        self.batch, self.endpoints, self.now = batch, endpoints, now
        self.places = {sent.key: place for place, sent in enumerate(batch)}
        self.revisions = {
            revision.pk: revision
            for revision in Revision.objects.filter(endpoint__in=endpoints).select_related(
                "version__model", "endpoint__model"
            )
        }
        self.slices: dict[int, list[Slice]] = {}
        for one in Slice.objects.filter(endpoint__in=endpoints, retired_at=None).order_by("pk"):
            self.slices.setdefault(one.endpoint_id, []).append(one)

    def join(self, since: datetime | None) -> None:
        found = self._search(since)
        tried = Tried()
        with transaction.atomic():
            for pk, known in self._known().items():
                self._correct(self.revisions[pk], known, tried)
            for pk, table in found.items():
                self._count(self.revisions[pk], table, tried)
            self._settle(tried)
            for endpoint in self.endpoints if tried.joined else ():
                live.publish(f"endpoint:{endpoint.pk}")

    def _search(self, since: datetime | None) -> dict[int, pa.Table]:
        """It gives the rows of the batch by revision; files that came since a moment, or all."""
        parts: dict[int, list[pa.Table]] = {}
        missing = self._missing() if since is None else None
        wanted = Wanted([sent.request_id for sent in self.batch], [s.row for s in self.batch])
        files = RowFile.objects.filter(revision__in=list(self.revisions))
        if since is not None:
            files = files.filter(log_file__created_at__gte=since)
        if not files.exists() or missing == set():
            return {}
        with searching(wanted) as search:
            for chunk in _chunks(files.order_by("-last_at", "-pk").iterator(5_000)):
                for pk in sorted({file.revision_id for file in chunk}):
                    table = self._search_revision(search, pk, chunk)
                    if table is not None and table.num_rows:
                        parts.setdefault(pk, []).append(table)
                        if missing is not None:
                            missing -= set(table["place"].to_pylist())
                if missing is not None and not missing:
                    break  # newest first: most labels are of predictions of late
        return {
            pk: pa.concat_tables(tables, promote_options="permissive")
            for pk, tables in sorted(parts.items())
        }

    def _search_revision(self, search: Search, pk: int, chunk: list[RowFile]) -> pa.Table | None:
        slices = self.slices.get(self.revisions[pk].endpoint_id, [])
        columns = sorted(set().union(*(conditions.columns(one.condition) for one in slices)))
        paths = [places.rows() / file.path for file in chunk if file.revision_id == pk]
        return search.rows(paths, columns)

    def _missing(self) -> set[int]:
        """The labels of predictions that have none yet: the others need no file."""
        known = self._labelled(self.batch).values_list("request_id", "row")
        return set(self.places.values()) - {self.places.get(key, -1) for key in known}

    def _labelled(self, batch: Sequence[Sent], pk: int | None = None) -> QuerySet[Labelled]:
        """The predictions of a batch that have a label, of all revisions or of one."""
        rows = Labelled.objects.filter(revision__in=list(self.revisions) if pk is None else [pk])
        # One parameter: as many as there are labels would take longer to write than to answer.
        return rows.extra(
            where=["request_id = any(%s)"], params=[[one.request_id for one in batch]]
        )

    def _known(self) -> dict[int, list[Labelled]]:
        """What of the batch has a label already, by revision."""
        again = [sent for sent in self.batch if sent.state != State.JOINED]
        rows = self._labelled(again).select_for_update() if again else Labelled.objects.none()
        known: dict[int, list[Labelled]] = {}
        for row in rows.order_by("pk"):
            if (row.request_id, row.row) in self.places:
                known.setdefault(row.revision_id, []).append(row)
        return known

    def _correct(self, revision: Revision, known: list[Labelled], tried: Tried) -> None:
        """It takes labels that were observed again out of the sums, and the new ones in."""
        measure = Measure.objects.filter(revision=revision).first()
        if measure is None:
            return
        meaning, ruler = Meaning.from_json(measure.meaning), Ruler.from_json(measure.ruler)
        old: list[tuple[Labelled, float]] = []
        again: list[Labelled] = []
        for row in known:
            place = self.places[row.request_id, row.row]
            sent = self.batch[place]
            actual = meanings.label_of(meaning, sent.label)
            if actual is None:
                tried.wrong[place] = wrong(meaning, sent.label)
                continue
            tried.joined.add(place)
            if sent.label != row.label and sent.observed_at >= row.observed_at:
                again.append(row)
                if float(actual) != row.actual:
                    old.append((row, row.actual))
                row.label, row.observed_at, row.actual = sent.label, sent.observed_at, actual
        _rewrite(again)
        if old:
            changed = [row for row, _ in old]
            out = _change(changed, [actual for _, actual in old], -1)
            sums.write(revision, ruler, [out, _change(changed, [r.actual for r in changed], 1)])

    def _count(self, revision: Revision, table: pa.Table, tried: Tried) -> None:
        """It counts predictions whose label came now."""
        table = _newest(table)
        labels = [self.batch[place].label for place in table["place"].to_pylist()]
        measure = measures.of(revision, _outputs(table), list(labels), self.now)
        if measure is None:
            tried.untold |= set(table["place"].to_pylist())
            return
        meaning, ruler = Meaning.from_json(measure.meaning), Ruler.from_json(measure.ruler)
        table, rows = self._readable(table, meaning, ruler, tried)
        table, rows = self._new(revision, table, rows)
        if not table.num_rows:
            return
        change = Change(
            rows=rows,
            at=_seconds(table),
            shadow=table["shadow"].to_numpy(),
            slices=self._slices(revision, table),
            sign=1,
        )
        self._keep(revision, table, change)
        sums.write(revision, ruler, [change])

    def _readable(
        self, table: pa.Table, meaning: Meaning, ruler: Ruler, tried: Tried
    ) -> tuple[pa.Table, Rows]:
        """It leaves the rows whose label and prediction can be measured, and says why not."""
        found = meanings.read(meaning, table)
        labels = [
            (place, meanings.label_of(meaning, self.batch[place].label))
            for place in table["place"].to_pylist()
        ]
        rows = Rows(
            score=np.full(table.num_rows, np.nan) if found.score is None else found.score,
            predicted=found.predicted.astype(float),
            actual=np.array([np.nan if label is None else label for _, label in labels], float),
        )
        usable = marks.usable(ruler, rows)
        for (place, label), readable in zip(labels, usable.tolist(), strict=True):
            if label is None:
                tried.wrong[place] = wrong(meaning, self.batch[place].label)
            elif not readable:
                tried.wrong[place] = "The model's answer could not be read"
            else:
                tried.joined.add(place)
        chosen = usable & ~np.isnan(rows.actual)
        return table.filter(pa.array(chosen)), _where(rows, chosen)

    def _new(self, revision: Revision, table: pa.Table, rows: Rows) -> tuple[pa.Table, Rows]:
        """It leaves the rows that have no label yet: those that have one were corrected."""
        batch = [self.batch[place] for place in table["place"].to_pylist()]
        rows_known = self._labelled(batch, revision.pk)
        known = set(rows_known.values_list("request_id", "row", "shadow"))
        shadow = table["shadow"].to_pylist()
        fresh = np.array(
            [(*sent.key, copy) not in known for sent, copy in zip(batch, shadow, strict=True)],
            dtype=bool,
        )
        return table.filter(pa.array(fresh)), _where(rows, fresh)

    def _slices(self, revision: Revision, table: pa.Table) -> list[list[int]]:
        inside: list[list[int]] = [[] for _ in range(table.num_rows)]
        for one in self.slices.get(revision.endpoint_id, []):
            for place in np.flatnonzero(conditions.mask(one.condition, table)).tolist():
                inside[place].append(one.pk)
        return inside

    def _keep(self, revision: Revision, table: pa.Table, change: Change) -> None:
        batch = [self.batch[place] for place in table["place"].to_pylist()]
        score = [None if np.isnan(value) else value for value in change.rows.score.tolist()]
        with connection.cursor() as cursor:
            cursor.execute(
                'insert into quality_labelled (revision_id, request_id, "row", shadow, at, label,'
                " observed_at, score, predicted, actual, slices)"
                " select %s, id, place, shadow, to_timestamp(us / 1e6), label, observed_at, score,"
                "   predicted, actual, slices::bigint[]"
                " from unnest(%s::text[], %s::int[], %s::bool[], %s::bigint[], %s::jsonb[],"
                "   %s::timestamptz[], %s::float8[], %s::float8[], %s::float8[], %s::text[])"
                "   as given(id, place, shadow, us, label, observed_at, score, predicted, actual,"
                "     slices)",
                [
                    revision.pk,
                    [sent.request_id for sent in batch],
                    [sent.row for sent in batch],
                    change.shadow.tolist(),
                    table["at"].cast(pa.int64()).to_pylist(),
                    [json.dumps(sent.label) for sent in batch],
                    [sent.observed_at for sent in batch],
                    score,
                    change.rows.predicted.tolist(),
                    change.rows.actual.tolist(),
                    ["{" + ",".join(map(str, pks)) + "}" for pks in change.slices],
                ],
            )

    def _settle(self, tried: Tried) -> None:
        """It writes what became of each label, unless it was corrected meanwhile."""
        # What was found must be found again when there are more of its kind.
        tried_at = [None if i in tried.untold else self.now for i in range(len(self.batch))]
        states, reasons, again = [], [], []
        keep = _keep_for(self.endpoints)
        for place, sent in enumerate(self.batch):
            state, reason, at = self._state(place, sent, tried, keep)
            states.append(state.value)
            reasons.append(reason)
            again.append(at)
        with connection.cursor() as cursor:
            cursor.execute(
                "update quality_feedback as sent set state = now.state, reason = now.reason,"
                "   tried_at = now.tried_at, next_try_at = now.next_try_at"
                " from unnest(%s::bigint[], %s::jsonb[], %s::timestamptz[], %s::text[],"
                "   %s::text[], %s::timestamptz[], %s::timestamptz[])"
                "   as now(id, label, observed_at, state, reason, tried_at, next_try_at)"
                " where sent.id = now.id and sent.label = now.label"
                "   and sent.observed_at = now.observed_at",
                [
                    [sent.pk for sent in self.batch],
                    [json.dumps(sent.label) for sent in self.batch],
                    [sent.observed_at for sent in self.batch],
                    states,
                    reasons,
                    tried_at,
                    again,
                ],
            )

    def _state(
        self, place: int, sent: Sent, tried: Tried, keep: timedelta
    ) -> tuple[State, str, datetime | None]:
        if place in tried.joined or sent.state == State.JOINED:
            # Once more, for copies of its request that come later.
            again = None if sent.state == State.JOINED else self.now + LATE
            return State.JOINED, "", again
        if place in tried.wrong:
            return State.WRONG_TYPE, tried.wrong[place], None
        age = self.now - sent.received_at
        if age >= keep:
            return State.UNKNOWN, "No such prediction was found", None
        reason = "Too few labels to tell what they are" if place in tried.untold else ""
        return State.WAITING, reason, self.now + min(max(age / 2, FIRST_PAUSE), LONGEST_PAUSE)


def _rewrite(rows: Sequence[Labelled]) -> None:
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


def wrong(meaning: Meaning, label: Label) -> str:
    """Why a label is none of this model."""
    words = str(label)[:60]
    if meaning.task.has_classes:
        known = ", ".join(meaning.classes[:5]) + (", …" if len(meaning.classes) > 5 else "")
        return f"{words} is no class of the model; it knows {known}"
    return f"{words} is no number"


def _chunks(files: Iterator[RowFile]) -> Iterator[list[RowFile]]:
    chunk: list[RowFile] = []
    rows = 0
    for file in files:
        chunk.append(file)
        rows += file.rows
        if rows >= CHUNK_ROWS:
            yield chunk
            chunk, rows = [], 0
    if chunk:
        yield chunk


def _newest(table: pa.Table) -> pa.Table:
    """A caller may send a request again with the same id: the last of them is the one."""
    order = pc.sort_indices(table, [("at", "descending")])
    sorted_ = table.select(["place", "shadow"]).take(order).append_column("nth", order)
    first = sorted_.group_by(["place", "shadow"], use_threads=False).aggregate([("nth", "first")])
    return table.take(first["nth_first"])


def _outputs(table: pa.Table) -> pa.Table:
    return table.select(meanings.output_names(table))


def _seconds(table: pa.Table) -> marks.Ints:
    seconds: marks.Ints = table["at"].cast(pa.int64()).to_numpy() // 1_000_000
    return seconds


def _where(rows: Rows, chosen: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Rows:
    return Rows(rows.score[chosen], rows.predicted[chosen], rows.actual[chosen])


def _change(rows: Sequence[Labelled], actual: Sequence[float], sign: int) -> Change:
    return Change(
        rows=Rows(
            score=np.array([np.nan if r.score is None else r.score for r in rows], float),
            predicted=np.array([row.predicted for row in rows], float),
            actual=np.array(actual, float),
        ),
        at=np.array([int(row.at.timestamp() // 1) for row in rows], np.int64),
        shadow=np.array([row.shadow for row in rows], bool),
        slices=[row.slices for row in rows],
        sign=sign,
    )


def _keep_for(endpoints: Sequence[Endpoint]) -> timedelta:
    """How long a label may wait: as long as predictions are kept, if that is limited."""
    days = [serving.serving_part(endpoint).capture.keep_days for endpoint in endpoints[:100]]
    return timedelta(days=max((KEEP_DAYS if one is None else one for one in days), default=1.0))
