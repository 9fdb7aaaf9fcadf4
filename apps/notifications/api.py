from typing import Any

from rest_framework import generics

from apps.accounts.models import User
from apps.accounts.selectors import require
from apps.notifications import selectors
from apps.notifications.models import Delivery
from apps.notifications.serializers import DeliverySerializer


class Mails(generics.ListAPIView[Delivery]):
    """Outgoing mail, newest first."""

    serializer_class = DeliverySerializer

    def get_queryset(self) -> Any:
        require(self.request.user, "mail.view")
        assert isinstance(self.request.user, User)
        return selectors.visible_to(self.request.user)
