from factory.django import DjangoModelFactory

from apps.audit.models import Event
from tests.factories.declared import LazyFunction
from tests.factories.registry import NOON


class EventFactory(DjangoModelFactory[Event]):
    class Meta:
        model = Event

    at = NOON
    actor_name = "portal"
    verb = "traffic.changed"
    object_type = "endpoint"
    object_id = 1
    object_label = "flight-delay in production"
    evidence = LazyFunction(
        lambda: {"weights": {"1": 100.0}, "digests": {"1": f"sha256:{'1' * 64}"}}
    )
