"""The cast of the demo: a team with its roles, and a token for each person."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from apps.accounts import services
from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import User
from mlops_portal.demo.panel import Panel

TEAM = "Flights"
ROLES: dict[str, tuple[Role, ...]] = {
    "ada": (Role.DATA_SCIENTIST,),
    "ben": (Role.DATA_SCIENTIST, Role.APPROVER),
    "grace": (Role.APPROVER, Role.VIEWER),
    "otto": (Role.OPERATOR,),
    "dora": (Role.ADMIN,),
}
EVERYTHING_BUT_ADMIN = [scope for scope in Scope if scope is not Scope.ADMIN]


@dataclass(frozen=True)
class Person:
    user: User
    panel: Panel

    @property
    def key(self) -> str:
        return self.panel.key


def gather(url: str) -> dict[str, Person]:
    """It makes the team, its people and their tokens, which end by themselves after a day."""
    team = services.create_team(name=TEAM)
    now = timezone.now()
    people = {}
    for name, roles in ROLES.items():
        user, new = User.objects.get_or_create(
            username=name, defaults={"email": f"{name}@example.com", "first_name": name.title()}
        )
        if new:
            user.set_unusable_password()
            user.save(update_fields=["password"])
        for role in roles:
            services.grant(user=user, team=team, role=role)
        is_admin = Role.ADMIN in roles
        _, key = services.issue_token(
            user=user,
            name="demo",
            scopes=list(Scope) if is_admin else EVERYTHING_BUT_ADMIN,
            expires_at=now + timedelta(days=1),
            now=now,
        )
        people[name] = Person(user, Panel(url, key))
    return people
