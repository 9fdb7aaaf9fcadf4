from factory.django import DjangoModelFactory

from apps.rollouts.models import Observation, Rollout
from tests.factories.declared import LazyFunction, SelfAttribute, SubFactory
from tests.factories.promotions import PromotionFactory, rules
from tests.factories.registry import NOON
from tests.factories.serving import RevisionFactory


class RolloutFactory(DjangoModelFactory[Rollout]):
    """A rollout at its first step, 10 % on the candidate."""

    class Meta:
        model = Rollout

    candidate = SubFactory(RevisionFactory)
    endpoint = SelfAttribute("candidate.endpoint")
    stable = SelfAttribute("endpoint.stable")
    promotion = SubFactory(
        PromotionFactory,
        build=SelfAttribute("..candidate.build"),
        environment=SelfAttribute("..endpoint.environment"),
        status="approved",
    )
    plan = LazyFunction(lambda: rules()["rollout"])
    phase = "progressing"
    step = 0
    weight = 100
    reason = "10 % of traffic: 40 of 100 requests to the candidate"
    reached_at = NOON
    created_at = NOON


class ObservationFactory(DjangoModelFactory[Observation]):
    class Meta:
        model = Observation

    rollout = SubFactory(RolloutFactory)
    at = NOON
    phase = "progressing"
    step = 0
    weight = 100
    reason = "10 % of traffic"
