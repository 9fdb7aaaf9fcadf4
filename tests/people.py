"""The cast: who plays in the tests. Rights are given through services, as in the product."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apps.accounts import services
from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Team, User


@dataclass(frozen=True)
class Cast:
    team: Team
    owner: User  # data scientist of the team that owns the model
    colleague: User  # data scientist and approver of the same team
    approver: User
    operator: User
    viewer: User
    admin: User  # admin of the team, not a superuser
    stranger: User  # every role, in another team


def person(name: str) -> User:
    return User.objects.create_user(name, f"{name}@example.com", "correct horse battery")


def cast() -> Cast:
    """It brings everybody on stage."""
    team = services.create_team(name="Flights")
    elsewhere = services.create_team(name="Elsewhere")
    roles: dict[str, list[Role]] = {
        "ada": [Role.DATA_SCIENTIST],
        "ben": [Role.DATA_SCIENTIST, Role.APPROVER],
        "grace": [Role.APPROVER],
        "otto": [Role.OPERATOR],
        "vera": [Role.VIEWER],
        "dora": [Role.ADMIN],
    }
    people = {}
    for name, held in roles.items():
        people[name] = person(name)
        for role in held:
            services.grant(user=people[name], team=team, role=role)
    stranger = person("mallory")
    for role in Role:
        services.grant(user=stranger, team=elsewhere, role=role)
    return Cast(
        team=team,
        owner=people["ada"],
        colleague=people["ben"],
        approver=people["grace"],
        operator=people["otto"],
        viewer=people["vera"],
        admin=people["dora"],
        stranger=stranger,
    )


def bearer(user: User, *scopes: Scope) -> dict[str, str]:
    """It gives the header that signs an API call as this person, with all scopes unless told."""
    now = datetime.now(UTC)
    _, key = services.issue_token(
        user=user,
        name="test",
        scopes=scopes or tuple(Scope),
        expires_at=now + timedelta(hours=1),
        now=now,
    )
    return {"Authorization": f"Bearer {key}"}
