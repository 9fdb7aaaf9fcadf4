"""Counts what model servers captured: each segment once, whatever crashes."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from django.db import transaction

from apps.monitoring import places, segments
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.services import rollups
from apps.monitoring.sums import Answers, Sums, by_span
from apps.serving.models import Revision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A sealed segment in the spool."""

    revision: int
    path: Path

    @property
    def name(self) -> str:
        """What it is called in the table: file names need only differ within a revision."""
        return f"{self.revision}/{self.path.name}"


def path_of(name: str) -> Path:
    return places.spool() / name


def count(found: Sequence[Found], *, now: datetime) -> set[int]:
    """It counts the segments that were not counted yet and gives the endpoints that changed.

    One transaction: the rows that say "counted" and the sums are there together or not at all.
    Segments of no known revision and files that are no segments are set aside.
    """
    read = {}
    for one in found:
        try:
            read[one] = segments.read(one.path)
        except segments.Unreadable as why:
            set_aside(one, str(why))
        except FileNotFoundError:
            continue  # logged and removed since it was listed
    endpoints = dict(
        Revision.objects.filter(pk__in={one.revision for one in read}).values_list(
            "pk", "endpoint_id"
        )
    )
    for one in [one for one in read if one.revision not in endpoints]:
        set_aside(one, f"there is no revision {one.revision}")
        del read[one]
    with transaction.atomic():
        counted = set(
            Segment.objects.filter(name__in=[one.name for one in read]).values_list(
                "name", flat=True
            )
        )
        new = {one: segment for one, segment in read.items() if one.name not in counted}
        # Two that count the same segment at once: the second one's whole batch is undone here.
        Segment.objects.bulk_create(
            Segment(
                name=one.name,
                revision_id=one.revision,
                rows=segment.rows,
                dropped=segment.dropped,
                torn=segment.torn,
                counted_at=now,
            )
            for one, segment in new.items()
        )
        rollups.add(_spans(new), Rollup.From.SERVER)
    for one, segment in read.items():
        if segment.torn:
            log.warning("Segment %s has %d torn lines", one.name, segment.torn)
        if not segment.rows:
            one.path.unlink(missing_ok=True)  # counted, and no row of it belongs into the log
    return {endpoints[one.revision] for one in new}


def forget_logged(found: Iterable[Found]) -> list[Found]:
    """It removes the files whose rows stand in the log already, and gives those not yet counted."""
    listed = list(found)
    known = {
        segment.name: segment
        for segment in Segment.objects.filter(name__in=[one.name for one in listed])
    }
    for one in listed:
        segment = known.get(one.name)
        # Its rows stand in a committed log file, or it has none; its removal was cut short.
        if segment is not None and (segment.log_file_id is not None or not segment.rows):
            one.path.unlink(missing_ok=True)
    return [one for one in listed if one.name not in known]


def set_aside(one: Found, why: str) -> None:
    """It keeps a file that nobody can count where people find it."""
    folder = places.rejected()
    folder.mkdir(parents=True, exist_ok=True)
    log.error("Segment %s is set aside in %s: %s", one.name, folder, why)
    try:
        one.path.rename(folder / f"{one.revision}.{one.path.name}")
    except FileNotFoundError:
        return


def _spans(new: dict[Found, segments.Segment]) -> dict[tuple[int, int], Sums]:
    by_revision: dict[int, list[Answers]] = defaultdict(list)
    for one, segment in new.items():
        if segment.rows:
            by_revision[one.revision].append(segment.answers())
    return {
        (revision, start): sums
        for revision, parts in by_revision.items()
        for start, sums in by_span(_joined(parts))
    }


def _joined(parts: list[Answers]) -> Answers:
    return Answers(
        np.concatenate([part.at_us for part in parts]),
        np.concatenate([part.status for part in parts]),
        np.concatenate([part.latency_us for part in parts]),
        np.concatenate([part.shadow for part in parts]),
    )
