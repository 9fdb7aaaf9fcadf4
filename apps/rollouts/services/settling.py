"""Writes what the loop decided, which nobody else does, and what follows from it."""

from datetime import datetime

from django.db import transaction

from apps.core import live
from apps.core.dispatch import wake
from apps.promotions import services as promotions
from apps.registry.services import aliases
from apps.rollouts import mails
from apps.rollouts.analysis import Analysis
from apps.rollouts.lifecycle import Decision, Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services import records
from apps.serving.lifecycle import WEIGHT_TOTAL
from apps.serving.services import wishes


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
        records.observe(rollout, verdict, evidence, now)
    if decision.state.phase is not came_from[0]:
        _ended(rollout, now)
    if is_news:
        records.publish(rollout)
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
        wishes.set_traffic(
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
        wishes.set_shadow(
            endpoint=rollout.endpoint, shares=copies, actor=None, reason=reason, now=now
        )


def _ended(rollout: Rollout, now: datetime) -> None:
    phase = Phase(rollout.phase)
    if phase is Phase.SUCCEEDED:
        wishes.set_stable(endpoint=rollout.endpoint, revision=rollout.candidate, now=now)
        aliases.set_alias(
            model=rollout.endpoint.model,
            name=rollout.endpoint.environment.name,
            number=rollout.candidate.version.number,
            now=now,
        )
    elif phase is Phase.REVERTED:
        # Again, for the tick that recorded the way back and was killed before it asked for it.
        wishes.set_traffic(
            endpoint=rollout.endpoint,
            weights=weights_for(rollout, 0),
            actor=None,
            reason=rollout.reason,
            now=now,
        )
        _ask_for_copies(rollout, 0, rollout.reason, now)
        wishes.retire(revision=rollout.candidate, now=now)
        mails.rolled_back(rollout, now)
    if phase.is_final:
        served = phase is Phase.SUCCEEDED
        promotions.close(promotion=rollout.promotion, served=served, now=now)
        records.audit(rollout, str(phase), None, now, rollout.reason)
        wake("promotions.sweep")  # what had to serve here first may enter the next environment


def weights_for(rollout: Rollout, weight: int) -> dict[int, int]:
    """The split in thousandths, without the revisions that get nothing."""
    split = {rollout.candidate_id: weight}
    if rollout.stable_id is not None:
        split[rollout.stable_id] = WEIGHT_TOTAL - weight
    return {pk: share for pk, share in split.items() if share}


def _verdict_changed(rollout: Rollout, verdict: str) -> bool:
    last = rollout.observations.order_by("-pk").values_list("verdict", flat=True).first()
    return bool(verdict) and verdict != last
