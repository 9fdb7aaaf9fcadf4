from typing import Any

from factory.django import DjangoModelFactory

from apps.serving.models import Endpoint, Environment, Revision
from tests.factories.builds import BuildFactory
from tests.factories.declared import LazyAttribute, SelfAttribute, Sequence, SubFactory
from tests.factories.registry import NOON, ModelFactory


class EnvironmentFactory(DjangoModelFactory[Environment]):
    class Meta:
        model = Environment
        django_get_or_create = ("name",)

    name = "production"
    order = LazyAttribute(lambda row: {"staging": 1, "production": 2}.get(row.name, 3))


class EndpointFactory(DjangoModelFactory[Endpoint]):
    class Meta:
        model = Endpoint

    model = SubFactory(ModelFactory)
    environment = SubFactory(EnvironmentFactory)
    name = LazyAttribute(lambda row: row.model.name)
    created_at = NOON


class RevisionFactory(DjangoModelFactory[Revision]):
    """A revision that runs and is ready."""

    class Meta:
        model = Revision

    endpoint = SubFactory(EndpointFactory)
    number = Sequence(lambda n: n + 1)
    build = SubFactory(BuildFactory)
    version = SelfAttribute("build.version")
    replicas = 2
    ready_replicas = 2
    state = "ready"
    created_at = NOON
    seen_at = NOON


def serve(endpoint: Endpoint, revision: Revision, **traffic: Any) -> None:
    """It writes that one revision is stable and takes all traffic, as the gateway confirmed."""
    endpoint.stable = revision
    endpoint.traffic_wanted = endpoint.traffic_seen = {str(revision.pk): 1000}
    endpoint.traffic_changed_at = endpoint.traffic_seen_at = NOON
    for field, value in traffic.items():
        setattr(endpoint, field, value)
    endpoint.save()
