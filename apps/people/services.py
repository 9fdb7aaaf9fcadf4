"""Verbs on people: each records who did it, for every team that it concerns."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Model as DjangoModel
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apps.accounts import services as accounts
from apps.accounts.lifecycle import Role
from apps.accounts.models import Membership, Team, Token, User
from apps.accounts.selectors import teams_of
from apps.audit.services import record
from apps.core.errors import Refused


class PeopleRefused(Refused):
    code = "people_refused"


@transaction.atomic
def issue_token(
    *, user: User, name: str, scopes: Iterable[str], expires_at: datetime, now: datetime
) -> tuple[Token, str]:
    """It makes a token for its own user. Raises as `accounts.services.issue_token` does."""
    token, key = accounts.issue_token(
        user=user, name=name, scopes=scopes, expires_at=expires_at, now=now
    )
    evidence = {"begins": token.prefix, "scopes": token.scopes, "expires": expires_at.isoformat()}
    _tell_teams("token.issued", token, actor=user, now=now, evidence=evidence)
    return token, key


@transaction.atomic
def revoke_token(*, token: Token, actor: User, now: datetime) -> None:
    """It makes a token open nothing any more; one that was revoked stays as it was."""
    if token.revoked_at is not None:
        return
    accounts.revoke_token(token=token, now=now)
    _tell_teams("token.revoked", token, actor=actor, now=now, evidence={"begins": token.prefix})


@transaction.atomic
def add_member(*, team: Team, username: str, role: Role, actor: User, now: datetime) -> User:
    """It gives somebody who has an account a role. Raises: PeopleRefused (unknown_person)."""
    user = User.objects.filter(username=username, is_active=True).first()
    if user is None:
        raise PeopleRefused(
            f"Nobody here is called {username}; give an e-mail address to make an account",
            "unknown_person",
        )
    if not Membership.objects.filter(user=user, team=team, role=role).exists():
        accounts.grant(user=user, team=team, role=role)
        _record_role("role.granted", user, team, role, actor, now)
    return user


@transaction.atomic
def remove_member(*, team: Team, user: User, role: Role, actor: User, now: datetime) -> None:
    """It takes a role away. Raises: PeopleRefused (not_a_member, last_admin)."""
    held = Membership.objects.select_for_update().filter(team=team)
    admins = [m.user_id for m in held if m.role == Role.ADMIN]
    if not held.filter(user=user, role=role).exists():
        raise PeopleRefused(f"{user.username} is no {role.label} of {team.name}", "not_a_member")
    if role is Role.ADMIN and admins == [user.pk]:
        raise PeopleRefused(
            f"{user.username} is the last admin of {team.name}; give somebody else the role first",
            "last_admin",
        )
    accounts.revoke(user=user, team=team, role=role)
    _record_role("role.revoked", user, team, role, actor, now)


def add_person(
    *, team: Team, username: str, email: str, role: Role, actor: User, now: datetime
) -> tuple[User, str]:
    """It makes an account with a role, and gives the path by which its person chooses a password.

    The path works once, for three days (PASSWORD_RESET_TIMEOUT).
    Raises: PeopleRefused (name_taken, name_invalid, email_invalid).
    """
    _validate(User.username_validator, username, "name_invalid")
    _validate(validate_email, email, "email_invalid")
    try:
        with transaction.atomic():
            user = User.objects.create_user(username, email)
            accounts.grant(user=user, team=team, role=role)
            _record_role("person.added", user, team, role, actor, now)
    except IntegrityError as taken:
        raise PeopleRefused(f"Somebody is called {username} already", "name_taken") from taken
    return user, welcome_path(user)


def add(
    *, team: Team, username: str, email: str, role: Role, actor: User, now: datetime
) -> tuple[User, str]:
    """It gives a role; with an address, to a person whose account it makes when there is none.

    The second value is the path of the account's welcome, "" where its person has a password.
    Raises as `add_member` and `add_person` do.
    """
    if email and not User.objects.filter(username=username).exists():
        return add_person(
            team=team, username=username, email=email, role=role, actor=actor, now=now
        )
    user = add_member(team=team, username=username, role=role, actor=actor, now=now)
    return user, "" if user.has_usable_password() else _welcome_again(user, actor)


def _welcome_again(user: User, actor: User) -> str:
    """A lost link is given anew, but not by an admin of another team, who could become them."""
    others = Team.objects.filter(members=user).exclude(
        pk__in=teams_of(actor, "team.manage").values("pk")
    )
    return "" if others.exists() else welcome_path(user)


def _validate(validator: Callable[[str], None], value: str, code: str) -> None:
    try:
        validator(value)
    except ValidationError as wrong:
        raise PeopleRefused(" ".join(wrong.messages), code) from wrong


def welcome_path(user: User) -> str:
    """Where a person chooses their password: signed, for once, for three days."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    return reverse("welcome", args=[uid, default_token_generator.make_token(user)])


def _record_role(verb: str, user: User, team: Team, role: Role, actor: User, now: datetime) -> None:
    evidence = {"person": user.username, "role": role.value, "team": team.slug}
    record(verb, user, actor=actor, now=now, team_id=team.pk, evidence=evidence)


def _tell_teams(
    verb: str, thing: DjangoModel, *, actor: User, now: datetime, evidence: dict[str, Any]
) -> None:
    """One event a team that the person works for: its admins must know which keys there are."""
    for team in Team.objects.filter(members=actor).distinct():
        record(verb, thing, actor=actor, now=now, team_id=team.pk, evidence=evidence)
