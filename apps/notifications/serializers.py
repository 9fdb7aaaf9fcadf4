from rest_framework import serializers

from apps.notifications.models import Delivery


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    to = serializers.EmailField(source="user.email")

    class Meta:
        model = Delivery
        fields = ("id", "to", "kind", "subject", "text", "link", "status", "error", "created_at",
                  "ended_at")  # fmt: skip
        read_only_fields = fields
