from datetime import datetime
from typing import ClassVar

from django.contrib.auth.models import AbstractUser
from django.db import models

from apps.accounts.lifecycle import Role, Scope


class User(AbstractUser):
    """A person, or a program that acts for a team."""

    granted_scopes: frozenset[str] | None = None  # set when a token signed the request


class Team(models.Model):
    """Who owns models. Rights are given per team."""

    name = models.CharField(max_length=100, unique=True)
    slug = models.SlugField(max_length=60, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    members = models.ManyToManyField(User, through="Membership", related_name="teams")

    def __str__(self) -> str:
        return self.name

    @property
    def owning_team_id(self) -> int:
        return self.pk


class Membership(models.Model):
    """One role of one person in one team; a person may have several."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    team = models.ForeignKey(Team, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=[(r.value, r.label) for r in Role])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "team", "role"], name="membership_once"),
            models.CheckConstraint(
                condition=models.Q(role__in=[r.value for r in Role]), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role} in {self.team_id}"


class TokenQuerySet(models.QuerySet["Token"]):
    def usable(self, now: datetime) -> "TokenQuerySet":
        return self.filter(revoked_at=None, expires_at__gt=now, user__is_active=True)


class Token(models.Model):
    """A key for programs. Only its hash is kept; it was shown once."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12)  # so that a person can tell which key it was
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = TokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def scope_set(self) -> frozenset[str]:
        return frozenset(scope for scope in self.scopes if scope in set(Scope))


class IdempotentReply(models.Model):
    """What a POST with an Idempotency-Key answered, so that sending it again does nothing twice."""

    caller = models.CharField(max_length=64)  # digest of the token or session that signed it
    key = models.CharField(max_length=200)
    request_digest = models.CharField(max_length=64)  # method, path and body
    status = models.PositiveSmallIntegerField(null=True)  # null: the first one is still running
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["caller", "key"], name="idempotency_key_once")
        ]

    def __str__(self) -> str:
        return self.key
