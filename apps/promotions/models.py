from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse

from apps.builds.models import Build
from apps.promotions.lifecycle import NEXT, Answer, Rules, Status
from apps.registry.models import Version
from apps.serving.models import Environment
from apps.validation.models import ValidationRun

UNFINISHED = [status.value for status in Status if not status.is_final]


class PromotionQuerySet(models.QuerySet["Promotion"]):
    def unfinished(self) -> "PromotionQuerySet":
        return self.filter(status__in=UNFINISHED)

    def on_its_way(self) -> "PromotionQuerySet":
        """Somebody may still decide it, or a rollout may still take it up or moves it."""
        return self.filter(Q(status__in=UNFINISHED) | Q(status=Status.APPROVED, closed_at=None))


class Promotion(models.Model):
    """The request that a version enter an environment."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="promotions")
    build = models.ForeignKey(Build, on_delete=models.PROTECT, related_name="promotions")
    environment = models.ForeignKey(
        Environment, on_delete=models.PROTECT, related_name="promotions"
    )
    digest = models.CharField(max_length=80)  # of the bundle that was asked about
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )  # null: the policy asks by itself
    words = models.TextField(blank=True)
    policy_number = models.PositiveIntegerField(null=True)
    policy = models.JSONField(default=dict)  # the environment's part of it, as it was then
    validation = models.ForeignKey(
        ValidationRun, null=True, on_delete=models.PROTECT, related_name="promotions"
    )
    status = models.CharField(
        max_length=10, choices=[(s.value, s.value) for s in Status], default=Status.CHECKING
    )
    reason = models.TextField(blank=True)
    revision = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    # Written for the rollout that took it up, so that the next request knows what came of it.
    closed_at = models.DateTimeField(null=True)  # its rollout ended, either way
    served_at = models.DateTimeField(null=True)  # its rollout brought it to all traffic

    objects = PromotionQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["version", "environment"],
                condition=Q(status__in=["checking", "waiting"]),
                name="promotion_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"promotion of {self.version} to {self.environment}"

    def get_absolute_url(self) -> str:
        return reverse("promotion", args=[self.pk])

    @property
    def owning_team_id(self) -> int:
        return self.version.owning_team_id

    @property
    def asker_id(self) -> int | None:
        """Who may not decide it alone: who asked, or the author where the policy asked for them."""
        return self.requester_id or self.version.registered_by_id

    @property
    def rules(self) -> Rules:
        people = self.policy.get("approvals", {})
        return Rules(
            approvals=people.get("required", 0),
            requester_may_approve=people.get("requester_may_approve", False),
            expires_after_hours=people.get("expires_after_hours", 168),
        )

    def move(self, to: Status, **changes: object) -> bool:
        """Take one step along the table. False: somebody else wrote since this row was read."""
        came_from = Status(self.status)
        if to is not came_from and to not in NEXT[came_from]:
            raise ValueError(f"A {came_from} promotion cannot become {to}")
        rows = type(self).objects.filter(pk=self.pk, status=came_from, revision=self.revision)
        won = rows.update(status=to, revision=F("revision") + 1, **changes) == 1
        if won:
            self.refresh_from_db()
        return won


class Approval(models.Model):
    """One person's approve or reject, with words and what they looked at."""

    promotion = models.ForeignKey(Promotion, on_delete=models.CASCADE, related_name="approvals")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    answer = models.CharField(max_length=10, choices=[(a.value, a.value) for a in Answer])
    words = models.TextField(blank=True)
    digest = models.CharField(max_length=80)
    at = models.DateTimeField()

    class Meta:
        ordering: ClassVar = ["pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["promotion", "user"], name="approval_once")
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.answer}s {self.promotion}"
