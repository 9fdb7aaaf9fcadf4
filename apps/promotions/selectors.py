"""Questions to promotions."""

from collections.abc import Iterable

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from apps.accounts.models import User
from apps.accounts.selectors import Caller, people_who_may, teams_of
from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.promotions.lifecycle import Answer, Asked, GateState, Given, Status
from apps.promotions.models import Promotion
from apps.registry.models import Version
from apps.serving.models import Endpoint, Environment
from apps.validation.lifecycle import RunStatus, Verdict
from apps.validation.models import ValidationRun


def visible_to(user: Caller) -> QuerySet[Promotion]:
    return Promotion.objects.filter(version__model__team__in=teams_of(user)).select_related(
        "version__model", "environment", "requester"
    )


def asked(promotion: Promotion) -> Asked:
    """Everything that `decide` may look at, as it is now."""
    version = Version.objects.only("digest").get(pk=promotion.version_id)
    gates, reason = gates_of(promotion)
    return Asked(
        status=Status(promotion.status),
        rules=promotion.rules,
        gates=gates,
        gates_reason=reason,
        requester_id=promotion.asker_id,
        answers=[
            Given(a.user_id, Answer(a.answer), a.digest, name_of(a.user), a.words)
            for a in promotion.approvals.select_related("user")
        ],
        digest_asked=promotion.digest,
        digest_now=version.digest,
        requested_at=promotion.created_at,
    )


def gates_of(promotion: Promotion) -> tuple[GateState, str]:
    """What the checks say so far, in one word and one sentence."""
    if promotion.validation_id is None:
        # None was started, because the policy has no gates for this environment.
        return GateState.PASSED, "The policy has no checks"
    run = ValidationRun.objects.get(pk=promotion.validation_id)
    status = RunStatus(run.status)
    if not status.is_final:
        return GateState.RUNNING, "Its checks run"
    if status is not RunStatus.DONE:
        why = run.reason or f"the validation was {status}"
        return GateState.FAILED, f"The checks could not be done: {why}"
    if run.verdict == Verdict.PASS:
        return GateState.PASSED, "Every check passed"
    if run.verdict == Verdict.FAIL:
        return GateState.FAILED, f"A check failed: {_told(run, Verdict.FAIL)}"
    return GateState.UNCLEAR, f"A check is unclear: {_told(run, Verdict.UNCLEAR)}"


def _told(run: ValidationRun, verdict: Verdict) -> str:
    checks = run.checks.filter(verdict=verdict)
    told = "; ".join(f"{check.title}: {check.summary}" for check in checks)
    return told or run.reason or "no check had a verdict"


def deciders(promotion: Promotion) -> QuerySet[User]:
    """Who may approve or reject it: never the requester, unless the policy lets them."""
    people = people_who_may("promotion.decide", promotion)
    if promotion.asker_id is None or promotion.rules.requester_may_approve:
        return people
    return people.exclude(pk=promotion.asker_id)


def stable_build(version: Version, environment: Environment) -> Build | None:
    """What serves the version's model in the environment now."""
    endpoint = (
        Endpoint.objects.filter(model_id=version.model_id, environment=environment)
        .select_related("stable__build__version")
        .first()
    )
    return endpoint.stable.build if endpoint is not None and endpoint.stable is not None else None


def overtaken(promotion: Promotion) -> str:
    """It says what came to serve there meanwhile; "" when nothing speaks against it."""
    if Version.objects.filter(pk=promotion.version_id, gone_at__isnull=False).exists():
        return f"{promotion.version} no longer stands in MLflow"
    serves = stable_build(promotion.version, promotion.environment)
    if serves is None:
        return ""
    where = promotion.environment.name
    if serves.version_id == promotion.version_id and serves.digest == promotion.digest:
        return f"{promotion.version} serves in {where} already"
    if promotion.requester_id is None and serves.version.number > promotion.version.number:
        return f"{serves.version} is newer and serves in {where} already"
    return ""


def outdated(promotion: Promotion) -> str:
    """It says that its checks compared it with what serves no longer; "" when they did not."""
    run = promotion.validation
    serves = stable_build(promotion.version, promotion.environment)
    if serves is None or run is None or not run.gates or run.compared_with_id == serves.pk:
        return ""
    before = run.compared_with.version if run.compared_with else "nothing"
    return (
        f"{serves.version} came to serve in {promotion.environment.name} after the checks had "
        f"compared with {before}; request again"
    )


def has_served(version: Version, environment_name: str, digest: str) -> bool:
    """It answers whether this bundle carries, or once carried, all traffic there."""
    serves = Endpoint.objects.filter(
        model_id=version.model_id,
        environment__name=environment_name,
        stable__version=version,
        stable__build__digest=digest,
    )
    served = Promotion.objects.filter(
        version=version, environment__name=environment_name, digest=digest, served_at__isnull=False
    )
    return serves.exists() or served.exists()


def never_asked(environment: Environment, models: Iterable[int]) -> QuerySet[Version]:
    """Built versions of these models whose newest build was never promoted there, none older than
    what serves."""
    newest = Build.objects.filter(version=OuterRef("pk"), status=BuildStatus.SUCCEEDED)
    stable = Endpoint.objects.filter(model=OuterRef("model"), environment=environment)
    return (
        Version.objects.filter(gone_at=None, model__in=models)
        .exclude(digest="")
        .annotate(
            newest_build=Subquery(newest.order_by("-number").values("pk")[:1]),
            stable_number=Subquery(stable.values("stable__version__number")[:1]),
        )
        .filter(newest_build__isnull=False)
        .filter(Q(stable_number=None) | Q(number__gte=F("stable_number")))
        .exclude(
            Exists(
                Promotion.objects.filter(environment=environment, build=OuterRef("newest_build"))
            )
        )
        .select_related("model")
        .defer("run")
        .order_by("model", "number")
    )


def name_of(user: User) -> str:
    return user.get_full_name() or user.get_username()
