from typing import Any

import factory
from factory.django import DjangoModelFactory

from apps.promotions.models import Approval, Promotion
from apps.registry.policy import EnvironmentPolicy, frozen_plan
from tests.factories.builds import BuildFactory
from tests.factories.registry import NOON
from tests.factories.serving import EnvironmentFactory


def rules() -> dict[str, Any]:
    policy = EnvironmentPolicy()
    return {**policy.model_dump(mode="json"), "rollout": frozen_plan(policy)}


class PromotionFactory(DjangoModelFactory[Promotion]):
    """A request that waits for one approval."""

    class Meta:
        model = Promotion

    build = factory.SubFactory(BuildFactory)
    version = factory.SelfAttribute("build.version")
    environment = factory.SubFactory(EnvironmentFactory)
    digest = factory.SelfAttribute("build.digest")
    policy_number = 1
    policy: Any = factory.LazyFunction(rules)
    status = "waiting"
    reason = "Waiting for 1 approval"
    created_at = NOON


class ApprovalFactory(DjangoModelFactory[Approval]):
    class Meta:
        model = Approval

    promotion = factory.SubFactory(PromotionFactory)
    answer = "approve"
    words = "The checks are good"
    digest = factory.SelfAttribute("promotion.digest")
    at = NOON
