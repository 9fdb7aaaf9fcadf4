"""Copies of requests that a person wants: a version answers them too, and nobody gets its answers.

Outside of rollouts, whose steps say themselves what is copied.
"""

from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.rollouts import selectors
from apps.rollouts.models import Rollout
from apps.rollouts.services.steering import RolloutRefused
from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.models import Endpoint, Revision
from apps.serving.selectors import weights_of
from apps.serving.services import wishes


def candidates(endpoint: Endpoint) -> list[Revision]:
    """The revisions that have a ready replica and answer no callers: copies can go to those.

    Not to one that sleeps, although it is a way back: a copy wakes nobody.
    """
    carries = weights_of(endpoint.traffic_wanted)
    return [
        revision
        for revision in selectors.ways_back(endpoint)
        if revision.ready_replicas and not carries.get(revision.pk)
    ]


def running(endpoint: Endpoint) -> list[tuple[Revision, int]]:
    """The revisions that are to get copies, each with the thousandths of all requests."""
    shares = weights_of(endpoint.shadow_wanted)
    found = endpoint.revisions.filter(pk__in=shares).select_related("version__model", "build")
    return [(revision, shares[revision.pk]) for revision in found.order_by("number")]


@transaction.atomic
def start(
    *,
    endpoint: Endpoint,
    revision: Revision,
    share: int,
    actor: User,
    reason: str,
    now: datetime,
) -> None:
    """It wants copies of so many thousandths of all requests to go to a revision, besides others.

    Raises: RolloutRefused while a rollout moves, for a revision that answers callers, is not ready
    or is not this endpoint's; serving.services.wishes.ServingRefused.
    """
    row = _free(endpoint)
    if not 1 <= share <= WEIGHT_TOTAL:
        raise RolloutRefused("Between 0.1 and 100 % of requests can be copied", "shadow_share")
    if not reason.strip():
        raise RolloutRefused("Say why; it is kept with the change", "reason_missing")
    _check(row, revision)
    shares = weights_of(row.shadow_wanted) | {revision.pk: share}
    wishes.set_shadow(endpoint=endpoint, shares=shares, actor=actor, reason=reason.strip(), now=now)


@transaction.atomic
def put(
    *, endpoint: Endpoint, shares: dict[int, int], actor: User, reason: str, now: datetime
) -> None:
    """It wants copies to go to these revisions and to no others: revision -> thousandths of all.

    What a revision gets already it may keep. Raises: as `start`, for each of the others.
    """
    row = _free(endpoint)
    before = weights_of(row.shadow_wanted)
    others = [pk for pk, share in shares.items() if share and share != before.get(pk)]
    for revision in row.revisions.filter(pk__in=others).select_related("version"):
        _check(row, revision)
    wishes.set_shadow(endpoint=endpoint, shares=shares, actor=actor, reason=reason, now=now)


@transaction.atomic
def stop(
    *, endpoint: Endpoint, revision: Revision, actor: User, reason: str, now: datetime
) -> None:
    """It wants no more copies to go to a revision; the same again changes nothing.

    Raises: RolloutRefused while a rollout moves.
    """
    row = _free(endpoint)
    shares = weights_of(row.shadow_wanted)
    shares.pop(revision.pk, None)
    wishes.set_shadow(endpoint=endpoint, shares=shares, actor=actor, reason=reason, now=now)


def _check(endpoint: Endpoint, revision: Revision) -> None:
    """Raises: RolloutRefused unless copies can go to this revision."""
    number = revision.version.number
    if revision.pk == endpoint.stable_id or endpoint.traffic_wanted.get(str(revision.pk)):
        raise RolloutRefused(
            f"v{number} answers callers already; copies are for another version", "already_serving"
        )
    if revision not in candidates(endpoint):
        raise RolloutRefused(
            f"v{number} has no ready replica here; only what runs can get copies", "not_ready"
        )


def _free(endpoint: Endpoint) -> Endpoint:
    """It locks the endpoint, so that two who start something both keep what they started."""
    row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    moving = Rollout.objects.moving().filter(endpoint=row).first()
    if moving is not None:
        number = moving.candidate.version.number
        raise RolloutRefused(
            f"v{number} is on its way here, and its steps say what is copied; wait for it or abort"
            " it",
            "endpoint_busy",
        )
    return row
