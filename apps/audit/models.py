from typing import ClassVar

from django.conf import settings
from django.db import models


class Event(models.Model):
    """One thing that happened: who, what, on what, when, why, with which evidence. Append only."""

    at = models.DateTimeField()
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )  # null: the product itself
    actor_name = models.CharField(max_length=150)
    verb = models.CharField(max_length=60)  # "promotion.approved"
    object_type = models.CharField(max_length=40)
    object_id = models.BigIntegerField()
    object_label = models.CharField(max_length=200)
    url = models.CharField(max_length=300, blank=True)
    team_id = models.BigIntegerField(null=True)  # who may read it; null: everybody signed in
    model_name = models.CharField(max_length=200, blank=True)
    environment = models.CharField(max_length=60, blank=True)
    reason = models.TextField(blank=True)
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["-at", "-pk"]
        indexes: ClassVar = [
            models.Index(fields=["object_type", "object_id", "at"], name="event_object"),
            models.Index(fields=["model_name", "environment", "at"], name="event_model"),
            models.Index(fields=["verb", "at"], name="event_verb"),
            models.Index(fields=["at"], name="event_at"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.verb} {self.object_label}"
