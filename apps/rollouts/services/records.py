"""What is written down and told of a rollout."""

from datetime import datetime
from typing import Any

from apps.accounts.models import User
from apps.audit.services import record
from apps.core import live
from apps.rollouts.decide import share
from apps.rollouts.models import Observation, Rollout


def observe(rollout: Rollout, verdict: str, evidence: dict[str, Any], now: datetime) -> None:
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


def audit(rollout: Rollout, verb: str, actor: User | None, now: datetime, reason: str) -> None:
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


def publish(rollout: Rollout) -> None:
    for topic in (
        f"rollout:{rollout.pk}",
        f"promotion:{rollout.promotion_id}",
        f"endpoint:{rollout.endpoint_id}",
        f"model:{rollout.endpoint.model.name}",
        f"version:{rollout.candidate.version_id}",
        "home:all",
    ):
        live.publish(topic)
