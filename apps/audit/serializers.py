from rest_framework import serializers

from apps.audit.models import Event


class EventSerializer(serializers.ModelSerializer[Event]):
    class Meta:
        model = Event
        fields = ("id", "at", "actor_name", "verb", "object_type", "object_id", "object_label",
                  "url", "model_name", "environment", "reason", "evidence")  # fmt: skip
        read_only_fields = fields
