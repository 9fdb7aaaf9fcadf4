"""Counts what model servers captured: each segment once, whatever crashes."""

import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path

from django.db import DataError, Error, transaction

from apps.monitoring import contents, places, segments
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.services import rollups
from apps.monitoring.sums import Answers, Sums, by_span
from apps.serving.models import Revision

log = logging.getLogger(__name__)

SUMMED_AHEAD = timedelta(days=1)
SPANS_AT_ONCE = 2_000  # a span's bins are 6 KiB in memory


@dataclass(frozen=True)
class Found:
    """A sealed segment in the spool."""

    revision: int
    path: Path

    @property
    def label(self) -> str:
        """Its name, or what stands for one that no column and no log could hold."""
        if segments.NAME.fullmatch(self.path.name):
            return self.path.name
        return f"odd-{hashlib.sha256(os.fsencode(self.path.name)).hexdigest()[:32]}"

    @property
    def name(self) -> str:
        """What it is called in the table: file names need only differ within a revision."""
        return f"{self.revision}/{self.label}"


def path_of(name: str) -> Path:
    return places.spool() / name


def is_its_own(error: Exception) -> bool:
    """It tells whether a failure comes from what was read: the next try would fail as this one."""
    return isinstance(error, DataError) or not isinstance(error, (Error, OSError))


Read = Callable[[Found], contents.Contents]


def count(found: Sequence[Found], *, now: datetime, read: Read | None = None) -> set[int]:
    """It counts the segments that were not counted yet and gives the endpoints that changed.

    One transaction: the rows that say "counted" and the sums are there together or not at all.
    Segments of no known revision and what cannot be read or counted are set aside, each alone.
    """
    held = {one: segment for one in found if (segment := _read(one, now, read)) is not None}
    endpoints = dict(
        Revision.objects.filter(pk__in={one.revision for one in held}).values_list(
            "pk", "endpoint_id"
        )
    )
    for one in [one for one in held if one.revision not in endpoints]:
        set_aside(one, f"There is no revision {one.revision}", now=now)
        del held[one]
    try:
        new = _commit(held, now)
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("%d segments could not be counted", len(held))
        return _without_the_bad(list(held), error, now)
    for one, segment in held.items():
        if segment.torn:
            log.warning("Segment %s has %d torn lines", one.name, segment.torn)
        if not segment.rows:
            remove(one)  # counted, and no row of it belongs into the log
    return {endpoints[one.revision] for one in new}


def _without_the_bad(found: Sequence[Found], error: Exception, now: datetime) -> set[int]:
    """It counts each alone after all failed together, and sets aside the one that fails again."""
    if len(found) > 1:
        return set().union(*(count([one], now=now) for one in found))
    for one in found:
        set_aside(one, f"Counting it raised {type(error).__name__}", now=now)
    return set()


def forget_logged(found: Iterable[Found]) -> list[Found]:
    """It removes the files whose rows stand in the log already, and gives those not yet counted."""
    listed = list(found)
    known = {
        segment.name: segment
        for segment in Segment.objects.filter(name__in=[one.name for one in listed])
    }
    for one in listed:
        segment = known.get(one.name)
        if segment is None:
            continue
        if segment.set_aside:
            _move(one)  # it could not be moved then
        elif segment.log_file_id is not None or not segment.rows:
            remove(one)  # its rows stand in a committed log file, or it has none; it was cut short
    return [one for one in listed if one.name not in known]


def remove(one: Found) -> None:
    """It removes a file whose records stand elsewhere."""
    try:
        one.path.unlink(missing_ok=True)
    except OSError as why:  # the model put a directory in its place
        log.error("Segment %s cannot be removed: %s", one.name, why)  # noqa: TRY400  no bug
        _move(one)


def set_aside(one: Found, why: str, *, now: datetime) -> None:
    """It keeps a file that nobody can count or log where people find it, and writes down why."""
    kept = _move(one)
    log.error("Segment %s (%a) is set aside in %s: %s", one.name, one.path.name, kept, why)
    # Without rows to wait for it, neither the counting nor the log ever comes back to it.
    if Segment.objects.filter(name=one.name).update(rows=0, set_aside=why):
        return
    if Revision.objects.filter(pk=one.revision).exists():
        Segment.objects.create(
            name=one.name, revision_id=one.revision, rows=0, set_aside=why, counted_at=now
        )


def _move(one: Found) -> Path:
    folder = places.rejected()
    kept = folder / f"{one.revision}.{one.label}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kept.exists() or kept.is_symlink():
            kept = kept.with_name(f"{kept.name}.{time.time_ns()}")
        one.path.rename(kept)
    except FileNotFoundError:
        pass
    except OSError as full:
        # Left where it is, and tried again later: what is behind it must not wait for a disk.
        log.error("Segment %s cannot be moved to %s: %s", one.name, kept, full)  # noqa: TRY400  no bug
    return kept


@dataclass(frozen=True)
class _Counts:
    """What is counted of one segment."""

    rows: int
    dropped: int
    torn: int
    left_out: int
    answers: Answers


def _read(one: Found, now: datetime, read: Read | None) -> _Counts | None:
    try:
        return _counts(one, read)
    except FileNotFoundError:
        return None  # logged and removed since it was listed
    except segments.Unreadable as why:
        set_aside(one, str(why), now=now)
    except Exception as error:
        if not is_its_own(error):
            raise
        log.exception("Segment %s could not be read", one.name)
        set_aside(one, f"Reading it raised {type(error).__name__}", now=now)
    return None


def _counts(one: Found, read: Read | None) -> _Counts:
    if read is not None:
        try:
            whole = read(one)
            return _Counts(whole.rows, whole.dropped, whole.torn, whole.left_out, whole.answers)
        except Exception as error:
            if isinstance(error, segments.Unreadable) or not is_its_own(error):
                raise
            # The sums need less of it, and whoever writes the log will say what is wrong.
            log.exception("Segment %s could not be read whole", one.name)
    segment = segments.read(one.path)
    return _Counts(segment.rows, segment.dropped, segment.torn, 0, segment.answers())


@transaction.atomic
def _commit(held: Mapping[Found, _Counts], now: datetime) -> list[Found]:
    counted = set(
        Segment.objects.filter(name__in=[one.name for one in held]).values_list("name", flat=True)
    )
    new = {one: segment for one, segment in held.items() if one.name not in counted}
    # Two that count the same segment at once: the second one's whole batch is undone here.
    Segment.objects.bulk_create(
        Segment(
            name=one.name,
            revision_id=one.revision,
            rows=segment.rows,
            dropped=segment.dropped,
            torn=segment.torn,
            left_out=segment.left_out,
            counted_at=now,
        )
        for one, segment in new.items()
    )
    answers = _by_revision(new, now)
    # In this order everywhere, as the rows are locked until the end.
    for origin, is_shadow in ((Rollup.From.SERVER, False), (Rollup.From.SHADOW, True)):
        spans = _spans(answers, is_shadow=is_shadow)
        while part := dict(islice(spans, SPANS_AT_ONCE)):
            rollups.add(part, origin)
    return list(new)


def _by_revision(new: Mapping[Found, _Counts], now: datetime) -> dict[int, Answers]:
    parts: dict[int, list[Answers]] = defaultdict(list)
    for one, segment in new.items():
        if segment.answers.at_us.size:
            parts[one.revision].append(segment.answers)
    return {revision: _summed(contents.joined(held), now) for revision, held in parts.items()}


def _spans(
    answers: Mapping[int, Answers], *, is_shadow: bool
) -> Iterator[tuple[tuple[int, int], Sums]]:
    """It gives the sums in the order in which their rows are locked everywhere."""
    for revision, held in sorted(answers.items()):
        for start, sums in by_span(held.where(held.shadow == is_shadow)):
            yield (revision, start), sums


def _summed(answers: Answers, now: datetime) -> Answers:
    # A model sets its files' times as it likes. Sums older than this are swept at once, sums of
    # days to come never were.
    first, last = now - rollups.KEPT, now + SUMMED_AHEAD
    return answers.where(
        (answers.at_us >= first.timestamp() * 1e6) & (answers.at_us < last.timestamp() * 1e6)
    )
