"""Counts what replicas use, from what serving's looks at them wrote.

It asks no replica itself: the looks are there, and one that hangs would hold up the collector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from apps.monitoring import usage, windows
from apps.monitoring.models import ReplicaLook
from apps.monitoring.usage import Known, Limits, Look, Used
from apps.registry import selectors as registry
from apps.registry.policy import serving_of
from apps.serving.models import Replica
from model_server import card

FORGOTTEN_AFTER = timedelta(days=1)
_KNOW = """
insert into monitoring_replicalook (revision_id, index, processor_seconds)
select *, 0 from unnest(%s::bigint[], %s::smallint[])
on conflict (revision_id, index) do nothing
"""
_MOVE = """
update monitoring_replicalook as kept set
    at = new.at, started_at = new.started_at,
    processor_at = new.processor_at, processor_seconds = new.processor_seconds
from unnest(%s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::float8[])
    as new(id, at, started_at, processor_at, processor_seconds)
where kept.id = new.id
"""
# What is not known is in no sum, and greatest() passes it over.
_ADD = """
insert into monitoring_replicause as kept (
    revision_id, index, at, width_seconds, processor_seconds, measured_seconds, most_processors,
    memory_looks, memory_mb_sum, most_memory_mb, in_flight_looks, in_flight_sum, most_in_flight,
    processors_limit, memory_limit_mb, in_flight_limit)
select revision, index, at, width, seconds, measured, processors,
    (memory is not null)::int, coalesce(memory, 0), memory,
    (flying is not null)::int, coalesce(flying, 0), flying,
    processors_limit, memory_limit, in_flight_limit
from unnest(
    %s::bigint[], %s::smallint[], %s::timestamptz[], %s::int[], %s::float8[], %s::float8[],
    %s::float8[], %s::int[], %s::int[], %s::float8[], %s::float8[], %s::float8[])
    as new(revision, index, at, width, seconds, measured, processors, memory, flying,
    processors_limit, memory_limit, in_flight_limit)
on conflict (revision_id, width_seconds, at, index) do update set
    processor_seconds = kept.processor_seconds + excluded.processor_seconds,
    measured_seconds = kept.measured_seconds + excluded.measured_seconds,
    most_processors = greatest(kept.most_processors, excluded.most_processors),
    memory_looks = kept.memory_looks + excluded.memory_looks,
    memory_mb_sum = kept.memory_mb_sum + excluded.memory_mb_sum,
    most_memory_mb = greatest(kept.most_memory_mb, excluded.most_memory_mb),
    in_flight_looks = kept.in_flight_looks + excluded.in_flight_looks,
    in_flight_sum = kept.in_flight_sum + excluded.in_flight_sum,
    most_in_flight = greatest(kept.most_in_flight, excluded.most_in_flight),
    processors_limit = excluded.processors_limit,
    memory_limit_mb = excluded.memory_limit_mb,
    in_flight_limit = excluded.in_flight_limit
"""
Place = tuple[int, int]  # revision, index


@dataclass(frozen=True)
class _Seen:
    look: Look
    limits: Limits
    endpoint: int


@dataclass(frozen=True)
class _Counted:
    pk: int  # of its ReplicaLook
    place: Place
    seen: _Seen
    known: Known  # after it
    used: Used
    begins: bool  # another span


def count() -> set[int]:
    """It adds what is new since the last looks that were counted, each look once.

    Gives the endpoints of which another minute has begun.
    """
    seen = _seen()
    if not seen:
        return set()
    with transaction.atomic():
        new = _new(seen)
        if new:
            _move(new)
            _add(new)
    return {one.seen.endpoint for one in new if one.begins}


def forget_gone(*, now: datetime) -> None:
    """It forgets how far replicas were counted that are gone since a day."""
    still = Replica.objects.filter(revision=OuterRef("revision"), index=OuterRef("index"))
    ReplicaLook.objects.filter(~Exists(still), at__lt=now - FORGOTTEN_AFTER).delete()


def _seen() -> dict[Place, _Seen]:
    """What serving last wrote of each replica, with what each may use by the policy in force."""
    rows = list(
        Replica.objects.exclude(read_at=None).select_related(
            "revision__endpoint__environment", "revision__build"
        )
    )
    documents = registry.documents(row.revision.endpoint.model_id for row in rows)
    return {
        (row.revision_id, row.index): _Seen(
            _look(row), _limits(row, documents), row.revision.endpoint_id
        )
        for row in sorted(rows, key=lambda row: (row.revision_id, row.index))
    }


def _look(row: Replica) -> Look:
    assert row.read_at is not None
    if _is_relay(row):
        return Look(row.read_at, row.started_at, in_flight=row.in_flight)
    return Look(row.read_at, row.started_at, row.processor_seconds, row.memory_mb, row.in_flight)


def _limits(row: Replica, documents: Mapping[int, dict[str, Any]]) -> Limits:
    endpoint = row.revision.endpoint
    part = serving_of(documents.get(endpoint.model_id, {}), endpoint.environment.name)
    in_flight = part.scaling.in_flight_per_replica
    if _is_relay(row):
        return Limits(in_flight=in_flight)
    return Limits(part.resources.processors, part.resources.memory_mb, in_flight)


def _is_relay(row: Replica) -> bool:
    """Its process only passes requests on: what it uses says nothing of the model's server."""
    return row.revision.build.runtime == card.URL


def _new(seen: Mapping[Place, _Seen]) -> list[_Counted]:
    """The looks that are in no sum yet; their rows stay locked, so that nobody else counts them."""
    places = list(seen)
    columns = [[revision for revision, _ in places], [index for _, index in places]]
    with connection.cursor() as cursor:
        cursor.execute(_KNOW, columns)
    rows = ReplicaLook.objects.select_for_update().filter(revision__in=set(columns[0]))
    new: list[_Counted] = []
    for row in rows.order_by("revision_id", "index"):
        place = (row.revision_id, row.index)
        if place not in seen:
            continue
        before = Known(row.at, row.started_at, row.processor_at, row.processor_seconds)
        counted = usage.count(before, seen[place].look)
        if counted is not None:
            begins = _span(before.at) != _span(seen[place].look.at)
            new.append(_Counted(row.pk, place, seen[place], *counted, begins))
    return new


def _span(at: datetime | None) -> datetime | None:
    return None if at is None else windows.down(at, usage.WIDTH_SECONDS)


def _move(new: Sequence[_Counted]) -> None:
    columns: list[Any] = [
        [one.pk for one in new],
        [one.known.at for one in new],
        [one.known.started_at for one in new],
        [one.known.processor_at for one in new],
        [one.known.processor_seconds for one in new],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_MOVE, columns)


def _add(new: Sequence[_Counted]) -> None:
    rows = [
        (
            *one.place, windows.down(one.seen.look.at, width), width,
            one.used.processor_seconds, one.used.measured_seconds, one.used.processors,
            one.used.memory_mb, one.used.in_flight,
            *astuple(one.seen.limits),
        )
        for one in new
        for width in usage.KEPT
    ]  # fmt: skip
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, columns)
