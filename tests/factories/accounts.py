from collections.abc import Sequence
from typing import Any

import factory
from factory.django import DjangoModelFactory

from apps.accounts.lifecycle import Role
from apps.accounts.models import Membership, Team, User


class UserFactory(DjangoModelFactory[User]):
    """Somebody without a role; a password takes long to hash, so nobody has one."""

    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"person-{n}")
    email = factory.LazyAttribute(lambda row: f"{row.username}@example.com")
    password = "!"


def member(team: Team, *roles: Role, **fields: Any) -> User:
    """It makes somebody who has these roles in the team."""
    user = UserFactory.create(**fields)
    give(user, team, roles or tuple(Role))
    return user


def give(user: User, team: Team, roles: Sequence[Role]) -> None:
    Membership.objects.bulk_create(Membership(user=user, team=team, role=role) for role in roles)
