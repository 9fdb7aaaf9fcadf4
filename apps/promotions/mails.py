"""What people are told about a promotion, in words."""

from datetime import datetime

from apps.accounts.models import User
from apps.notifications.services import tell
from apps.promotions import selectors
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion

DIGEST_SHOWN = 19  # "sha256:" and twelve characters tell two bundles apart


def approval_wanted(promotion: Promotion, now: datetime) -> None:
    """It asks everybody who may decide, except whoever made the request."""
    people = selectors.deciders(promotion).exclude(pk=promotion.requester_id or 0)
    asker = selectors.name_of(promotion.requester) if promotion.requester else "The policy"
    said = f" and says: {promotion.words}" if promotion.words else ""
    tell(
        users=people,
        team_id=promotion.owning_team_id,
        kind="promotion.waiting",
        key=f"promotion:{promotion.pk}:waiting",
        subject=f"Approval wanted: {_what(promotion)}",
        sentences=[
            f"{asker} asks that {promotion.version} enter {promotion.environment.name}{said}.",
            f"{promotion.reason}.",
        ],
        facts=[*_facts(promotion), *_checks(promotion)],
        link_path=promotion.get_absolute_url(),
        button="Look and decide",
        now=now,
    )


def ended(promotion: Promotion, actor: User | None, now: datetime) -> None:
    """It tells the requester and whoever registered the version; not the one who just did it."""
    people = [promotion.requester, promotion.version.registered_by]
    tell(
        users=[user for user in people if user is not None and user != actor],
        team_id=promotion.owning_team_id,
        kind="promotion.ended",
        key=f"promotion:{promotion.pk}:{promotion.status}",
        subject=f"{Status(promotion.status).capitalize()}: {_what(promotion)}",
        sentences=[
            f"The promotion of {promotion.version} to {promotion.environment.name} "
            f"is {promotion.status}.",
            f"{promotion.reason}.",
        ],
        facts=[*_facts(promotion), *_checks(promotion)],
        link_path=promotion.get_absolute_url(),
        button="Look at the promotion",
        now=now,
    )


def _what(promotion: Promotion) -> str:
    return f"{promotion.version} for {promotion.environment.name}"


def _facts(promotion: Promotion) -> list[tuple[str, str]]:
    serves = selectors.stable_build(promotion.version, promotion.environment)
    now_serves = f"{serves.version}, {serves.digest[:DIGEST_SHOWN]}" if serves else "nothing yet"
    return [
        ("Serves now", now_serves),
        ("Would serve", f"{promotion.version}, {promotion.digest[:DIGEST_SHOWN]}"),
    ]


def _checks(promotion: Promotion) -> list[tuple[str, str]]:
    if promotion.validation is None:
        return []
    return [
        (check.title, f"{check.verdict}: {check.summary}")
        for check in promotion.validation.checks.all()
    ]
