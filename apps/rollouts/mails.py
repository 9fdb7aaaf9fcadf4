"""What people are told about a rollout, in words."""

from datetime import datetime

from apps.accounts.models import User
from apps.notifications.services import tell
from apps.rollouts import selectors
from apps.rollouts.lifecycle import Verdict
from apps.rollouts.models import Rollback, Rollout


def rolled_back(rollout: Rollout, now: datetime) -> None:
    """It tells the owners what was seen, so that they need not look anything up."""
    version, environment = rollout.candidate.version, rollout.endpoint.environment.name
    serves = f"{rollout.stable.version} serves again" if rollout.stable else "Nothing serves now"
    tell(
        users=selectors.owners(rollout),
        team_id=rollout.owning_team_id,
        kind="rollout.reverted",
        key=f"rollout:{rollout.pk}:reverted",
        subject=f"Rolled back: {version} in {environment}, {_in_short(rollout)}",
        sentences=[
            f"{version} was taken out of {environment}. {rollout.cause}.",
            f"{serves}; {version} gets no traffic.",
        ],
        facts=_facts(rollout),
        link_path=rollout.get_absolute_url(),
        button="See what was seen",
        now=now,
    )


def taken_back(rollback: Rollback, actor: User, now: datetime) -> None:
    """It tells the owners that a person took their version out, and why."""
    left, to = rollback.left.version, rollback.to.version
    environment = rollback.endpoint.environment.name
    tell(
        users=selectors.owners_of(rollback),
        team_id=rollback.owning_team_id,
        kind="endpoint.rolled_back",
        key=f"rollback:{rollback.pk}",
        subject=f"Rolled back: {left} in {environment}, v{to.number} serves again",
        sentences=[
            f"{actor} took {left} out of {environment}: {rollback.reason}",
            f"{to} serves again; {left} gets no traffic.",
        ],
        facts=[],
        link_path=rollback.endpoint.get_absolute_url(),
        button="See what serves",
        now=now,
    )


def _in_short(rollout: Rollout) -> str:
    """The first thing that failed; a subject has no room for all."""
    if rollout.evidence.get("verdict") == Verdict.FAIL:
        return str(rollout.evidence["reason"]).split(";")[0]
    cause = rollout.cause.split(":")[0]
    return cause[:1].lower() + cause[1:]


def _facts(rollout: Rollout) -> list[tuple[str, str]]:
    requests = rollout.evidence.get("candidate_requests", 0)
    seen = [(tile["metric"], tile["summary"]) for tile in rollout.evidence.get("tiles", [])]
    names = {
        "error_rate": "Errors",
        "refused_rate": "Refused or given up",
        "latency_mean": "Typical latency",
        "latency_p95": "Slowest twentieth",
    }
    return [
        ("Requests to the candidate at this step", str(requests)),
        *[(names.get(metric, metric), summary) for metric, summary in seen],
    ]
