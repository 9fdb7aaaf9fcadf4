"""Counts what callers got, from the gateway's log: each line once, whatever crashes."""

from collections import Counter
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from django.db import transaction
from django.db.models import Q

from apps.monitoring import gateway_log, places
from apps.monitoring.gateway_log import Lines, Place, Rows
from apps.monitoring.models import Rollup, TailPosition
from apps.monitoring.services import rollups
from apps.monitoring.sums import Sums, by_span
from apps.serving.models import Endpoint, Revision

KEY = f"gateway/{gateway_log.NAME}"  # below the data directory, which may be moved


class PositionMoved(Exception):
    """Another process counted these lines first."""


@dataclass
class Progress:
    endpoints: set[int] = field(default_factory=set)  # whose sums changed
    rows: int = 0
    nowhere: Counter[str] = field(default_factory=Counter)  # what is in no sum, by why
    more: bool = False


def count() -> Progress:
    """It counts the next lines.

    Raises: PositionMoved; the database is then as before.
    """
    place = _place()
    if place is None:
        return Progress()
    folder = places.gateway()
    chunk = gateway_log.read(folder, place)
    progress = Progress(more=chunk.more)
    if chunk.end != place:
        lines = gateway_log.parse(chunk.content)
        progress.nowhere += lines.nowhere
        if lines.torn:
            progress.nowhere["torn"] += lines.torn
        _commit(place, chunk.end, lines, progress)
        gateway_log.forget_before(folder, chunk.end)
    return progress


def rotate(*, mark: int) -> None:
    """It puts a large log aside; `mark` orders the files that were, so it must grow."""
    place = _place()
    if place is not None:
        gateway_log.rotate(places.gateway(), place, admin=places.gateway_admin(), mark=mark)


def _place() -> Place | None:
    kept = TailPosition.objects.filter(path=KEY).first()
    if kept is None:
        beginning = gateway_log.first(places.gateway())
        if beginning is None:
            return None
        kept, _ = TailPosition.objects.get_or_create(
            path=KEY, defaults={"inode": beginning.inode, "offset": 0}
        )
    return Place(kept.inode, kept.offset, kept.head)


@transaction.atomic
def _commit(place: Place, end: Place, lines: Lines, progress: Progress) -> None:
    moved = TailPosition.objects.filter(path=KEY, inode=place.inode, offset=place.offset).update(
        inode=end.inode, offset=end.offset, head=end.head
    )
    if not moved:
        raise PositionMoved(f"Lines behind {place} of the gateway's log were counted already")
    endpoints = dict(
        Revision.objects.filter(pk__in=list(lines.by_revision)).values_list("pk", "endpoint_id")
    )
    spans: dict[tuple[int, int], Sums] = {}
    for revision, rows in lines.by_revision.items():
        if revision in endpoints:
            _add(spans, revision, rows, endpoints[revision], progress)
        else:
            progress.nowhere[f"revision {revision}, which is gone"] += len(rows.at_us)
    stables = _stables(list(lines.by_route))
    for route, rows in lines.by_route.items():
        endpoint, stable = stables.get(route, (0, None))
        if stable is None:
            progress.nowhere[f"{route}, which serves nothing"] += len(rows.at_us)
        else:
            # No model server was asked: the caller got nothing from what should have served.
            _add(spans, stable, rows, endpoint, progress)
    rollups.add(spans, Rollup.From.GATEWAY)


def _add(
    spans: dict[tuple[int, int], Sums], revision: int, rows: Rows, endpoint: int, into: Progress
) -> None:
    for start, sums in by_span(rows.answers()):
        spans.setdefault((revision, start), Sums()).add(sums)
    into.endpoints.add(endpoint)
    into.rows += len(rows.at_us)


def _stables(routes: list[str]) -> dict[str, tuple[int, int | None]]:
    """It gives the endpoint and its stable revision for routes "environment/endpoint"."""
    pairs = [route.split("/", 1) for route in routes]
    if not pairs:
        return {}
    wanted = reduce(or_, (Q(environment__name=place, name=name) for place, name in pairs))
    return {
        f"{endpoint.environment.name}/{endpoint.name}": (endpoint.pk, endpoint.stable_id)
        for endpoint in Endpoint.objects.filter(wanted).select_related("environment")
    }
