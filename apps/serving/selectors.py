"""Questions to serving: what is wanted where, and what served when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Prefetch, QuerySet, Sum

from apps.accounts.selectors import Caller, teams_of
from apps.audit import selectors as audit
from apps.audit.models import Event
from apps.registry import selectors as registry
from apps.registry.models import Model
from apps.registry.policy import serving_of
from apps.registry.serving_policy import Serving
from apps.serving import backends, keys
from apps.serving.backends import Running, WantedEndpoint, WantedRevision
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionWish
from apps.serving.models import Endpoint, Environment, Revision

USE_DAYS = 30
FIRST_NEEDS_MB = 300  # of a replica that nobody has seen run yet
MARGIN_MB = 64


@dataclass(frozen=True)
class Use:
    """Replica-hours of an endpoint."""

    days: int
    replica_hours: float
    saved_hours: float  # against as many replicas as there may be, all the time


@dataclass(frozen=True)
class Served:
    """What answered an endpoint's callers at one moment."""

    version: int
    percent: float
    digest: str


def visible_to(user: Caller) -> QuerySet[Endpoint]:
    """Endpoints of the models of the user's teams."""
    return (
        Endpoint.objects.filter(model__team__in=teams_of(user))
        .select_related("model", "environment", "stable__version__model")
        .prefetch_related(
            Prefetch(
                "revisions",
                Revision.objects.select_related("version__model", "build").prefetch_related(
                    "sighted"
                ),
            )
        )
        .order_by("name", "environment__order")
    )


def environments() -> QuerySet[Environment]:
    return Environment.objects.order_by("order")


def endpoint_of(model: Model, environment: Environment) -> Endpoint | None:
    return Endpoint.objects.filter(model=model, environment=environment).first()


def unsupported(environment: Environment, steps: Sequence[tuple[int, int]]) -> str:
    """What of a plan the environment's backend cannot do, in words; "" when it can all of it.

    `steps`: the shares of traffic and of copied requests of each, in thousandths.
    """
    alias = environment.backend
    if alias not in settings.SERVING_BACKENDS:
        known = ", ".join(sorted(settings.SERVING_BACKENDS))
        return (
            f"{environment.name} is served by {alias!r}, which SERVING_BACKENDS does not name; "
            f"there are: {known}"
        )
    capabilities = backends.load(alias).capabilities
    partial = [weight for weight, _ in steps if 0 < weight < WEIGHT_TOTAL]
    if partial and not capabilities.split:
        return (
            f"{environment.name} is served by {alias!r}, which cannot split traffic: the plan's "
            f"step of {partial[0] / 10:g} % needs that. Give it one step of 100 %"
        )
    copied = [shadow for _, shadow in steps if shadow]
    if copied and not capabilities.shadow:
        return (
            f"{environment.name} is served by {alias!r}, which cannot copy requests: the plan's "
            f"step with a shadow of {copied[0] / 10:g} % needs that. Leave it out"
        )
    return ""


def wishes(*, backend: str) -> list[WantedEndpoint]:
    """Everything that is wanted of one backend, as plain values."""
    rows = Endpoint.objects.filter(environment__backend=backend)
    return wanted(rows.select_related("environment").order_by("pk"))


def wanted(endpoints: QuerySet[Endpoint] | Sequence[Endpoint]) -> list[WantedEndpoint]:
    rows = list(endpoints)
    policies = registry.documents(endpoint.model_id for endpoint in rows)
    parts = {
        endpoint.pk: serving_of(policies.get(endpoint.model_id, {}), endpoint.environment.name)
        for endpoint in rows
    }
    running: dict[int, list[WantedRevision]] = {endpoint.pk: [] for endpoint in rows}
    revisions = Revision.objects.filter(endpoint__in=running, wanted=RevisionWish.RUN)
    for revision in revisions.select_related("version", "build").order_by("pk"):
        running[revision.endpoint_id].append(
            WantedRevision(
                id=revision.pk,
                version=revision.version.number,
                digest=revision.build.digest,
                bundle_path=revision.build.bundle_path,
                environment_path=revision.build.environment_path,
                replicas=revision.replicas,
                key=keys.of(revision.pk),
                owner=revision.version.model_id,
                running=running_as(parts[revision.endpoint_id]),
                needs_mb=needs_mb(revision),
                runtime=revision.build.runtime,
            )
        )
    return [
        WantedEndpoint(
            id=endpoint.pk,
            environment=endpoint.environment.name,
            name=endpoint.name,
            traffic=weights_of(endpoint.traffic_wanted),
            stable=endpoint.stable_id,
            revisions=running[endpoint.pk],
            shadow=weights_of(endpoint.shadow_wanted),
            request_seconds=parts[endpoint.pk].limits.request_seconds,
            try_seconds=parts[endpoint.pk].limits.try_seconds,
            sticky_cookie=parts[endpoint.pk].sticky_cookie,
            body_bytes=running_as(parts[endpoint.pk]).body_bytes,
        )
        for endpoint in rows
    ]


def serving_part(endpoint: Endpoint) -> Serving:
    """How the policy in force wants this endpoint served."""
    document = registry.documents([endpoint.model_id]).get(endpoint.model_id, {})
    return serving_of(document, endpoint.environment.name)


def by_number(endpoint: Endpoint, shares: Mapping[int, int]) -> dict[int, int]:
    """It turns the numbers that people see into keys; a number that is none of this endpoint's
    becomes a key that is no revision's."""
    keys_of = dict(endpoint.revisions.filter(number__in=shares).values_list("number", "pk"))
    return {keys_of.get(number, -number): share for number, share in shares.items()}


def policy_number(endpoint: Endpoint) -> int | None:
    """The edition of the policy that is in force; None: the model has none yet."""
    newest = endpoint.model.policies.order_by("-number").first()
    return newest.number if newest else None


def used_lately(endpoint: Endpoint, today: date) -> Use:
    """What the endpoint's replicas ran within the last days, today included."""
    since = today - timedelta(days=USE_DAYS - 1)
    sums = endpoint.usage.filter(day__gte=since).aggregate(
        used=Sum("replica_seconds"), most=Sum("most_replica_seconds")
    )
    used, most = sums["used"] or 0.0, sums["most"] or 0.0
    return Use(USE_DAYS, round(used / 3600, 3), round(max(0.0, most - used) / 3600, 3))


def shortage(endpoint: Endpoint, replicas: int) -> str:
    """Why so many replicas of a version that nobody has seen run have no room; "" when they have.

    What the endpoint's other revisions took says best what it will take.
    """
    seen = endpoint.revisions.exclude(most_memory_mb=None).order_by("-number").first()
    needs = FIRST_NEEDS_MB if seen is None else needs_mb(seen)
    backend = backends.load(endpoint.environment.backend)
    return backend.shortage(needs_mb=needs, replicas=replicas)


def shortage_for(revision: Revision, replicas: int) -> str:
    """Why so many more replicas of this revision have no room; "" when they have."""
    backend = backends.load(revision.endpoint.environment.backend)
    return backend.shortage(needs_mb=needs_mb(revision), replicas=replicas)


def running_as(part: Serving) -> Running:
    """The policy's words as a backend takes them."""
    return Running(
        memory_mb=part.resources.memory_mb,
        workers=part.resources.workers,
        processors=part.resources.processors,
        batch_rows=part.batching.max_rows if part.batching else 0,
        batch_wait_ms=part.batching.wait_ms if part.batching else 0,
        body_bytes=round(part.limits.body_mb * (1 << 20)),
        capture_share=part.capture.share,
        redact=tuple(part.capture.redact),
    )


def needs_mb(revision: Revision) -> int:
    """The memory to keep free for another replica: what one was seen to take, and a tenth more."""
    seen = revision.most_memory_mb
    return FIRST_NEEDS_MB if seen is None else max(MARGIN_MB, seen) * 11 // 10


def weights_of(kept: dict[str, Any] | None) -> dict[int, int]:
    """It reads weights as a row keeps them: JSON has no numbers as keys."""
    return {int(pk): int(weight) for pk, weight in (kept or {}).items()}


def served_at(*, model: Model, environment: str, at: datetime) -> tuple[Event | None, list[Served]]:
    """What served the model at `at`, and the change of traffic that had made it so."""
    event = audit.traffic_at(model_name=model.name, environment=environment, at=at)
    if event is None:
        return None, []
    digests = event.evidence.get("digests", {})
    weights = event.evidence.get("weights", {})
    return event, [
        Served(int(number), float(percent), digests.get(number, ""))
        for number, percent in sorted(weights.items(), key=lambda item: int(item[0]))
    ]
