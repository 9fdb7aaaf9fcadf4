"""Questions about people."""

from typing import Any

from apps.accounts.lifecycle import Role
from apps.accounts.models import Membership, Team, User

ORDER = list(Role)


def members_of(team: Team) -> list[dict[str, Any]]:
    """Everybody in the team with their roles, by name."""
    held: dict[int, list[str]] = {}
    people: dict[int, User] = {}
    rows = Membership.objects.filter(team=team).select_related("user").order_by("user__username")
    for row in rows:
        people[row.user_id] = row.user
        held.setdefault(row.user_id, []).append(row.role)
    return [_described(people[pk], roles) for pk, roles in held.items()]


def member(team: Team, user: User) -> dict[str, Any]:
    """One person of the team with their roles."""
    roles = Membership.objects.filter(team=team, user=user).values_list("role", flat=True)
    return _described(user, list(roles))


def _described(user: User, roles: list[str]) -> dict[str, Any]:
    return {
        "username": user.username,
        "name": user.get_full_name(),
        "email": user.email,
        "is_active": user.is_active,
        "roles": sorted(roles, key=lambda role: ORDER.index(Role(role))),
    }
