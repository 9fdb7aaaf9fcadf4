"""Makes what is wanted so, looks at what is, and writes down what it saw."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.db.models import Q

from apps.core import live
from apps.serving import backends, selectors
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Environment, Replica, Revision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sight:
    """What one endpoint's backend says now. `weights` None: it did not answer."""

    weights: dict[int, int] | None  # revision -> thousandths
    ready: dict[int, int] = field(default_factory=dict)  # revision -> replicas
    failing: dict[int, str] = field(default_factory=dict)  # revision -> why
    shadow: dict[int, int] | None = None  # revision -> thousandths of copies


def converge(endpoint: Endpoint, now: datetime) -> None:
    """It makes what is wanted so, as far as can be confirmed now; the sweep goes on from there.

    Speaks to processes and to the gateway: never call it inside a transaction.
    """
    _converge(endpoint.environment.backend, now)


def sweep(*, now: datetime) -> None:
    """It converges every backend, with or without endpoints: an empty gateway answers too."""
    used = set(Environment.objects.values_list("backend", flat=True))
    for alias in sorted(used & set(settings.SERVING_BACKENDS)):
        _converge(alias, now)


def look(endpoint: Endpoint) -> Sight:
    """It asks the backend what is in force on the endpoint at this moment."""
    [wanted] = selectors.wanted([endpoint])
    report = backends.load(endpoint.environment.backend).look([wanted])
    sights = report.revisions
    return Sight(
        weights=None if report.traffic is None else dict(report.traffic.get(endpoint.pk, {})),
        shadow=None if report.shadow is None else dict(report.shadow.get(endpoint.pk, {})),
        ready={pk: sight.ready for pk, sight in sights.items()},
        failing={
            pk: sight.reason for pk, sight in sights.items() if sight.state is RevisionState.FAILING
        },
    )


def _converge(alias: str, now: datetime) -> None:
    report = backends.load(alias).converge(lambda: selectors.wishes(backend=alias))
    if report.problem:
        log.warning("Serving backend %s: %s", alias, report.problem)
    _write_back(alias, report, now)


def _write_back(alias: str, report: backends.Report, now: datetime) -> None:
    endpoints = Endpoint.objects.filter(environment__backend=alias)
    gone = Q(wanted=RevisionWish.STOP, state=RevisionState.STOPPED)
    revisions = Revision.objects.filter(endpoint__in=endpoints).exclude(gone)
    revisions = revisions.prefetch_related("sighted")
    changed = {endpoint.pk for endpoint in endpoints if _write_endpoint(endpoint, report, now)}
    changed |= {row.endpoint_id for row in revisions if _write_revision(row, report, now)}
    for pk in changed:
        live.publish(f"endpoint:{pk}")
    if changed:
        live.publish("home:all")


def _write_endpoint(endpoint: Endpoint, report: backends.Report, now: datetime) -> bool:
    """True when this is something new to people."""
    seen = None
    if report.traffic is not None:
        shares = report.traffic.get(endpoint.pk, {})
        seen = {str(pk): weight for pk, weight in sorted(shares.items())}
    copies = None
    if report.shadow is not None:
        shares = report.shadow.get(endpoint.pk, {})
        copies = {str(pk): share for pk, share in sorted(shares.items())}
    reason = report.waiting.get(endpoint.pk, "") or report.problem
    Endpoint.objects.filter(pk=endpoint.pk).update(
        traffic_seen=seen, traffic_seen_at=now, traffic_reason=reason, shadow_seen=copies
    )
    before = (endpoint.traffic_seen, endpoint.traffic_reason, endpoint.shadow_seen)
    return (seen, reason, copies) != before


def _write_revision(revision: Revision, report: backends.Report, now: datetime) -> bool:
    sight = report.revisions.get(revision.pk)
    if sight is None:
        if revision.wanted == RevisionWish.RUN:
            return False  # it was deployed after this report was made
        if report.leaving is None or revision.pk in report.leaving:
            return False  # it finishes what is under way, or nobody could say
        sight = backends.RevisionSight(RevisionState.STOPPED)
    taken = [one.memory_mb for one in sight.replicas if one.memory_mb is not None]
    most = max([*taken, revision.most_memory_mb or 0]) or None
    Revision.objects.filter(pk=revision.pk).update(
        state=sight.state,
        ready_replicas=sight.ready,
        reason=sight.reason,
        seen_at=now,
        most_memory_mb=most,
    )
    changed = _write_replicas(revision, sight.replicas)
    new = (sight.state, sight.ready, sight.reason)
    return changed or new != (revision.state, revision.ready_replicas, revision.reason)


def _write_replicas(revision: Revision, seen: Sequence[backends.ReplicaSight]) -> bool:
    """True when people would see another thing than figures that always move."""
    known = {row.index: row for row in revision.sighted.all()}
    rows = [
        Replica(
            revision=revision,
            index=one.index,
            ready=one.ready,
            started_at=datetime.fromtimestamp(one.started, UTC) if one.started else None,
            start_seconds=one.start_seconds,
            restarts=one.restarts,
            memory_mb=one.memory_mb,
            in_flight=one.in_flight,
            processor_seconds=one.processor_seconds,
            read_at=datetime.fromtimestamp(one.read_at, UTC) if one.read_at else None,
            reason=one.reason,
        )
        for one in seen
    ]
    Replica.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["revision", "index"],
        update_fields=[
            "ready", "started_at", "start_seconds", "restarts", "memory_mb", "in_flight",
            "processor_seconds", "read_at", "reason",
        ],
    )  # fmt: skip
    gone = known.keys() - {row.index for row in rows}
    if gone:
        Replica.objects.filter(revision=revision, index__in=gone).delete()
    told = {row.index: (row.ready, row.restarts, row.started_at) for row in known.values()}
    return told != {row.index: (row.ready, row.restarts, row.started_at) for row in rows}
