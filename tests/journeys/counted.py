"""Prints what an installation's log and sums hold of one endpoint, as JSON.

Run by the installation's own `manage.py shell`, when callers have stopped.
"""

import json
from collections.abc import Sequence
from datetime import timedelta

import pyarrow.parquet as pq
from django.db import OperationalError, connection
from django.utils import timezone

from apps.monitoring import places, segments
from apps.monitoring.models import Rollup, Segment
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.services import log_files
from apps.serving.models import Endpoint
from tests.journeys.client import held, until


def main(name: str, asked: int, sought: Sequence[str]) -> None:
    """`asked`: how many requests the gateway had; `sought`: some ids, to be found one by one."""
    until("the database has recovered", lambda: held(connects()), 60)
    endpoint = Endpoint.objects.get(name=name, environment__name="production")
    since = timezone.now() - timedelta(hours=1)
    until("all segments counted", lambda: held(not waiting(endpoint)), 60)
    until("the gateway's log read", lambda: held(total(endpoint, "gateway") >= asked), 30)
    until("all rows logged", lambda: held(logged(endpoint)), 30)
    paths = [places.log() / file.path for file in endpoint.log_files.all()]
    print(  # noqa: T201
        json.dumps(
            {
                "ids": [i for path in paths for i in pq.read_table(path)["id"].to_pylist()],
                "rows": sum(endpoint.log_files.values_list("rows", flat=True)),
                "found": [len(selectors.find_request(endpoint, i, since)) for i in sought],
                "server": total(endpoint, "server"),
                "gateway": total(endpoint, "gateway"),
                "dropped": selectors.dropped(endpoint, since),
                "set_aside": selectors.set_aside(endpoint, since),
            }
        )
    )


def connects() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True


def waiting(endpoint: Endpoint) -> set[str]:
    """Segments that are still written, or sealed and not counted."""
    names: set[str] = set()
    for revision in endpoint.revisions.all():
        listed = segments.listing(places.spool() / str(revision.pk))
        names |= {f"{revision.pk}/{name}" for name in listed.open + listed.sealed}
    return names - set(Segment.objects.values_list("name", flat=True))


def logged(endpoint: Endpoint) -> bool:
    """It logs what waits at once, where the collector would take its minute."""
    try:
        while log_files.write(endpoint=endpoint, now=timezone.now()):
            pass
    except log_files.AlreadyLogged:  # the collector was there first
        return False
    return not Segment.objects.filter(
        revision__endpoint=endpoint, log_file=None, rows__gt=0
    ).exists()


def total(endpoint: Endpoint, origin: str) -> int:
    now = timezone.now()
    found = selectors.totals(endpoint, now - timedelta(hours=1), now, Rollup.From(origin))
    return sum(sums.requests for sums in found.values())
