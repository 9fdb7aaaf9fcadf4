"""It brings versions to the point where somebody may ask that they enter an environment."""

from datetime import datetime

from apps.accounts.models import User
from apps.audit.models import Event
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.notifications.models import Delivery
from apps.promotions import services
from apps.promotions.models import Promotion
from apps.registry.lifecycle import Source
from apps.registry.models import Model, Version
from apps.registry.services import policies
from apps.serving.models import Environment, Revision
from apps.serving.services import wishes
from apps.validation.lifecycle import RunStatus, Verdict
from apps.validation.models import CheckResult
from tests.people import Cast

POLICY = """
version: 1
environments:
  staging:
    enter: automatic
    approvals: {required: 0}
    rollout: {steps: [{weight: 100, hold_seconds: 0, analysis: false}]}
  production:
    after: staging
    gates: [{gate: schema_compatible}]
    approvals: {required: 1, expires_after_hours: 24}
    rollout:
      steps:
        - {weight: 10, hold_seconds: 60}
        - {weight: 50, hold_seconds: 60}
        - {weight: 100, hold_seconds: 0}
"""


def a_model(cast: Cast, now: datetime, policy: str = POLICY, name: str = "flight-delay") -> Model:
    model = Model.objects.create(name=name, team=cast.team, created_at=now)
    policies.put_policy(model=model, text=policy, actor=cast.admin, now=now)
    return model


def environment(name: str) -> Environment:
    wishes.ensure_environments()
    return Environment.objects.get(name=name)


def a_version(model: Model, cast: Cast, now: datetime, number: int = 1) -> Version:
    return Version.objects.create(
        model=model,
        number=number,
        source=f"models:/m-{number}",
        registered_at=now,
        registered_by=cast.owner,
        seen_at=now,
        seen_by=Source.SWEEP,
    )


def built(version: Version, now: datetime, digest: str = "") -> Build:
    """It is built, once more where it was built before."""
    number = version.builds.count() + 1
    build = Build.objects.create(
        version=version,
        number=number,
        status=BuildStatus.SUCCEEDED,
        digest=digest or f"sha256:v{version.number}b{number}",
        created_at=now,
        finished_at=now,
    )
    version.digest = build.digest
    version.save(update_fields=["digest"])
    return build


def serves(build: Build, where: str, now: datetime) -> Revision:
    """It carries all traffic there, as if a rollout had brought it in."""
    endpoint = wishes.ensure_endpoint(
        model=build.version.model, environment=environment(where), now=now
    )
    revision = wishes.deploy(endpoint=endpoint, build=build, replicas=1, now=now)
    wishes.set_traffic(
        endpoint=endpoint, weights={revision.pk: 1000}, actor=None, reason="stage", now=now
    )
    wishes.set_stable(endpoint=endpoint, revision=revision, now=now)
    return revision


def asked(version: Version, cast: Cast, now: datetime, words: str = "") -> Promotion:
    """The owner asks for production, where it served in staging already."""
    return services.request(
        version=version,
        environment=environment("production"),
        requester=cast.owner,
        words=words,
        now=now,
    )


def checked(
    promotion: Promotion, verdict: Verdict, now: datetime, summary: str = "12 of 12 columns"
) -> None:
    """Its validation ends with one check of this verdict."""
    run = promotion.validation
    assert run is not None
    CheckResult.objects.create(
        run=run, number=1, gate="schema_compatible", title="Schema", verdict=verdict,
        summary=summary, seconds=0.1,
    )  # fmt: skip
    run.status, run.verdict, run.finished_at = RunStatus.DONE, verdict, now
    run.save(update_fields=["status", "verdict", "finished_at"])


def waiting(cast: Cast, now: datetime, number: int = 2, policy: str = POLICY) -> Promotion:
    """v1 serves in production; the owner asked for this version and its checks passed."""
    model = a_model(cast, now, policy)
    first = built(a_version(model, cast, now, 1), now)
    serves(first, "production", now)
    version = a_version(model, cast, now, number)
    serves(built(version, now), "staging", now)
    promotion = asked(version, cast, now, "better on the holdout")
    checked(promotion, Verdict.PASS, now)
    services.tick(promotion, now=now)
    assert promotion.status == "waiting"
    return promotion


def verbs(promotion: Promotion) -> list[str]:
    events = Event.objects.filter(object_type="promotion", object_id=promotion.pk).order_by("pk")
    return list(events.values_list("verb", flat=True))


def subjects(user: User) -> list[str]:
    rows = Delivery.objects.filter(user=user).order_by("pk")
    return list(rows.values_list("subject", flat=True))
