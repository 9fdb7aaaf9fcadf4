from typing import Any

from factory.django import DjangoModelFactory

from apps.explorer.models import Replay, Search
from tests.factories.declared import LazyFunction, SelfAttribute, SubFactory
from tests.factories.registry import NOON
from tests.factories.serving import EndpointFactory, RevisionFactory

QUESTION: dict[str, Any] = {
    "since": "2030-01-01T00:00:00+00:00", "until": "2030-01-02T00:00:00+00:00", "revisions": [],
    "shadow": "no", "status": "", "latency_from_ms": None, "latency_to_ms": None,
    "request_id": "", "caller": "", "error": "", "conditions": [], "order": "newest",
    "limit": 1000,
}  # fmt: skip


class SearchFactory(DjangoModelFactory[Search]):
    """A search that has ended, and whose result went."""

    class Meta:
        model = Search

    endpoint = SubFactory(EndpointFactory)
    question = LazyFunction(lambda: dict(QUESTION))
    state = "done"
    files_total = files_done = 2
    found = shown = 3
    created_at = NOON
    finished_at = NOON


class ReplayFactory(DjangoModelFactory[Replay]):
    """A replay of one request that has ended, and whose result went."""

    class Meta:
        model = Replay

    revision = SubFactory(RevisionFactory)
    endpoint = SelfAttribute("revision.endpoint")
    request_id = "asked"
    state = "done"
    total = done = equal = 1
    created_at = NOON
    finished_at = NOON
