"""A model in the middle of its life, as rows: what every page has something to show of."""

from dataclasses import dataclass

from apps.builds.models import Build
from apps.notifications.models import Delivery
from apps.promotions.models import Promotion
from apps.registry.models import Model, Version
from apps.rollouts.models import Rollout
from apps.serving.models import Endpoint
from apps.validation.models import ValidationRun
from tests.factories.audit import EventFactory
from tests.factories.builds import BuildFactory
from tests.factories.jobs import JobFactory, JobLineFactory
from tests.factories.monitoring import RollupFactory
from tests.factories.promotions import PromotionFactory
from tests.factories.registry import (
    NOON,
    DatasetFactory,
    ModelFactory,
    PolicyFactory,
    RunInputFactory,
    VersionFactory,
)
from tests.factories.rollouts import ObservationFactory, RolloutFactory
from tests.factories.serving import EndpointFactory, EnvironmentFactory, RevisionFactory, serve
from tests.factories.validation import CheckResultFactory, ValidationRunFactory
from tests.people import Cast

TILES = [
    {"metric": "error_rate", "unit": "fraction", "stable": 0.004, "candidate": 0.041,
     "difference": 0.037, "interval": [0.02, 0.05], "tolerance": 0.005, "verdict": "fail",
     "summary": "errors 4.1 % against 0.4 %"},
    {"metric": "latency_mean", "unit": "ms", "stable": 12.0, "candidate": 12.6,
     "difference": 1.05, "interval": None, "tolerance": 1.5, "verdict": "pass",
     "summary": "latency 12.6 ms against 12 ms"},
]  # fmt: skip


@dataclass(frozen=True)
class Stage:
    model: Model
    version: Version  # serves in production
    candidate: Version  # on its way there
    build: Build
    run: ValidationRun
    waiting: Promotion  # asked by the owner for staging
    endpoint: Endpoint
    rollout: Rollout
    mail: Delivery

    @property
    def pages(self) -> dict[str, str]:
        """The address of each page about this model."""
        name = self.model.name
        return {
            "model": f"/models/{name}",
            "version": f"/models/{name}/versions/{self.version.number}",
            "candidate": f"/models/{name}/versions/{self.candidate.number}",
            "policy": f"/models/{name}/policy",
            "build": f"/builds/{self.build.pk}",
            "log": f"/jobs/{self.build.job_id}/lines",
            "validation": f"/validations/{self.run.pk}",
            "promotion": f"/promotions/{self.waiting.pk}",
            "rollout": f"/rollouts/{self.rollout.pk}",
            "endpoint": f"/endpoints/production/{name}",
            "monitoring": f"/endpoints/production/{name}/monitoring",
            "health": f"/endpoints/production/{name}/health",
            "drift": f"/endpoints/production/{name}/drift",
            "chart-table": f"/endpoints/{self.endpoint.pk}/charts/latency/table",
        }


LISTS = ("/", "/models", "/promotions", "/rollouts", "/endpoints", "/events", "/search?q=delay")


def stage(cast: Cast, name: str = "flight-delay") -> Stage:
    staging = EnvironmentFactory.create(name="staging")
    production = EnvironmentFactory.create(name="production")
    model = ModelFactory.create(name=name, team=cast.team)
    policy = PolicyFactory.create(model=model)
    dataset = DatasetFactory.create(model=model)
    versions, builds = [], []
    for number in (1, 2, 3):
        version = VersionFactory.create(model=model, number=number, registered_by=cast.owner)
        RunInputFactory.create(version=version)
        job = JobFactory.create(owning_team_id=cast.team.pk, subject_id=0)
        JobLineFactory.create(job=job)
        build = BuildFactory.create(version=version, job=job)
        JobFactory._meta.model.objects.filter(pk=job.pk).update(subject_id=build.pk)
        Version.objects.filter(pk=version.pk).update(digest=build.digest)
        versions.append(version)
        builds.append(build)
    run = ValidationRunFactory.create(
        build=builds[2], environment=staging, dataset=dataset, policy=policy
    )
    CheckResultFactory.create(run=run, number=1)
    endpoint = EndpointFactory.create(model=model, environment=production)
    stable = RevisionFactory.create(endpoint=endpoint, number=1, build=builds[0])
    candidate = RevisionFactory.create(endpoint=endpoint, number=2, build=builds[1])
    serve(endpoint, stable)
    rollout = RolloutFactory.create(
        candidate=candidate,
        endpoint=endpoint,
        stable=stable,
        evidence={"verdict": "fail", "reason": "errors 4.1 % against 0.4 %", "tiles": TILES,
                  "candidate_requests": 900, "stable_requests": 8100},
    )  # fmt: skip
    ObservationFactory.create(rollout=rollout)
    RollupFactory.create(revision=stable)
    EventFactory.create(
        team_id=cast.team.pk, model_name=name, environment="production", object_id=endpoint.pk
    )
    mail = Delivery.objects.create(
        user=cast.approver, kind="promotion.waiting", key=f"waiting:{name}",
        subject=f"Approve {name} v3?", text="Ada asks", html="", link="/", status="kept",
        not_before=NOON, created_at=NOON,
    )  # fmt: skip
    waiting = PromotionFactory.create(
        build=builds[2], environment=staging, requester=cast.owner, validation=run
    )
    return Stage(model, versions[0], versions[1], builds[0], run, waiting, endpoint, rollout, mail)
