from typing import Any

from rest_framework import generics

from apps.accounts.selectors import require
from apps.notifications.models import Delivery
from apps.notifications.serializers import DeliverySerializer


class Mails(generics.ListAPIView[Delivery]):
    """Outgoing mail, newest first."""

    serializer_class = DeliverySerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "mail.view")
        return Delivery.objects.select_related("user")
