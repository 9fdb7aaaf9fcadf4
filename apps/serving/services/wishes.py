"""Verbs on what is wanted: rows only, which `sights.converge` makes so."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import F, Max
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
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionWish
from apps.serving.models import Endpoint, Environment, Revision

ENVIRONMENTS = (("staging", 1), ("production", 2))
MAX_REPLICAS = 64


class ServingRefused(Refused):
    code = "serving_refused"


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
