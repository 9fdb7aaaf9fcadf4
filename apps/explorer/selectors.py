"""Questions about searches and replays, and what of the log there is to search."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.db.models import QuerySet, Sum

from apps.explorer import whole
from apps.explorer.models import Replay, Search
from apps.explorer.question import BOOL, NUMBER, TEXT, Question
from apps.explorer.scan import File
from apps.explorer.whole import Whole
from apps.monitoring import places, rows
from apps.monitoring.models import LogFile, RowFile, Segment
from apps.monitoring.selectors import requests
from apps.quality.models import Labelled
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision

PATIENCE = 10.0  # seconds that a page waits for one request
MOST_LABELS = 200
MOST_REVISIONS = 20  # whose columns are listed, the newest ones


def searches(endpoint: Endpoint) -> QuerySet[Search]:
    return Search.objects.filter(endpoint=endpoint).select_related(
        "asked_by", "job", "endpoint__environment"
    )


def replays(endpoint: Endpoint) -> QuerySet[Replay]:
    return Replay.objects.filter(endpoint=endpoint).select_related(
        "asked_by", "job", "revision__version", "endpoint__environment", "search"
    )


@dataclass(frozen=True)
class OneRequest:
    """What is known of one request."""

    whole: Whole | None  # None: nothing of it was found
    labels: list[Labelled]
    not_before: datetime | None  # older rows were not looked at: there was no time for more


def request(
    endpoint: Endpoint, request_id: str, since: datetime, *, near: datetime | None = None
) -> OneRequest:
    """It looks one request up for somebody who waits; `near`: about when it came, where known.

    Whole, however long its id: the beginning of one may be the id of another request.
    """
    found = requests.look_for(endpoint, request_id, since, near=near, seconds=PATIENCE)
    labels: list[Labelled] = []
    if "\0" not in request_id:  # the log may hold it, the database cannot
        known = Labelled.objects.filter(
            revision__endpoint=endpoint, request_id=request_id, shadow=False
        )
        labels = list(known.order_by("row")[:MOST_LABELS])
    return OneRequest(whole.of(found.rows), labels, found.not_before)


def columns(endpoint: Endpoint, since: datetime, until: datetime) -> dict[str, str]:
    """It gives the kind of each input and output in the log of that time, by its name.

    Of several versions the newest says it, as its newest file has them.
    """
    newest = (
        _row_files(endpoint, since, until)
        .order_by("revision_id", "-last_at")
        .distinct("revision_id")
    )
    found: dict[str, str] = {}
    files = sorted(newest.values_list("revision_id", "path"), reverse=True)[:MOST_REVISIONS]
    for _, path in files:
        try:
            kinds = _kinds(str(places.rows() / path))
        except (OSError, pa.ArrowInvalid):
            continue  # its time was over just now, or it is broken, which a search will tell
        found |= {name: kind for name, kind in kinds if name not in found}
    return found


@lru_cache(maxsize=256)  # a file never changes
def _kinds(path: str) -> tuple[tuple[str, str], ...]:
    schema = pq.read_schema(path)
    wanted = (rows.INPUT, rows.OUTPUT)
    return tuple((f.name, _kind(f.type)) for f in schema if f.name.startswith(wanted))


def _kind(kind: Any) -> str:
    if pa.types.is_boolean(kind):
        return BOOL
    return NUMBER if pa.types.is_floating(kind) or pa.types.is_integer(kind) else TEXT


def files(endpoint: Endpoint, question: Question) -> list[File]:
    """It gives the files that may hold what is asked for, the newest first."""
    found = _row_files(endpoint, question.since, question.until)
    if question.revisions:
        found = found.filter(revision__number__in=question.revisions)
    by_log: dict[tuple[int, str], list[str]] = {}
    last: dict[tuple[int, str], datetime] = {}
    listed = found.order_by("-log_file__last_at", "log_file_id", "revision_id", "pk")
    for log, path, at, pk in listed.values_list(
        "log_file__path", "path", "log_file__last_at", "log_file_id"
    ):
        by_log.setdefault((pk, log), []).append(str(places.rows() / path))
        last[pk, log] = at
    return [
        File(str(places.log() / key[1]), paths, round(last[key].timestamp() * 1_000_000))
        for key, paths in by_log.items()
    ]


def _row_files(endpoint: Endpoint, since: datetime, until: datetime) -> QuerySet[RowFile]:
    return RowFile.objects.filter(
        log_file__endpoint=endpoint, last_at__gte=since, first_at__lt=until
    )


def waiting_rows(endpoint: Endpoint) -> int:
    """How many requests were counted and stand in no file of the log yet."""
    found = Segment.objects.filter(revision__endpoint=endpoint, log_file=None)
    return int(found.aggregate(total=Sum("rows"))["total"] or 0)


def has_log(endpoint: Endpoint) -> bool:
    return LogFile.objects.filter(endpoint=endpoint).exists()


def can_be_asked(endpoint: Endpoint) -> QuerySet[Revision]:
    """The revisions that run and may be asked now."""
    ready = (RevisionState.READY, RevisionState.DEGRADED)
    return endpoint.revisions.filter(
        wanted=RevisionWish.RUN, state__in=ready, replicas__gt=0
    ).select_related("version")


def using(kept: Iterable[str]) -> set[str]:
    """Of these files, the ones that a search or a replay has as its result."""
    names = list(kept)
    return set(
        Search.objects.filter(result_path__in=names).values_list("result_path", flat=True)
    ) | set(Replay.objects.filter(result_path__in=names).values_list("result_path", flat=True))
