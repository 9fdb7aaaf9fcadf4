from typing import Any

import factory
from factory.django import DjangoModelFactory

from apps.rollouts.models import Observation, Rollout
from tests.factories.promotions import PromotionFactory, rules
from tests.factories.registry import NOON
from tests.factories.serving import RevisionFactory


class RolloutFactory(DjangoModelFactory[Rollout]):
    """A rollout at its first step, 10 % on the candidate."""

    class Meta:
        model = Rollout

    candidate = factory.SubFactory(RevisionFactory)
    endpoint = factory.SelfAttribute("candidate.endpoint")
    stable = factory.SelfAttribute("endpoint.stable")
    promotion = factory.SubFactory(
        PromotionFactory,
        build=factory.SelfAttribute("..candidate.build"),
        environment=factory.SelfAttribute("..endpoint.environment"),
        status="approved",
    )
    plan: Any = factory.LazyFunction(lambda: rules()["rollout"])
    phase = "progressing"
    step = 0
    weight = 100
    reason = "10 % of traffic: 40 of 100 requests to the candidate"
    reached_at = NOON
    created_at = NOON


class ObservationFactory(DjangoModelFactory[Observation]):
    class Meta:
        model = Observation

    rollout = factory.SubFactory(RolloutFactory)
    at = NOON
    phase = "progressing"
    step = 0
    weight = 100
    reason = "10 % of traffic"
