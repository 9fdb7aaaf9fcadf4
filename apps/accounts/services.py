"""Verbs on people, teams and tokens."""

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.utils.text import slugify

from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Membership, Team, Token, User
from apps.core.errors import Refused

PREFIX = "portal_"
LONGEST = timedelta(days=366)


class TokenRefused(Refused):
    code = "token_refused"


def create_team(*, name: str) -> Team:
    return Team.objects.get_or_create(slug=slugify(name), defaults={"name": name})[0]


def grant(*, user: User, team: Team, role: Role) -> None:
    Membership.objects.get_or_create(user=user, team=team, role=role)


def revoke(*, user: User, team: Team, role: Role) -> None:
    Membership.objects.filter(user=user, team=team, role=role).delete()


@transaction.atomic
def issue_token(
    *, user: User, name: str, scopes: Iterable[str], expires_at: datetime, now: datetime
) -> tuple[Token, str]:
    """It makes a token and returns it with its key, which nobody can read again.

    Raises: TokenRefused for an unknown scope, for a scope that the signing token itself lacks,
    and for an expiry that is past or more than a year away.
    """
    wanted = frozenset(scopes)
    unknown = wanted - set(Scope)
    if unknown or not wanted:
        known = ", ".join(Scope)
        raise TokenRefused(f"Scopes must be among {known}; got {', '.join(sorted(unknown)) or 0}")
    if user.granted_scopes is not None and not wanted <= user.granted_scopes:
        raise TokenRefused("A token cannot give more than it has itself")
    if not now < expires_at <= now + LONGEST:
        raise TokenRefused("The expiry must lie in the future and within a year")
    key = PREFIX + secrets.token_urlsafe(32)
    token = Token.objects.create(
        user=user,
        name=name,
        prefix=key[:12],
        digest=digest_of(key),
        scopes=sorted(wanted),
        created_at=now,
        expires_at=expires_at,
    )
    return token, key


def revoke_token(*, token: Token, now: datetime) -> None:
    Token.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now)


def user_of_key(key: str, now: datetime) -> User | None:
    """It finds whom a key belongs to; None when it is unknown, expired or revoked."""
    token = Token.objects.usable(now).select_related("user").filter(digest=digest_of(key)).first()
    if token is None:
        return None
    if token.last_used_at is None or now - token.last_used_at > timedelta(minutes=1):
        Token.objects.filter(pk=token.pk).update(last_used_at=now)
    user = token.user
    user.granted_scopes = token.scope_set
    return user


def digest_of(key: str) -> str:
    """Keys are 256 random bits, so one round of SHA-256 is enough: there is nothing to guess."""
    return hashlib.sha256(key.encode()).hexdigest()
