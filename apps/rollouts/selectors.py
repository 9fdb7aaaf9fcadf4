"""Questions to rollouts."""

from datetime import datetime

from django.db.models import QuerySet

from apps.accounts.models import User
from apps.accounts.selectors import Caller, people_who_may, teams_of
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollback, Rollout
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision


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


def left_long_ago(now: datetime) -> list[Revision]:
    """Revisions that were replaced or rolled back from long enough ago, and carry nothing."""
    rollouts = Rollout.objects.filter(phase=Phase.SUCCEEDED, stable__wanted=RevisionWish.RUN)
    rollbacks = Rollback.objects.filter(left__wanted=RevisionWish.RUN)
    left = [
        (rollout.stable_id, rollout.finished_at + rollout.keep_warm)
        for rollout in rollouts
        if rollout.stable_id is not None and rollout.finished_at is not None
    ]
    left += [(rollback.left_id, rollback.warm_until) for rollback in rollbacks]
    # A revision can be left twice, when people went back to it: the last time counts.
    until = dict(sorted(left, key=lambda one: one[1]))
    due = [pk for pk, last in until.items() if last <= now]
    found = Revision.objects.filter(pk__in=due).select_related("endpoint").order_by("pk")
    return [revision for revision in found if not _is_used(revision.endpoint, revision.pk)]


def _is_used(endpoint: Endpoint, revision_id: int) -> bool:
    moving = Rollout.objects.moving().filter(endpoint=endpoint)
    return (
        endpoint.stable_id == revision_id
        or bool(endpoint.traffic_wanted.get(str(revision_id)))
        or bool(endpoint.shadow_wanted.get(str(revision_id)))
        or moving.filter(stable_id=revision_id).exists()
        or moving.filter(candidate_id=revision_id).exists()
    )


def ways_back(endpoint: Endpoint) -> list[Revision]:
    """The revisions that still run beside the stable one, the one that it replaced first."""
    stable = endpoint.stable
    if stable is None:
        return []
    replaced = replaced_by(stable)
    running = endpoint.revisions.filter(wanted=RevisionWish.RUN).exclude(pk=stable.pk)
    found = running.select_related("version__model", "build").order_by("-number")
    return sorted(found, key=lambda revision: revision != replaced)  # keeps the order otherwise


def replaced_by(revision: Revision) -> Revision | None:
    """What served before this revision's last rollout; None where that was nothing."""
    rollout = brought_in(revision)
    return None if rollout is None else rollout.stable


def revision_of(endpoint: Endpoint, version: int) -> Revision | None:
    """The newest revision of this version on the endpoint, one that runs before all others."""
    found = endpoint.revisions.filter(version__number=version).select_related("version")
    return found.order_by("wanted", "-number").first()  # "run" stands before "stop"


def is_ready(revision: Revision) -> bool:
    """It tells whether traffic could go there now; what sleeps is woken by the next request."""
    return revision.ready_replicas > 0 or revision.state == RevisionState.ASLEEP


def rollback_in_force(endpoint: Endpoint) -> Rollback | None:
    """The rollback that made the stable revision what it is; None where a rollout did."""
    rows = endpoint.rollbacks.select_related("left__version__model", "to__version__model")
    last = rows.first()
    if last is None or last.to_id != endpoint.stable_id:
        return None
    later = endpoint.rollouts.filter(phase=Phase.SUCCEEDED, pk__gt=last.after_id or 0)
    return None if later.exists() else last


def brought_in(revision: Revision) -> Rollout | None:
    """The last rollout that made this revision the stable one."""
    rows = with_relations(Rollout.objects.filter(phase=Phase.SUCCEEDED, candidate=revision))
    return rows.first()


def owners(rollout: Rollout) -> list[User]:
    """Who is told of a rollback: registrant, requester, and whoever may steer it."""
    promotion = rollout.promotion
    return _told(rollout, promotion.version.registered_by, promotion.requester)


def owners_of(rollback: Rollback) -> list[User]:
    """The same people, for the version that was left."""
    rollout = brought_in(rollback.left)
    requester = None if rollout is None else rollout.promotion.requester
    return _told(rollback, rollback.left.version.registered_by, requester)


def _told(moved: Rollout | Rollback, *people: User | None) -> list[User]:
    told = {user.pk: user for user in people_who_may("rollout.steer", moved)}
    return list({**told, **{user.pk: user for user in people if user is not None}}.values())
