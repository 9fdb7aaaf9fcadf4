"""Verbs of people on rollouts, which write wishes, and their start."""

import logging
from datetime import datetime

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.core.dispatch import wake
from apps.core.errors import Refused, Unavailable
from apps.promotions import services as promotions
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.rollouts import selectors
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services import records
from apps.serving import selectors as served
from apps.serving.models import Endpoint
from apps.serving.services import wishes

log = logging.getLogger(__name__)


class RolloutRefused(Refused):
    code = "rollout_refused"


def start(*, promotion: Promotion, actor: User | None, now: datetime) -> Rollout:
    """It takes up an approved promotion: a revision of its bundle, and a rollout to move to it.

    Raises: RolloutRefused when it is not approved, was taken up before, no longer is what was
    approved, or when another rollout moves the endpoint.
    """
    promotion.refresh_from_db()
    if Rollout.objects.filter(promotion=promotion).exists():
        raise RolloutRefused(f"The {promotion} was rolled out already", "already_started")
    if promotion.status != Status.APPROVED:
        raise RolloutRefused(
            f"The {promotion} is {promotion.status}, not approved", "promotion_not_approved"
        )
    busy = selectors.moving_on(promotion)
    if busy is not None:
        raise RolloutRefused(f"The {busy} still moves; wait or abort it", "endpoint_busy")
    # Not inside the transaction below: that it is refused stays, though nothing is started.
    if not promotions.check_applicable(promotion=promotion, now=now):
        raise RolloutRefused(promotion.reason, "promotion_not_applicable")
    try:
        with transaction.atomic():
            return _start(promotion, actor, now)
    except IntegrityError as twice:
        raise RolloutRefused(
            f"Another rollout of {promotion.version.model.name} began at the same moment",
            "endpoint_busy",
        ) from twice


def _start(promotion: Promotion, actor: User | None, now: datetime) -> Rollout:
    version = promotion.version
    ensured = wishes.ensure_endpoint(
        model=version.model, environment=promotion.environment, now=now
    )
    endpoint = Endpoint.objects.select_for_update().get(pk=ensured.pk)
    plan = dict(promotion.policy["rollout"])
    if endpoint.stable_id is None:
        # Nothing to split with: the share that the candidate does not get would be lost.
        plan["steps"] = plan["steps"][-1:]
    replicas = _width(endpoint, now)
    candidate = wishes.deploy(endpoint=endpoint, build=promotion.build, replicas=replicas, now=now)
    rollout = Rollout.objects.create(
        endpoint=endpoint,
        promotion=promotion,
        candidate=candidate,
        stable=endpoint.stable,
        plan=plan,
        replicas=replicas,
        reason="Waiting for the candidate's replicas to be ready",
        created_at=now,
    )
    records.observe(rollout, "", {}, now)
    records.audit(rollout, "started", actor, now, rollout.reason)
    records.publish(rollout)
    wake("rollouts.sweep")
    return rollout


def _width(endpoint: Endpoint, now: datetime) -> int:
    """As many replicas as it will need with all traffic, by the policy that is in force now."""
    floor = served.serving_part(endpoint).scaling.floor(now)
    return max(1, floor, endpoint.stable.replicas if endpoint.stable is not None else 0)


def start_due(*, now: datetime) -> None:
    """It starts what is approved, one an endpoint at a time, the oldest first."""
    for promotion in selectors.waiting_to_start():
        if selectors.moving_on(promotion) is not None:
            continue
        try:
            start(promotion=promotion, actor=None, now=now)
        except (Refused, Unavailable) as refused:  # the next sweep looks again
            log.info("The %s does not start: %s", promotion, refused.message)


@transaction.atomic
def pause(*, rollout: Rollout, actor: User, now: datetime) -> Rollout:
    """It holds the rollout where it stands. Raises: RolloutRefused (rollout_ended,
    rollout_reverting, already_paused)."""
    held = _steerable(rollout)
    if held.pause_wanted:
        raise RolloutRefused("This rollout is paused already", "already_paused")
    return _wish(held, "paused", actor, now, pause_wanted=True)


@transaction.atomic
def resume(*, rollout: Rollout, actor: User, now: datetime) -> Rollout:
    """It lets a paused rollout go on. Raises: RolloutRefused (rollout_ended, not_paused)."""
    held = _steerable(rollout)
    if not held.pause_wanted:
        raise RolloutRefused("This rollout is not paused", "not_paused")
    return _wish(held, "resumed", actor, now, pause_wanted=False)


@transaction.atomic
def abort(*, rollout: Rollout, actor: User, reason: str, now: datetime) -> Rollout:
    """It sends all traffic back to the stable revision. Raises: RolloutRefused."""
    held = _steerable(rollout)
    return _wish(held, "aborted", actor, now, reason, abort_wanted=True, abort_reason=reason)


def _steerable(rollout: Rollout) -> Rollout:
    held = Rollout.objects.select_for_update().get(pk=rollout.pk)
    phase = Phase(held.phase)
    if phase.is_final:
        raise RolloutRefused(f"This rollout has ended: it {phase}", "rollout_ended")
    if phase is Phase.REVERTING or held.abort_wanted:
        raise RolloutRefused("This rollout is on its way back already", "rollout_reverting")
    return held


def _wish(
    rollout: Rollout,
    verb: str,
    actor: User,
    now: datetime,
    reason: str = "",
    **wanted: object,
) -> Rollout:
    rollout.wish_for(**wanted)
    records.audit(rollout, verb, actor, now, reason)
    records.publish(rollout)
    wake("rollouts.sweep")
    return rollout
