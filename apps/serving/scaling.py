"""Verbs on the number of replicas, and the record of what they used."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake as wake_task
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Revision

_ADD = """
insert into serving_usage as kept (endpoint_id, day, replica_seconds, most_replica_seconds)
select * from unnest(%s::bigint[], %s::date[], %s::float8[], %s::float8[])
on conflict (endpoint_id, day) do update set
    replica_seconds = kept.replica_seconds + excluded.replica_seconds,
    most_replica_seconds = kept.most_replica_seconds + excluded.most_replica_seconds
"""


@transaction.atomic
def scale(*, revision: Revision, replicas: int, reason: str, now: datetime) -> bool:
    """It wants another number of replicas. False: somebody was quicker, nothing is changed."""
    before = revision.replicas
    same = Revision.objects.filter(pk=revision.pk, replicas=before, wanted=RevisionWish.RUN)
    if not same.update(replicas=replicas, scaled_at=now, scaled_reason=reason):
        return False
    revision.replicas, revision.scaled_at, revision.scaled_reason = replicas, now, reason
    endpoint = revision.endpoint
    record(
        "revision.scaled",
        revision,
        actor=None,
        now=now,
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        reason=reason,
        evidence={"version": revision.version.number, "from": before, "to": replicas},
    )
    live.publish(f"endpoint:{endpoint.pk}")
    wake_task("serving.sweep")
    return True


def add_usage(used: Mapping[int, tuple[float, float]], *, now: datetime) -> None:
    """It adds what endpoints used: pk -> (replica seconds, seconds that `max` would have been)."""
    if not used:
        return
    keys = sorted(used)  # one order everywhere, so that two writers never wait for each other
    columns: list[Any] = [
        keys,
        [now.date()] * len(keys),
        [used[pk][0] for pk in keys],
        [used[pk][1] for pk in keys],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_ADD, columns)
