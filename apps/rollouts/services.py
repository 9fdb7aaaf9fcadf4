"""Verbs on rollouts. People write wishes; what the loop decided is written by `settle` alone."""

import logging
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused, Unavailable
from apps.promotions import services as promotions
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.registry import services as registry
from apps.rollouts import mails, selectors
from apps.rollouts.analysis import Analysis
from apps.rollouts.decide import percent
from apps.rollouts.lifecycle import Decision, Phase
from apps.rollouts.models import Observation, Rollout
from apps.serving import services as serving
from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.models import Endpoint

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
    ensured = serving.ensure_endpoint(
        model=version.model, environment=promotion.environment, now=now
    )
    endpoint = Endpoint.objects.select_for_update().get(pk=ensured.pk)
    plan = dict(promotion.policy["rollout"])
    if endpoint.stable_id is None:
        # Nothing to split with: the share that the candidate does not get would be lost.
        plan["steps"] = plan["steps"][-1:]
    candidate = serving.deploy(
        endpoint=endpoint,
        build=promotion.build,
        replicas=promotion.policy.get("replicas", 1),
        now=now,
    )
    rollout = Rollout.objects.create(
        endpoint=endpoint,
        promotion=promotion,
        candidate=candidate,
        stable=endpoint.stable,
        plan=plan,
        reason="Waiting for the candidate's replicas to be ready",
        created_at=now,
    )
    _observe(rollout, "", {}, now)
    _audit(rollout, "started", actor, now, rollout.reason)
    _publish(rollout)
    wake("rollouts.sweep")
    return rollout


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
    _audit(rollout, verb, actor, now, reason)
    _publish(rollout)
    wake("rollouts.sweep")
    return rollout


@transaction.atomic
def settle(
    *, rollout: Rollout, decision: Decision, analysis: Analysis | None, now: datetime
) -> bool:
    """It records what the loop decided, with everything that follows from it in the database.

    False, and nothing written: a person or another worker wrote since the row was read, or the
    lease has run out.
    """
    came_from = (Phase(rollout.phase), rollout.step, rollout.weight)
    evidence = analysis.evidence() if analysis is not None else rollout.evidence
    if not rollout.record(decision, evidence=evidence, now=now):
        return False
    is_news = came_from != (decision.state.phase, decision.state.step, decision.weight)
    verdict = str(analysis.verdict) if analysis is not None else ""
    if is_news or _verdict_changed(rollout, verdict):
        _observe(rollout, verdict, evidence, now)
    if decision.state.phase is not came_from[0]:
        _ended(rollout, now)
    if is_news:
        _publish(rollout)
    else:
        live.publish(f"rollout:{rollout.pk}")  # new figures while traffic flows
    return True


@transaction.atomic
def ask_for(*, rollout: Rollout, decision: Decision, now: datetime) -> bool:
    """It asks for the split that was decided, unless it is wanted already.

    False, and nothing asked for: the lease has run out or is another worker's.
    """
    # A worker that slept since it recorded would undo what its successor asked for meanwhile.
    # The lock keeps a successor from claiming the row before this split is written.
    if not rollout.held(now).select_for_update():
        return False
    wanted = weights_for(rollout, decision.weight)
    if rollout.endpoint.traffic_wanted != {str(pk): weight for pk, weight in wanted.items()}:
        serving.set_traffic(
            endpoint=rollout.endpoint,
            weights=wanted,
            actor=None,
            reason=decision.reason,
            now=now,
        )
    return True


def _ended(rollout: Rollout, now: datetime) -> None:
    phase = Phase(rollout.phase)
    if phase is Phase.SUCCEEDED:
        serving.set_stable(endpoint=rollout.endpoint, revision=rollout.candidate, now=now)
        registry.set_alias(
            model=rollout.endpoint.model,
            name=rollout.endpoint.environment.name,
            number=rollout.candidate.version.number,
            now=now,
        )
    elif phase is Phase.REVERTED:
        # Again, for the tick that recorded the way back and was killed before it asked for it.
        serving.set_traffic(
            endpoint=rollout.endpoint,
            weights=weights_for(rollout, 0),
            actor=None,
            reason=rollout.reason,
            now=now,
        )
        serving.retire(revision=rollout.candidate, now=now)
        mails.rolled_back(rollout, now)
    if phase.is_final:
        served = phase is Phase.SUCCEEDED
        promotions.close(promotion=rollout.promotion, served=served, now=now)
        _audit(rollout, str(phase), None, now, rollout.reason)
        wake("promotions.sweep")  # what had to serve here first may enter the next environment


def weights_for(rollout: Rollout, weight: int) -> dict[int, int]:
    """The split in thousandths, without the revisions that get nothing."""
    split = {rollout.candidate_id: weight}
    if rollout.stable_id is not None:
        split[rollout.stable_id] = WEIGHT_TOTAL - weight
    return {pk: share for pk, share in split.items() if share}


def retire_replaced(*, now: datetime) -> None:
    """It stops revisions that were replaced long enough ago; until then going back is quick."""
    for rollout in selectors.still_warm(now):
        assert rollout.stable is not None
        serving.retire(revision=rollout.stable, now=now)


def _verdict_changed(rollout: Rollout, verdict: str) -> bool:
    last = rollout.observations.order_by("-pk").values_list("verdict", flat=True).first()
    return bool(verdict) and verdict != last


def _observe(rollout: Rollout, verdict: str, evidence: dict[str, Any], now: datetime) -> None:
    Observation.objects.create(
        rollout=rollout,
        at=now,
        phase=rollout.phase,
        step=rollout.step,
        weight=rollout.weight,
        verdict=verdict,
        reason=rollout.reason,
        evidence=evidence,
    )


def _audit(rollout: Rollout, verb: str, actor: User | None, now: datetime, reason: str) -> None:
    stable = rollout.stable.version if rollout.stable is not None else None
    record(
        f"rollout.{verb}",
        rollout,
        actor=actor,
        now=now,
        model_name=rollout.endpoint.model.name,
        environment=rollout.endpoint.environment.name,
        reason=reason,
        evidence={
            "version": rollout.candidate.version.number,
            "stable_version": stable.number if stable is not None else None,
            "digest": rollout.promotion.digest,
            "promotion": rollout.promotion_id,
            "revision": rollout.candidate_id,
            "step": rollout.step,
            "share": percent(rollout.weight),
            "cause": rollout.cause,
            "analysis": rollout.evidence,
        },
    )


def _publish(rollout: Rollout) -> None:
    for topic in (
        f"rollout:{rollout.pk}",
        f"promotion:{rollout.promotion_id}",
        f"endpoint:{rollout.endpoint_id}",
        f"model:{rollout.endpoint.model.name}",
        f"version:{rollout.candidate.version_id}",
        "home:all",
    ):
        live.publish(topic)
