"""Writes what was labelled into sums of all widths, so that the coarse are those of the fine."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from apps.quality import marks
from apps.quality.marks import Ints, Rows, Ruler
from apps.quality.models import Marks
from apps.serving.models import Revision

WIDTHS = (60, 300, 3600, 86_400)


@dataclass(frozen=True)
class Change:
    """Rows that come into the sums of a revision, or go out of them."""

    rows: Rows
    at: Ints  # epoch seconds of the predictions
    shadow: npt.NDArray[np.bool_]
    slices: list[list[int]]  # of each row
    sign: int  # 1: in, -1: out


def write(revision: Revision, ruler: Ruler, changes: Iterable[Change]) -> None:
    """It adds the changes, in the transaction that tells of them."""
    spans: dict[tuple[int | None, bool], dict[int, Ints]] = defaultdict(dict)
    for change in changes:
        for shadow in np.unique(change.shadow):
            here = change.shadow == shadow
            _count(ruler, change, here, spans[None, bool(shadow)])
            for pk in sorted({one for slices in change.slices for one in slices}):
                inside = np.array([pk in slices for slices in change.slices], dtype=bool)
                _count(ruler, change, here & inside, spans[pk, bool(shadow)])
    for (slice_pk, shadow), found in spans.items():
        for width in WIDTHS:
            _add(revision, slice_pk, shadow, width, found)


def _count(
    ruler: Ruler, change: Change, chosen: npt.NDArray[np.bool_], into: dict[int, Ints]
) -> None:
    """It sums the chosen rows by minute; the first place of a vector is the number of labels."""
    if not chosen.any():
        return
    rows = Rows(
        change.rows.score[chosen], change.rows.predicted[chosen], change.rows.actual[chosen]
    )
    starts, groups = np.unique(change.at[chosen] // WIDTHS[0] * WIDTHS[0], return_inverse=True)
    counted = marks.count(ruler, rows, groups, len(starts))
    labels = np.bincount(groups, minlength=len(starts))
    for start, number, vector in zip(starts.tolist(), labels, counted, strict=True):
        added = change.sign * np.concatenate([[number], vector])
        into[start] = into[start] + added if start in into else added


def _add(
    revision: Revision, slice_pk: int | None, shadow: bool, width: int, found: dict[int, Ints]
) -> None:
    folded: dict[int, Ints] = {}
    for start, vector in found.items():
        span = start // width * width
        folded[span] = folded[span] + vector if span in folded else vector
    at = {datetime.fromtimestamp(span, UTC): vector for span, vector in folded.items()}
    there = Marks.objects.select_for_update().filter(
        revision=revision, slice=slice_pk, shadow=shadow, width_seconds=width, at__in=list(at)
    )
    rows = []
    for row in there.order_by("at"):
        vector = at.pop(row.at)
        row.labels += int(vector[0])
        row.sums = marks.pack(marks.unpack(row.sums) + vector[1:])
        rows.append(row)
    Marks.objects.bulk_update(rows, ["labels", "sums"], batch_size=500)
    Marks.objects.bulk_create(
        [
            Marks(
                revision=revision,
                slice_id=slice_pk,
                shadow=shadow,
                width_seconds=width,
                at=start,
                labels=int(vector[0]),
                sums=marks.pack(vector[1:]),
            )
            for start, vector in sorted(at.items())
        ],
        batch_size=500,
    )
