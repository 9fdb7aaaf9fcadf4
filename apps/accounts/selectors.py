"""Who may do what. Every page and every API route asks `may`."""

from typing import Protocol, TypeVar

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db.models import Model as DjangoModel
from django.db.models import QuerySet
from django.http import Http404

from apps.accounts.lifecycle import VERBS
from apps.accounts.models import Membership, Team, User

Caller = User | AnonymousUser
M = TypeVar("M", bound=DjangoModel)


class Owned(Protocol):
    """Something that a team owns, directly or through the model it belongs to."""

    @property
    def owning_team_id(self) -> int: ...


def may(user: Caller, verb: str, thing: Owned | None = None) -> bool:
    """It answers whether the user may do the verb to this thing.

    Without a thing: whether there is any team in which they may. A token narrows what its user
    may; a verb that is not in the table is refused to everybody.
    """
    if verb not in VERBS or not isinstance(user, User) or not user.is_active:
        return False
    roles, scope = VERBS[verb]
    if user.granted_scopes is not None and scope not in user.granted_scopes:
        return False
    if user.is_superuser:
        return True
    held = Membership.objects.filter(user=user, role__in=roles)
    if thing is not None:
        held = held.filter(team=thing.owning_team_id)
    return held.exists()


def require(user: Caller, verb: str, thing: Owned | None = None) -> None:
    """It refuses what `may` denies.

    Raises: Http404 when the user may not even see the thing, so that a guessed address tells
    nothing; PermissionDenied when they see it but may not do this.
    """
    if may(user, verb, thing):
        return
    if thing is not None and verb != "view" and not may(user, "view", thing):
        raise Http404
    if thing is not None and verb == "view":
        raise Http404
    raise PermissionDenied(f"You may not do this ({verb}); ask an admin of the team for the role")


def person(user: Caller) -> User:
    """It gives the User that a caller is, where `require` has let nobody else pass."""
    assert isinstance(user, User)
    return user


def teams_of(user: Caller, verb: str = "view") -> QuerySet[Team]:
    """The teams in which the user may do the verb."""
    if not may(user, verb):
        return Team.objects.none()
    assert isinstance(user, User)  # `may` refuses everybody else
    if user.is_superuser:
        return Team.objects.all()
    roles, _ = VERBS[verb]
    return Team.objects.filter(memberships__user=user, memberships__role__in=roles).distinct()


def people_who_may(verb: str, thing: Owned) -> QuerySet[User]:
    """Active people whose role in the owning team allows the verb."""
    roles, _ = VERBS[verb]
    return User.objects.filter(
        is_active=True, memberships__team=thing.owning_team_id, memberships__role__in=roles
    ).distinct()
