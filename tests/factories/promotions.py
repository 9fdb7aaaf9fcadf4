from typing import Any

from factory.django import DjangoModelFactory

from apps.promotions.models import Approval, Promotion
from apps.registry.policy import EnvironmentPolicy, frozen_plan
from tests.factories.builds import BuildFactory
from tests.factories.declared import LazyFunction, SelfAttribute, SubFactory
from tests.factories.registry import NOON
from tests.factories.serving import EnvironmentFactory


def rules() -> dict[str, Any]:
    policy = EnvironmentPolicy()
    return {**policy.model_dump(mode="json"), "rollout": frozen_plan(policy)}


class PromotionFactory(DjangoModelFactory[Promotion]):
    """A request that waits for one approval."""

    class Meta:
        model = Promotion

    build = SubFactory(BuildFactory)
    version = SelfAttribute("build.version")
    environment = SubFactory(EnvironmentFactory)
    digest = SelfAttribute("build.digest")
    policy_number = 1
    policy = LazyFunction(rules)
    status = "waiting"
    reason = "Waiting for 1 approval"
    created_at = NOON


class ApprovalFactory(DjangoModelFactory[Approval]):
    class Meta:
        model = Approval

    promotion = SubFactory(PromotionFactory)
    answer = "approve"
    words = "The checks are good"
    digest = SelfAttribute("promotion.digest")
    at = NOON
