import factory
from factory.django import DjangoModelFactory

from apps.notifications.models import Delivery
from tests.factories.accounts import UserFactory
from tests.factories.registry import NOON


class DeliveryFactory(DjangoModelFactory[Delivery]):
    """A mail that waits to be sent."""

    class Meta:
        model = Delivery

    user = factory.SubFactory(UserFactory)
    kind = "promotion.waiting"
    key = factory.Sequence(lambda n: f"promotion:{n}:waiting")
    subject = "flight-delay v2 waits for you"
    text = "It waits for you.\n"
    html = "<p>It waits for you.</p>"
    link = "http://127.0.0.1:8000/promotions/1"
    not_before = NOON
    created_at = NOON
