from factory.django import DjangoModelFactory

from apps.baselines.models import Baseline
from tests.factories.builds import BuildFactory
from tests.factories.declared import SelfAttribute, SubFactory
from tests.factories.registry import NOON


class BaselineFactory(DjangoModelFactory[Baseline]):
    """One that failed; what a frozen one holds only the services write."""

    class Meta:
        model = Baseline

    build = SubFactory(BuildFactory)
    version = SelfAttribute("build.version")
    number = 1
    origin = "reference"
    state = "failed"
    reason = "The data set reference has lost its file; register it again"
    created_at = NOON
