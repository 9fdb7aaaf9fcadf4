"""Writes what was labelled into sums of all widths, so that the coarse are those of the fine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from apps.monitoring.windows import FOREVER, TALLIES
from apps.quality import marks
from apps.quality.marks import Ints, Rows, Ruler
from apps.quality.models import Marks
from apps.serving.models import Revision

FINEST = min(TALLIES)
SLOTS_AT_ONCE = 4_000_000  # of 8 bytes: minutes of labels that came years late would be gigabytes
Mask = npt.NDArray[np.bool_]
Key = tuple[int | None, bool]  # slice, shadow


@dataclass(frozen=True)
class Change:
    """Rows that come into the sums of a revision, or go out of them."""

    rows: Rows
    at: Ints  # epoch seconds of the predictions
    shadow: Mask
    slices: Sequence[Sequence[int]]  # of each row
    sign: int  # 1: in, -1: out
    whole: bool = True  # False: all is in the sums without a slice already

    @property
    def minutes(self) -> Ints:
        return self.at // FINEST * FINEST

    def parts(self) -> Iterator[tuple[Key, Mask]]:
        """It gives the rows of each slice and of all, originals and copies apart."""
        inside: dict[int | None, Mask] = {None: np.ones(len(self.at), bool)} if self.whole else {}
        for place, slices in enumerate(self.slices):
            for pk in slices:
                inside.setdefault(pk, np.zeros(len(self.at), bool))[place] = True
        for slice_pk, mask in inside.items():
            for shadow in (False, True):
                here = mask & (self.shadow == shadow)
                if here.any():
                    yield (slice_pk, shadow), here


def write(revision: Revision, ruler: Ruler, changes: Sequence[Change], now: datetime) -> None:
    """It adds the changes in every width that still keeps that time.

    In the transaction that tells of them.
    """
    parts: dict[Key, list[tuple[Change, Mask]]] = {}
    for change in changes:
        for key, mask in change.parts():
            parts.setdefault(key, []).append((change, mask))
    minutes = np.unique(np.concatenate([change.minutes for change in changes]))
    at_once = max(SLOTS_AT_ONCE // ruler.size, 1)
    for first in range(0, len(minutes), at_once):
        span = minutes[first : first + at_once]
        for (slice_pk, shadow), found in parts.items():
            counted = _count(ruler, found, span[0], span[-1])
            for width in TALLIES:
                _add(revision, slice_pk, shadow, width, counted, now)


def _count(
    ruler: Ruler, parts: Sequence[tuple[Change, Mask]], first: int, last: int
) -> dict[int, Ints]:
    """It sums rows by minute; the first place of a vector is the number of labels."""
    found: dict[int, Ints] = {}
    for change, mask in parts:
        chosen = mask & (change.minutes >= first) & (change.minutes <= last)
        if not chosen.any():
            continue
        starts, groups = np.unique(change.minutes[chosen], return_inverse=True)
        counted = marks.count(ruler, change.rows.where(chosen), groups, len(starts))
        labels = np.bincount(groups, minlength=len(starts))
        for start, number, vector in zip(starts.tolist(), labels, counted, strict=True):
            added = change.sign * np.concatenate([[number], vector])
            found[start] = found[start] + added if start in found else added
    return found


def _add(
    revision: Revision,
    slice_pk: int | None,
    shadow: bool,
    width: int,
    found: dict[int, Ints],
    now: datetime,
) -> None:
    age = TALLIES[width]
    folded: dict[int, Ints] = {}
    for start, vector in found.items():
        span = start // width * width
        # What is older is no longer read of this width, and removed: it would come again.
        if age >= FOREVER or span >= (now - age).timestamp():
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
