from factory.django import DjangoModelFactory

from apps.validation.models import CheckResult, ValidationRun
from tests.factories.builds import BuildFactory
from tests.factories.declared import LazyFunction, SelfAttribute, Sequence, SubFactory
from tests.factories.registry import NOON
from tests.factories.serving import EnvironmentFactory


class ValidationRunFactory(DjangoModelFactory[ValidationRun]):
    """A run whose checks passed."""

    class Meta:
        model = ValidationRun

    build = SubFactory(BuildFactory)
    version = SelfAttribute("build.version")
    environment = SubFactory(EnvironmentFactory)
    status = "done"
    verdict = "pass"
    created_at = NOON
    finished_at = NOON


class CheckResultFactory(DjangoModelFactory[CheckResult]):
    class Meta:
        model = CheckResult

    run = SubFactory(ValidationRunFactory)
    number = Sequence(lambda n: n % 30_000)
    gate = "metric_threshold"
    title = "roc_auc at least 0.65"
    verdict = "pass"
    summary = "roc_auc is 0.7134 on 24,391 rows, 0.65 is needed"
    evidence = LazyFunction(
        lambda: {"metric": "roc_auc", "value": 0.7134, "at_least": 0.65, "rows": 24_391}
    )
    seconds = 1.9
