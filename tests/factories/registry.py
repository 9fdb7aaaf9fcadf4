from datetime import UTC, datetime

from factory.django import DjangoModelFactory

from apps.accounts.models import Team
from apps.registry import policy
from apps.registry.models import Dataset, Model, Policy, RunInput, Version
from tests.factories.declared import LazyAttribute, LazyFunction, Sequence, SubFactory

NOON = datetime(2030, 1, 7, 12, 0, tzinfo=UTC)


class TeamFactory(DjangoModelFactory[Team]):
    class Meta:
        model = Team
        django_get_or_create = ("slug",)

    name = "Flights"
    slug = "flights"


class ModelFactory(DjangoModelFactory[Model]):
    class Meta:
        model = Model

    name = Sequence(lambda n: f"model-{n}")
    team = SubFactory(TeamFactory)
    created_at = NOON


class PolicyFactory(DjangoModelFactory[Policy]):
    class Meta:
        model = Policy

    model = SubFactory(ModelFactory)
    number = 1
    text = policy.DEFAULT_TEXT
    document = LazyAttribute(lambda row: policy.parse(row.text).model_dump(mode="json"))
    created_at = NOON


class VersionFactory(DjangoModelFactory[Version]):
    class Meta:
        model = Version

    model = SubFactory(ModelFactory)
    number = Sequence(lambda n: n + 1)
    run_id = Sequence(lambda n: f"{n:032x}")
    source = LazyAttribute(lambda row: f"models:/{row.model.name}/{row.number}")
    registered_at = NOON
    seen_at = NOON
    seen_by = "webhook"
    run = LazyFunction(
        lambda: {"name": "careful-owl-1", "experiment_id": "1", "metrics": {"auc": 0.71},
                 "params": {"penalty": "l2"}, "tags": {}, "commit": "", "script": "train.py"}
    )  # fmt: skip


class DatasetFactory(DjangoModelFactory[Dataset]):
    class Meta:
        model = Dataset

    model = SubFactory(ModelFactory)
    name = "holdout"
    role = "holdout"
    fingerprint = Sequence(lambda n: f"sha256:{n:064x}")
    path = "/nowhere.parquet"
    rows = 24_391
    columns = LazyFunction(lambda: [{"name": "late", "type": "bool"}])
    label_column = "late"
    created_at = NOON


class RunInputFactory(DjangoModelFactory[RunInput]):
    class Meta:
        model = RunInput

    version = SubFactory(VersionFactory)
    name = "nycflights13-2013H1"
    digest = "1a2b3c4d"
    context = "training"
