from typing import ClassVar

from django.conf import settings
from django.db import models

from apps.accounts.models import Team
from apps.notifications.lifecycle import DeliveryStatus


class Delivery(models.Model):
    """One mail to one person: written with the change that it tells of, sent afterwards."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="deliveries"
    )
    team = models.ForeignKey(
        Team, null=True, on_delete=models.CASCADE, related_name="+"
    )  # whose model it speaks of: their admins may read it; null: only superusers
    kind = models.CharField(max_length=60)  # "promotion.waiting": what a person may mute
    key = models.CharField(max_length=200)  # one fact, one mail: a second tick adds none
    subject = models.CharField(max_length=250)
    text = models.TextField()
    html = models.TextField()
    picture = models.BinaryField(null=True)  # PNG, shown in the HTML
    link = models.CharField(max_length=300)
    status = models.CharField(
        max_length=10,
        choices=[(s.value, s.value) for s in DeliveryStatus],
        default=DeliveryStatus.QUEUED,
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)
    not_before = models.DateTimeField()
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-pk"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "key"], name="delivery_once")
        ]

    def __str__(self) -> str:
        return self.subject


class Mute(models.Model):
    """A person does not want mails of this kind."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    kind = models.CharField(max_length=60)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "kind"], name="mute_once")]

    def __str__(self) -> str:
        return f"{self.user_id} mutes {self.kind}"
