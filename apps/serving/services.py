"""Verbs of serving. Rows say what is wanted; `converge` makes it so and writes back what it saw."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Max, Q
from django.utils.text import slugify

from apps.accounts.models import User
from apps.audit.selectors import TRAFFIC
from apps.audit.services import record
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.registry.models import Model
from apps.serving import backends, selectors
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionState, RevisionWish
from apps.serving.models import Endpoint, Environment, Replica, Revision

log = logging.getLogger(__name__)

ENVIRONMENTS = (("staging", 1), ("production", 2))
MAX_REPLICAS = 64


class ServingRefused(Refused):
    code = "serving_refused"


@dataclass(frozen=True)
class Sight:
    """What one endpoint's backend says now. `weights` None: it did not answer."""

    weights: dict[int, int] | None  # revision -> thousandths
    ready: dict[int, int] = field(default_factory=dict)  # revision -> replicas
    failing: dict[int, str] = field(default_factory=dict)  # revision -> why
    shadow: dict[int, int] | None = None  # revision -> thousandths of copies


def ensure_environments() -> None:
    """It makes the environments that every installation has; existing ones are left alone."""
    for name, order in ENVIRONMENTS:
        if not Environment.objects.filter(name=name).exists():
            Environment.objects.create(name=name, order=order)


def ensure_endpoint(*, model: Model, environment: Environment, now: datetime) -> Endpoint:
    """It gives the model's endpoint in this environment, made when there is none yet."""
    found = selectors.endpoint_of(model, environment)
    if found is not None:
        return found
    name = slugify(model.name) or f"model-{model.pk}"
    if Endpoint.objects.filter(environment=environment, name=name).exists():
        name = f"{name}-{model.pk}"  # "Flight Delay" and "flight-delay" are two models
    try:
        with transaction.atomic():
            endpoint = Endpoint.objects.create(
                model=model, environment=environment, name=name, created_at=now
            )
            _record("endpoint.created", endpoint, now=now)
            wake("serving.sweep")
    except IntegrityError:
        return Endpoint.objects.get(model=model, environment=environment)  # somebody was quicker
    return endpoint


def deploy(*, endpoint: Endpoint, build: Build, replicas: int, now: datetime) -> Revision:
    """It wants a build to run on the endpoint, without traffic yet.

    The revision that runs this build already is returned. Raises: ServingRefused.
    """
    if build.status != BuildStatus.SUCCEEDED:
        raise ServingRefused(f"{build} has not succeeded: nothing can run", "build_not_ready")
    if build.version.model_id != endpoint.model_id:
        raise ServingRefused(f"{build} is of another model than {endpoint}", "other_model")
    if not 1 <= replicas <= MAX_REPLICAS:
        raise ServingRefused(f"Replicas must be 1 to {MAX_REPLICAS}", "replicas_out_of_range")
    found = endpoint.revisions.filter(build=build, wanted=RevisionWish.RUN).first()
    if found is not None:
        return found
    if short := selectors.shortage(endpoint, replicas):
        raise ServingRefused(f"{build.version} has no room in {endpoint.environment}. {short}",
                             "no_room")  # fmt: skip
    with transaction.atomic():
        Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        found = endpoint.revisions.filter(build=build, wanted=RevisionWish.RUN).first()
        if found is not None:
            return found
        last = endpoint.revisions.aggregate(last=Max("number"))["last"] or 0
        revision = Revision.objects.create(
            endpoint=endpoint,
            number=last + 1,
            version=build.version,
            build=build,
            replicas=replicas,
            created_at=now,
        )
        record(
            "revision.deployed",
            revision,
            actor=None,
            now=now,
            model_name=endpoint.model.name,
            environment=endpoint.environment.name,
            evidence={
                "version": build.version.number,
                "digest": build.digest,
                "replicas": replicas,
            },
        )
        _announce(endpoint)
    return revision


def set_traffic(
    *,
    endpoint: Endpoint,
    weights: dict[int, int],
    actor: User | None,
    reason: str,
    now: datetime,
) -> None:
    """It wants this split: revision -> thousandths, together 1000, or nothing at all.

    The same split again changes and records nothing. Raises: ServingRefused.
    """
    shares = {pk: weight for pk, weight in sorted(weights.items()) if weight}
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        revisions = _running(row, shares)
        kept = {str(pk): weight for pk, weight in shares.items()}
        if kept != row.traffic_wanted:
            Endpoint.objects.filter(pk=row.pk).update(
                traffic_wanted=kept, traffic_changed_at=now, revision=F("revision") + 1
            )
            _record(
                TRAFFIC,
                endpoint,
                actor=actor,
                now=now,
                reason=reason,
                evidence=_split(shares, revisions),
            )
            _announce(endpoint)
    endpoint.refresh_from_db(fields=["traffic_wanted", "traffic_changed_at", "revision"])


def set_shadow(
    *,
    endpoint: Endpoint,
    shares: dict[int, int],
    actor: User | None,
    reason: str,
    now: datetime,
) -> None:
    """It wants copies of requests to go to these revisions: revision -> thousandths of all.

    Their answers are recorded and never reach callers. The same again changes and records nothing.
    Raises: ServingRefused.
    """
    kept = {str(pk): share for pk, share in sorted(shares.items()) if share}
    if any(not 0 <= share <= WEIGHT_TOTAL for share in shares.values()):
        raise ServingRefused("A shadow's share is 0 to 100 percent", "shadow_share")
    if kept and not backends.load(endpoint.environment.backend).capabilities.shadow:
        raise ServingRefused(
            f"{endpoint.environment.name} is served by {endpoint.environment.backend!r}, which "
            "cannot copy requests",
            "shadow_unsupported",
        )
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        revisions = _among(row, [pk for pk, share in shares.items() if share])
        if kept != row.shadow_wanted:
            Endpoint.objects.filter(pk=row.pk).update(
                shadow_wanted=kept, revision=F("revision") + 1
            )
            _record(
                "endpoint.shadow_changed",
                endpoint,
                actor=actor,
                now=now,
                reason=reason,
                evidence={
                    "shadow": {
                        str(r.version.number): shares[r.pk] * 100 / WEIGHT_TOTAL for r in revisions
                    },
                    "revisions": kept,
                },
            )
            _announce(endpoint)
    endpoint.refresh_from_db(fields=["shadow_wanted", "revision"])


def set_stable(*, endpoint: Endpoint, revision: Revision, now: datetime) -> None:
    """It names the revision that serves when no rollout moves. Raises: ServingRefused."""
    with transaction.atomic():
        row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
        _running(row, {revision.pk: WEIGHT_TOTAL})
        if row.stable_id != revision.pk:
            Endpoint.objects.filter(pk=row.pk).update(stable=revision, revision=F("revision") + 1)
            _record(
                "endpoint.stable_changed",
                endpoint,
                now=now,
                evidence={"version": revision.version.number, "revision": revision.pk},
            )
            _announce(endpoint)
    endpoint.refresh_from_db(fields=["stable", "revision"])


def retire(*, revision: Revision, now: datetime) -> None:
    """It wants a revision to stop. Raises: ServingRefused while traffic or the endpoint needs it.

    Its processes end after the gateway has confirmed that it forgot them.
    """
    with transaction.atomic():
        endpoint = Endpoint.objects.select_for_update().get(pk=revision.endpoint_id)
        if selectors.weights_of(endpoint.traffic_wanted).get(revision.pk):
            raise ServingRefused(f"{revision} still gets traffic", "revision_has_traffic")
        if endpoint.stable_id == revision.pk:
            raise ServingRefused(f"{revision} is the stable one", "revision_is_stable")
        if endpoint.shadow_wanted.get(str(revision.pk)):
            raise ServingRefused(f"{revision} still gets copies", "revision_has_shadow")
        stopped = Revision.objects.filter(pk=revision.pk, wanted=RevisionWish.RUN)
        if stopped.update(wanted=RevisionWish.STOP):
            record(
                "revision.retired",
                revision,
                actor=None,
                now=now,
                model_name=endpoint.model.name,
                environment=endpoint.environment.name,
                evidence={"version": revision.version.number},
            )
            _announce(endpoint)
    revision.refresh_from_db(fields=["wanted"])


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
            reason=one.reason,
        )
        for one in seen
    ]
    Replica.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["revision", "index"],
        update_fields=[
            "ready", "started_at", "start_seconds", "restarts", "memory_mb", "in_flight", "reason",
        ],
    )  # fmt: skip
    gone = known.keys() - {row.index for row in rows}
    if gone:
        Replica.objects.filter(revision=revision, index__in=gone).delete()
    told = {row.index: (row.ready, row.restarts, row.started_at) for row in known.values()}
    return told != {row.index: (row.ready, row.restarts, row.started_at) for row in rows}


def _running(endpoint: Endpoint, shares: dict[int, int]) -> list[Revision]:
    """The revisions of a split. Raises: ServingRefused when it could not be served."""
    if shares and sum(shares.values()) != WEIGHT_TOTAL:
        raise ServingRefused(f"Weights must add up to {WEIGHT_TOTAL}", "weights_sum")
    if any(weight < 0 for weight in shares.values()):
        raise ServingRefused("No weight may be below 0", "weights_negative")
    return _among(endpoint, list(shares))


def _among(endpoint: Endpoint, wanted: Sequence[int]) -> list[Revision]:
    """The endpoint's revisions of these numbers. Raises: ServingRefused unless all run."""
    rows = endpoint.revisions.filter(pk__in=wanted).select_related("version", "build")
    found = list(rows.order_by("pk"))
    if len(found) != len(set(wanted)):
        raise ServingRefused("A revision is not one of this endpoint", "revision_unknown")
    for revision in found:
        if revision.wanted != RevisionWish.RUN:
            raise ServingRefused(f"{revision} was retired", "revision_retired")
    return found


def _split(shares: dict[int, int], revisions: Iterable[Revision]) -> dict[str, object]:
    """The evidence of a change of traffic, which says what served from now on."""
    weights: dict[str, float] = {}
    digests: dict[str, str] = {}
    for revision in revisions:
        number = str(revision.version.number)
        weights[number] = weights.get(number, 0) + shares[revision.pk] * 100 / WEIGHT_TOTAL
        digests[number] = revision.build.digest
    return {
        "weights": weights,
        "revisions": {str(pk): weight for pk, weight in shares.items()},
        "digests": digests,
    }


def _record(
    verb: str,
    endpoint: Endpoint,
    *,
    now: datetime,
    actor: User | None = None,
    reason: str = "",
    evidence: dict[str, object] | None = None,
) -> None:
    record(
        verb,
        endpoint,
        actor=actor,
        now=now,
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        reason=reason,
        evidence=evidence,
    )


def _announce(endpoint: Endpoint) -> None:
    live.publish(f"endpoint:{endpoint.pk}")
    live.publish("home:all")
    wake("serving.sweep")


def copy(
    *, revision: Revision, path: str, body: bytes, request_id: str, timeout_seconds: float
) -> tuple[int, bytes] | None:
    """It sends a revision a copy of a request and gives (status, body).

    The model server records it as a copy, which no caller's figure holds. None: no replica gave a
    whole answer in time. Raises: ServingRefused where the backend cannot do it.
    """
    environment = revision.endpoint.environment
    backend = backends.load(environment.backend)
    if not backend.capabilities.copy:
        raise ServingRefused(
            f"{environment.name} is served by {environment.backend!r}, which cannot send copies of"
            " requests on its own",
            "copies_unsupported",
        )
    return backend.copy(
        revision.pk, path, body, request_id=request_id, timeout_seconds=timeout_seconds
    )
