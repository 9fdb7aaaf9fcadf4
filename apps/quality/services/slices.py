"""Counts labels in slices that were made after they were joined: each once, newest first.

Whoever makes a slice need not tell anybody: those that no Lookback stands of are noticed here. From
then on labels count in it when they are joined; those before are looked back at, a few a sweep, in
the transaction that moves the Lookback on. Like tallies, as far back as their files of rows are
there, and no longer when the slice is retired.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt
from django.db import connection, transaction
from django.db.models import Max

from apps.core import live
from apps.monitoring.models import RowFile, Slice
from apps.quality.found import Search, Wanted
from apps.quality.marks import Ruler
from apps.quality.models import Labelled, Lookback, Measure
from apps.quality.services import labelled, predictions, sums

STEPS = 4  # a sweep: labels that come now wait meanwhile
LABELS_AT_ONCE = 20_000
Place = tuple[int, int, datetime | None, int | None]  # endpoint, through, at, before

# Of each revision those that come next, by its index; of all of them the newest.
_NEXT = """
select found.id from unnest(%(revisions)s::bigint[]) as of(revision_id)
cross join lateral (
    select id, at from quality_labelled
    where revision_id = of.revision_id and id <= %(through)s
    and (%(at)s::timestamptz is null or at <= %(at)s and (at, id) < (%(at)s, %(before)s))
    order by at desc, id desc limit %(most)s) as found
order by found.at desc, found.id desc limit %(most)s
"""


def notice(now: datetime) -> None:
    """It begins to count labels in slices that were made since; nothing is joined meanwhile."""
    new = list(Slice.objects.filter(retired_at=None, lookback=None).order_by("pk"))
    if not new:
        return
    through = Labelled.objects.aggregate(last=Max("pk"))["last"] or 0
    labels = Labelled.objects.filter(revision__endpoint__in={one.endpoint_id for one in new})
    of = set(labels.order_by().values_list("revision__endpoint", flat=True).distinct())
    Lookback.objects.bulk_create(
        [
            Lookback(slice=one, through=through, done_at=None if one.endpoint_id in of else now)
            for one in new
        ]
    )


def look_back(now: datetime) -> None:
    """It takes some steps back; slices that stand at one place go together."""
    left = STEPS
    while left:
        waiting = _waiting()
        for place, group in list(waiting.items())[:left]:
            _step(place, group, now)
            left -= 1
        if not waiting:
            return


def still_there(slices: Sequence[Sequence[int]]) -> list[list[int]]:
    """It leaves out slices that were deleted: their sums went with them."""
    named = {pk for each in slices for pk in each}
    there = set(Slice.objects.filter(pk__in=named).values_list("pk", flat=True))
    return [[pk for pk in each if pk in there] for each in slices]


def _waiting() -> dict[Place, list[Lookback]]:
    rows = Lookback.objects.filter(done_at=None, slice__retired_at=None)
    found: dict[Place, list[Lookback]] = defaultdict(list)
    for one in rows.select_related("slice").order_by("slice"):
        found[one.slice.endpoint_id, one.through, one.at, one.before].append(one)
    return found


def _step(place: Place, group: Sequence[Lookback], now: datetime) -> None:
    endpoint = place[0]
    chosen, files = _searchable(_next(place))
    slices = [one.slice for one in group]
    inside = dict(_inside(chosen, files, slices))
    with transaction.atomic():
        # Of two who take the same step the second one finds that it was taken.
        still = Lookback.objects.select_for_update().filter(pk__in=[one.pk for one in group])
        if [(one.at, one.before, one.done_at) for one in still] != [(*place[2:], None)] * len(
            group
        ):
            return
        _count(inside, now)
        if chosen:
            still.update(at=chosen[-1].at, before=chosen[-1].pk)
        else:
            still.update(done_at=now)
        live.publish(f"endpoint:{endpoint}")


def _next(place: Place) -> list[Labelled]:
    """It gives the labels to look at, newest first."""
    endpoint, through, at, before = place
    measured = Measure.objects.filter(revision__endpoint=endpoint)
    with connection.cursor() as cursor:
        cursor.execute(
            _NEXT,
            {
                "revisions": list(measured.values_list("revision", flat=True)),
                "through": through,
                "at": at,
                "before": before,
                "most": LABELS_AT_ONCE,
            },
        )
        pks = [row[0] for row in cursor.fetchall()]
    rows = Labelled.objects.only("revision_id", "request_id", "row", "shadow", "at").in_bulk(pks)
    return [rows[pk] for pk in pks if pk in rows]


def _searchable(rows: list[Labelled]) -> tuple[list[Labelled], list[RowFile]]:
    """It leaves so many of the newest as need a limited number of files, and gives these."""
    if not rows:
        return [], []
    files = RowFile.objects.filter(
        revision__in={row.revision_id for row in rows},
        first_at__lte=rows[0].at,
        last_at__gte=rows[-1].at,
    )
    taken: list[RowFile] = []
    size = 0
    for file in files.order_by("-last_at", "-pk").iterator(500):
        # Those that are newer than the file are in none of the rest.
        if size >= predictions.CHUNK_ROWS and rows[0].at > file.last_at:
            return [row for row in rows if row.at > file.last_at], taken
        taken.append(file)
        size += file.rows
    return rows, taken


def _inside(
    rows: Sequence[Labelled], files: Sequence[RowFile], slices: Sequence[Slice]
) -> Iterator[tuple[int, list[int]]]:
    """It gives in which of the slices labels are, of those that are in any."""
    for pk in sorted({file.revision_id for file in files}):
        mine = [row for row in rows if row.revision_id == pk]
        here = [file for file in files if file.revision_id == pk]
        search = Search(Wanted([row.request_id for row in mine], [row.row for row in mine]))
        table = predictions.rows(search, here, slices)
        if table is None or not table.num_rows:
            continue
        # Of an id that was used twice only the row that was joined.
        at = np.array([_microseconds(row.at) for row in mine])
        shadow = np.array([row.shadow for row in mine])
        place = table["place"].to_numpy()
        same: npt.NDArray[np.bool_] = (at[place] == predictions.microseconds(table)) & (
            shadow[place] == table["shadow"].to_numpy()
        )
        for one, pks, is_it in zip(
            place.tolist(), predictions.inside(slices, table), same.tolist(), strict=True
        ):
            if is_it and pks:
                yield mine[one].pk, pks


def _count(inside: dict[int, list[int]], now: datetime) -> None:
    """It adds labels to the sums of slices that they are not in yet."""
    by_revision: dict[int, list[Labelled]] = defaultdict(list)
    rows = Labelled.objects.filter(pk__in=list(inside)).select_for_update(of=("self",))
    for row in rows.order_by("pk"):
        by_revision[row.revision_id].append(row)
    measures = Measure.objects.filter(revision__in=list(by_revision)).select_related("revision")
    for measure in measures.order_by("revision"):
        found = by_revision[measure.revision_id]
        new = [[pk for pk in inside[row.pk] if pk not in row.slices] for row in found]
        labelled.put_into(found, new)
        change = labelled.change(found, [row.actual for row in found], new, 1, whole=False)
        sums.write(measure.revision, Ruler.from_json(measure.ruler), [change], now)


def _microseconds(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
