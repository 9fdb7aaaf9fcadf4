"""One team with one row of everything that it can own, all of it below one model."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apps.accounts import services as accounts
from apps.accounts.lifecycle import Role, Scope
from apps.accounts.models import Team, Token, User
from apps.builds.models import Build
from apps.explorer.models import Replay, Search
from apps.incidents.models import Incident, Watch
from apps.jobs.models import Job
from apps.monitoring.models import Slice
from apps.notifications.models import Delivery
from apps.promotions.models import Promotion
from apps.registry.models import Alias, Dataset, Model, Version
from apps.rollouts.models import Rollout
from apps.serving.models import Endpoint
from apps.validation.models import ValidationRun
from tests.factories.accounts import member
from tests.factories.audit import EventFactory
from tests.factories.baselines import BaselineFactory
from tests.factories.builds import BuildFactory
from tests.factories.explorer import ReplayFactory, SearchFactory
from tests.factories.incidents import AlertFactory, IncidentFactory, IncidentNoteFactory
from tests.factories.jobs import JobFactory, JobLineFactory
from tests.factories.monitoring import RollupFactory, SliceFactory
from tests.factories.notifications import DeliveryFactory
from tests.factories.promotions import PromotionFactory
from tests.factories.registry import (
    NOON,
    DatasetFactory,
    PolicyFactory,
    RunInputFactory,
    TeamFactory,
    VersionFactory,
)
from tests.factories.rollouts import ObservationFactory, RolloutFactory
from tests.factories.serving import EndpointFactory, EnvironmentFactory, RevisionFactory, serve
from tests.factories.validation import CheckResultFactory, ValidationRunFactory

NAME = "secret-flights"  # in every row that a person can read, so that a leak is seen


@dataclass(frozen=True)
class Everything:
    team: Team
    owner: User  # every role in the team; the token and the mail are theirs
    viewer: User
    token: Token
    model: Model
    version: Version
    dataset: Dataset
    job: Job
    build: Build
    endpoint: Endpoint
    validation: ValidationRun
    promotion: Promotion
    rollout: Rollout
    mail: Delivery
    search: Search
    replay: Replay
    incident: Incident
    watch: Watch
    slice: Slice


def everything() -> Everything:
    team = TeamFactory.create(name="Flights", slug="flights")
    owner = member(team, username=f"{NAME}-owner")
    model = PolicyFactory.create(model__name=NAME, model__team=team).model
    old, version = (VersionFactory.create(model=model, number=number) for number in (1, 2))
    RunInputFactory.create(version=version, name=NAME)
    Alias.objects.create(model=model, name="production", wanted=1, changed_at=NOON)
    job = JobFactory.create(owning_team_id=team.pk, status="queued", progress=NAME)
    JobLineFactory.create(job=job, text=NAME)
    served, build = BuildFactory.create(version=old), BuildFactory.create(version=version, job=job)
    Job.objects.filter(pk=job.pk).update(subject_id=build.pk)
    BaselineFactory.create(build=build)
    staging, production = (
        EnvironmentFactory.create(name=name) for name in ("staging", "production")
    )
    endpoint = EndpointFactory.create(model=model, environment=production)
    stable, candidate = (
        RevisionFactory.create(endpoint=endpoint, build=built) for built in (served, build)
    )
    serve(endpoint, stable)
    RollupFactory.create(revision=stable)
    run = ValidationRunFactory.create(build=build, environment=staging)
    CheckResultFactory.create(run=run)
    rollout = RolloutFactory.create(candidate=candidate)
    ObservationFactory.create(rollout=rollout)
    incident = IncidentFactory.create(endpoint=endpoint, served=stable, title=NAME)
    alert = AlertFactory.create(incident=incident, words=NAME)
    IncidentNoteFactory.create(incident=incident, author=owner, text=NAME)
    EventFactory.create(team_id=team.pk, model_name=NAME, object_label=NAME)
    return Everything(
        team=team,
        owner=owner,
        viewer=member(team, Role.VIEWER),
        token=_token(owner),
        model=model,
        version=version,
        dataset=DatasetFactory.create(model=model, name=NAME),
        job=job,
        build=build,
        endpoint=endpoint,
        validation=run,
        promotion=PromotionFactory.create(build=build, environment=staging, validation=run),
        rollout=rollout,
        mail=DeliveryFactory.create(user=owner, team=team, subject=NAME),
        search=SearchFactory.create(endpoint=endpoint, asked_by=owner, reason=NAME),
        replay=ReplayFactory.create(revision=candidate, asked_by=owner, reason=NAME),
        incident=incident,
        watch=alert.watch,
        slice=SliceFactory.create(endpoint=endpoint, name=NAME),
    )


def _token(user: User) -> Token:
    now = datetime.now(UTC)
    token, _ = accounts.issue_token(
        user=user, name=NAME, scopes=[Scope.READ], expires_at=now + timedelta(days=1), now=now
    )
    return token
