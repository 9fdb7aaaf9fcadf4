from typing import Any

import numpy as np
from factory.django import DjangoModelFactory

from apps.monitoring import histogram, windows
from apps.monitoring.models import Rollup, Slice
from apps.monitoring.services import rollups
from apps.monitoring.sums import WIDTH_SECONDS, Sums
from tests.factories.declared import LazyAttribute, Sequence, SubFactory
from tests.factories.registry import NOON
from tests.factories.serving import EndpointFactory, RevisionFactory


class RollupFactory(DjangoModelFactory[Rollup]):
    """Ten seconds of one revision, in every tier; each answered request took `ms` milliseconds."""

    class Meta:
        model = Rollup

    class Params:
        ms = 12.0

    revision = SubFactory(RevisionFactory)
    origin = Rollup.From.GATEWAY
    at = NOON
    width_seconds = WIDTH_SECONDS
    requests = 500
    latency_count = LazyAttribute(lambda row: row.requests)
    log_latency_sum = LazyAttribute(lambda row: row.latency_count * float(np.log(row.ms)))
    log_latency_square_sum = LazyAttribute(
        lambda row: row.latency_count * float(np.log(row.ms)) ** 2
    )
    latency_bins = LazyAttribute(
        lambda row: histogram.pack(histogram.from_us(np.full(row.latency_count, row.ms * 1000)))
    )

    @classmethod
    def _create(cls, model_class: type[Rollup], *args: Any, **values: Any) -> Rollup:
        at = windows.down(values.pop("at"), values.pop("width_seconds"))
        revision, origin = values.pop("revision"), values.pop("origin")
        bins = histogram.unpack(values.pop("latency_bins"))
        rollups.add({(revision.pk, int(at.timestamp())): Sums(bins=bins, **values)}, origin)
        return Rollup.objects.get(
            revision=revision, origin=origin, at=at, width_seconds=WIDTH_SECONDS
        )


class SliceFactory(DjangoModelFactory[Slice]):
    """Rows from one airport."""

    class Meta:
        model = Slice

    endpoint = SubFactory(EndpointFactory)
    name = Sequence(lambda n: f"slice {n}")
    condition = LazyAttribute(lambda _: [{"column": "in.origin", "op": "eq", "value": "JFK"}])
    created_at = NOON
