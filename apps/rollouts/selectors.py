"""Questions to rollouts."""

from datetime import datetime

from django.db.models import QuerySet

from apps.accounts.models import User
from apps.accounts.selectors import Caller, people_who_may, teams_of
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Endpoint


def visible_to(user: Caller) -> QuerySet[Rollout]:
    return with_relations(Rollout.objects.filter(endpoint__model__team__in=teams_of(user)))


def with_relations(rows: QuerySet[Rollout]) -> QuerySet[Rollout]:
    return rows.select_related(
        "endpoint__model",
        "endpoint__environment",
        "promotion__requester",
        "promotion__version__registered_by",
        "candidate__version__model",
        "candidate__build",
        "stable__version__model",
    )


def waiting_to_start() -> list[Promotion]:
    """Approved promotions that no rollout took up, the oldest first."""
    rows = Promotion.objects.filter(status=Status.APPROVED, rollout=None)
    return list(
        rows.select_related("version__model", "environment", "build").order_by("decided_at", "pk")
    )


def moving_on(promotion: Promotion) -> Rollout | None:
    """The rollout that has the endpoint now, which this promotion would move."""
    return (
        Rollout.objects.moving()
        .filter(
            endpoint__model_id=promotion.version.model_id,
            endpoint__environment_id=promotion.environment_id,
        )
        .first()
    )


def step_began_at(rollout: Rollout) -> datetime | None:
    """When this step's share was first asked for; None before the first step."""
    story = rollout.observations.filter(step=rollout.step).exclude(phase=Phase.PREPARING)
    return story.order_by("pk").values_list("at", flat=True).first()


def still_warm(now: datetime) -> list[Rollout]:
    """Rollouts whose replaced revision was kept running long enough and carries nothing."""
    # A revision can be replaced twice, when people went back to it: the last time counts.
    last = Rollout.objects.order_by("stable_id", "-finished_at").distinct("stable_id")
    ended = last.filter(phase=Phase.SUCCEEDED, stable__wanted=RevisionWish.RUN)
    due = [
        rollout
        for rollout in ended.select_related("stable", "endpoint")
        if rollout.finished_at is not None and rollout.finished_at + rollout.keep_warm <= now
    ]
    return [rollout for rollout in due if not _is_used(rollout.endpoint, rollout.stable_id)]


def _is_used(endpoint: Endpoint, revision_id: int | None) -> bool:
    moving = Rollout.objects.moving().filter(endpoint=endpoint)
    return (
        endpoint.stable_id == revision_id
        or bool(endpoint.traffic_wanted.get(str(revision_id)))
        or moving.filter(stable_id=revision_id).exists()
        or moving.filter(candidate_id=revision_id).exists()
    )


def owners(rollout: Rollout) -> list[User]:
    """Who is told of a rollback: registrant, requester, and whoever may steer it."""
    people = [rollout.promotion.version.registered_by, rollout.promotion.requester]
    told = {user.pk: user for user in people_who_may("rollout.steer", rollout)}
    return list({**told, **{user.pk: user for user in people if user is not None}}.values())
