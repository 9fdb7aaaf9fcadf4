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
from apps.rollouts.decide import share
from apps.rollouts.lifecycle import Decision, Phase
from apps.rollouts.models import KEEP_WARM_SECONDS, Observation, Rollback, Rollout
from apps.serving import selectors as served
from apps.serving import services as serving
from apps.serving.lifecycle import WEIGHT_TOTAL, RevisionWish
from apps.serving.models import Endpoint, Revision

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
    replicas = _width(endpoint, now)
    candidate = serving.deploy(endpoint=endpoint, build=promotion.build, replicas=replicas, now=now)
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
    _observe(rollout, "", {}, now)
    _audit(rollout, "started", actor, now, rollout.reason)
    _publish(rollout)
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
    came_from = (Phase(rollout.phase), rollout.step, rollout.weight, rollout.shadow)
    evidence = analysis.evidence() if analysis is not None else rollout.evidence
    if not rollout.record(decision, evidence=evidence, now=now):
        return False
    state = decision.state
    is_news = came_from != (state.phase, state.step, decision.weight, decision.shadow)
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
    """It asks for the split and the copies that were decided, unless they are wanted already.

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
    _ask_for_copies(rollout, decision.shadow, decision.reason, now)
    return True


def _ask_for_copies(rollout: Rollout, shadow: int, reason: str, now: datetime) -> None:
    copies = {rollout.candidate_id: shadow} if shadow else {}
    if rollout.endpoint.shadow_wanted != {str(pk): part for pk, part in copies.items()}:
        serving.set_shadow(
            endpoint=rollout.endpoint, shares=copies, actor=None, reason=reason, now=now
        )


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
        _ask_for_copies(rollout, 0, rollout.reason, now)
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


def revision_to(*, endpoint: Endpoint, version: int) -> Revision:
    """The revision that `roll_back` would go to for a version. Raises: RolloutRefused."""
    found = selectors.revision_of(endpoint, version)
    if found is None:
        raise RolloutRefused(
            f"v{version} never ran in {endpoint.environment.name}; request a promotion of it",
            "revision_unknown",
        )
    return found


def retire_replaced(*, now: datetime) -> None:
    """It stops revisions that were replaced long enough ago; until then going back is quick."""
    for revision in selectors.left_long_ago(now):
        try:
            serving.retire(revision=revision, now=now)
        except Refused as needed:  # somebody went back to it at this moment
            log.info("%s stays: %s", revision, needed.message)


def roll_back(
    *, endpoint: Endpoint, to: Revision | None = None, actor: User, reason: str, now: datetime
) -> Rollback:
    """It takes all traffic at once to a revision that still runs.

    Without `to`: to the one that the stable revision replaced. Where somebody was quicker, their
    rollback is returned and nothing changes. Raises: RolloutRefused (reason_missing,
    endpoint_busy, nothing_serves, already_serving, revision_unknown, no_way_back, not_ready).
    """
    if not reason.strip():
        raise RolloutRefused("Say why it is rolled back: its owners are told", "reason_missing")
    with transaction.atomic():
        rollback = _roll_back(endpoint, to, actor, reason.strip(), now)
    try:
        serving.converge(rollback.endpoint, now)
    except Unavailable as down:  # what is wanted is written; the sweep makes it so
        log.warning("%s is not in force yet: %s", rollback, down.message)
    return rollback


def _roll_back(
    endpoint: Endpoint, to: Revision | None, actor: User, reason: str, now: datetime
) -> Rollback:
    held = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    busy = Rollout.objects.moving().filter(endpoint=held).first()
    if busy is not None:
        raise RolloutRefused(
            f"The {busy} still moves; abort it, which takes all traffic back", "endpoint_busy"
        )
    last = selectors.rollback_in_force(held)
    if last is not None and (to is None or to.pk == last.to_id):
        return last  # a second click must not go back a second time
    if held.stable is None:
        raise RolloutRefused(
            f"Nothing serves {held} that could be rolled back; request a promotion of the version "
            "that should serve",
            "nothing_serves",
        )
    target = _way_back(held, held.stable, to)
    serving.set_traffic(
        endpoint=held, weights={target.pk: WEIGHT_TOTAL}, actor=actor, reason=reason, now=now
    )
    left, brought = held.stable, selectors.brought_in(held.stable)
    serving.set_stable(endpoint=held, revision=target, now=now)
    registry.set_alias(
        model=held.model, name=held.environment.name, number=target.version.number, now=now
    )
    rollback = Rollback.objects.create(
        endpoint=held,
        left=left,
        to=target,
        after=held.rollouts.first(),
        reason=reason,
        at=now,
        keep_warm_seconds=brought.keep_warm.total_seconds() if brought else KEEP_WARM_SECONDS,
    )
    _tell_of(rollback, actor, now)
    return rollback


def _way_back(endpoint: Endpoint, stable: Revision, to: Revision | None) -> Revision:
    """The revision to go back to. Raises: RolloutRefused, saying how to get there instead."""
    where = endpoint.environment.name
    target = selectors.replaced_by(stable) if to is None else to
    if target is None:
        raise RolloutRefused(
            f"Nothing served {endpoint} before {stable.version}; request a promotion of the "
            "version that should serve",
            "no_way_back",
        )
    if target.endpoint_id != endpoint.pk:
        raise RolloutRefused(f"{target} is not one of {endpoint}", "revision_unknown")
    if target.pk == stable.pk:
        raise RolloutRefused(f"{stable.version} serves in {where} already", "already_serving")
    target.refresh_from_db()  # only now is it held
    if target.wanted != RevisionWish.RUN:
        raise RolloutRefused(
            f"{target.version} no longer runs in {where}; request a promotion of "
            f"v{target.version.number} instead",
            "no_way_back",
        )
    if not selectors.is_ready(target):
        raise RolloutRefused(
            f"{target.version} is not ready in {where}: it is {target.state}"
            f"{f' ({target.reason})' if target.reason else ''}; try again when it is",
            "not_ready",
        )
    return target


def _tell_of(rollback: Rollback, actor: User, now: datetime) -> None:
    endpoint, left, to = rollback.endpoint, rollback.left, rollback.to
    record(
        "endpoint.rolled_back",
        endpoint,
        actor=actor,
        now=now,
        model_name=endpoint.model.name,
        environment=endpoint.environment.name,
        reason=rollback.reason,
        evidence={
            "from_version": left.version.number,
            "to_version": to.version.number,
            "from_revision": left.pk,
            "to_revision": to.pk,
            "digest": to.build.digest,
        },
    )
    mails.taken_back(rollback, actor, now)
    for topic in (
        f"endpoint:{endpoint.pk}",
        f"model:{endpoint.model.name}",
        f"version:{left.version_id}",
        f"version:{to.version_id}",
        "home:all",
    ):
        live.publish(topic)
    wake("promotions.sweep")  # what was compared with the one that was left is out of date


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
        shadow=rollout.shadow,
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
            "share": share(rollout.weight, rollout.shadow),
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
