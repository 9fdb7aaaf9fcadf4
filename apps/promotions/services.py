"""Verbs on promotions: ask, answer, take back, look again. Page, API and tasks call these."""

import logging
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from apps.accounts.models import User
from apps.accounts.selectors import may
from apps.audit.services import record
from apps.builds import selectors as builds
from apps.builds.models import Build
from apps.core import live
from apps.core.dispatch import wake
from apps.core.errors import Refused
from apps.promotions import mails, selectors
from apps.promotions.decide import decide
from apps.promotions.lifecycle import Answer, Decision, Status
from apps.promotions.models import Approval, Promotion
from apps.registry import selectors as registry
from apps.registry.models import Policy, Version
from apps.registry.policy import Document, EnvironmentPolicy, frozen_plan
from apps.serving import selectors as serving
from apps.serving.models import Environment
from apps.validation import services as validation
from apps.validation.models import ValidationRun

log = logging.getLogger(__name__)


class PromotionRefused(Refused):
    code = "promotion_refused"


def request(
    *,
    version: Version,
    environment: Environment,
    requester: User | None,
    words: str,
    now: datetime,
) -> Promotion:
    """It asks that a version enter an environment, and starts the gates that judge it.

    The policy's part is copied into the request, so that editing the policy later changes
    nothing for those who decide. Without a requester the policy asks by itself.

    Raises: PromotionRefused when the version is not built, when the policy does not know the
    environment, when `after` is not satisfied, when what runs the environment cannot do the plan,
    or when it serves there or is on its way.
    """
    try:
        with transaction.atomic():
            return _request(version, environment, requester, words, now)
    except IntegrityError as twice:
        raise PromotionRefused(
            f"A promotion of {version} to {environment.name} is open already", "already_open"
        ) from twice


def _request(
    version: Version,
    environment: Environment,
    requester: User | None,
    words: str,
    now: datetime,
) -> Promotion:
    version.refresh_from_db(fields=["digest", "gone_at"])
    policy = registry.policy_of(version.model)
    document = Document.model_validate(policy.document)
    build = _built(version)
    rules = _rules(document, version, environment)
    _refuse_unless_it_may_enter(version, environment, rules, build)
    promotion = Promotion.objects.create(
        version=version,
        build=build,
        environment=environment,
        digest=build.digest,
        requester=requester,
        words=words,
        policy_number=policy.number,
        policy={**rules.model_dump(mode="json"), "rollout": frozen_plan(rules)},
        reason="Its checks run",
        created_at=now,
    )
    if rules.gates:
        promotion.validation = _validate(promotion, document, rules, policy, now)
        promotion.save(update_fields=["validation"])
    _record(promotion, "requested", requester, now, words)
    _publish(promotion)
    wake("promotions.sweep")
    return promotion


def _built(version: Version) -> Build:
    build = builds.latest_success(version)
    if build is None or not version.digest or version.digest != build.digest:
        raise PromotionRefused(f"{version} is not built yet; wait for its build", "not_built")
    if version.gone_at is not None:
        raise PromotionRefused(f"{version} no longer stands in MLflow", "version_gone")
    return build


def _rules(document: Document, version: Version, environment: Environment) -> EnvironmentPolicy:
    rules = document.environments.get(environment.name)
    if rules is None:
        raise PromotionRefused(
            f"The policy of {version.model.name} says nothing about {environment.name}; add it "
            "there first",
            "environment_not_in_policy",
        )
    return rules


def _refuse_unless_it_may_enter(
    version: Version, environment: Environment, rules: EnvironmentPolicy, build: Build
) -> None:
    where = environment.name
    if rules.after and not selectors.has_served(version, rules.after, build.digest):
        raise PromotionRefused(
            f"{version} must have served in {rules.after} before it may enter {where}",
            "not_served_before",
        )
    steps = [(step.weight_permille, step.shadow_permille) for step in rules.rollout.steps]
    unsupported = serving.unsupported(environment, steps)
    if unsupported:
        raise PromotionRefused(unsupported, "plan_not_supported")
    serves = selectors.stable_build(version, environment)
    if serves is not None and serves.version_id == version.pk and serves.digest == build.digest:
        raise PromotionRefused(f"{version} serves in {where} already", "already_serving")
    others = Promotion.objects.filter(version=version, environment=environment).on_its_way()
    if others.exists():
        raise PromotionRefused(
            f"A promotion of {version} to {where} is open already", "already_open"
        )


def _validate(
    promotion: Promotion,
    document: Document,
    rules: EnvironmentPolicy,
    policy: Policy,
    now: datetime,
) -> ValidationRun:
    return validation.start(
        build=promotion.build,
        environment=promotion.environment,
        policy=policy,
        gates=[gate.model_dump(mode="json") for gate in rules.gates],
        holdout_name=document.holdout,
        positive_class=document.positive_class,
        compared_with=selectors.stable_build(promotion.version, promotion.environment),
        actor=promotion.requester,
        now=now,
    )


def approve(
    *, promotion: Promotion, actor: User, words: str, now: datetime, digest: str = ""
) -> Promotion:
    """It counts one person's yes. `digest`: of the bundle that they looked at, where known.

    Raises: PromotionRefused with the code requester_may_not_decide, not_an_approver,
    already_ended, digest_changed, already_answered or still_checking; nothing is changed then.
    """
    return _answer(promotion, actor, Answer.APPROVE, words, digest, now)


def reject(
    *, promotion: Promotion, actor: User, words: str, now: datetime, digest: str = ""
) -> Promotion:
    """It ends the promotion with one person's no. Raises as `approve` does."""
    return _answer(promotion, actor, Answer.REJECT, words, digest, now)


def _answer(
    promotion: Promotion, actor: User, answer: Answer, words: str, digest: str, now: datetime
) -> Promotion:
    # Time, gates and builds may have ended it since the person saw it; that stays ended.
    tick(promotion, now=now)
    with transaction.atomic():
        # Two clicks at once: the second one waits here, then finds the first one's answer.
        held = Promotion.objects.select_for_update().get(pk=promotion.pk)
        _refuse_unless_may_answer(held, actor, answer, digest)
        given = Approval.objects.create(
            promotion=held, user=actor, answer=answer, words=words, digest=held.digest, at=now
        )
        came_from = held.status
        _apply(held, decide(selectors.asked(held), now), now=now, actor=actor)
        if held.status == came_from:  # more people are needed: the answer itself is the news
            _record(held, "answered", actor, now, f"{given.answer}: {words}".removesuffix(": "))
    return held


def _refuse_unless_may_answer(
    promotion: Promotion, actor: User, answer: Answer, digest: str
) -> None:
    status = Status(promotion.status)
    if actor.pk == promotion.asker_id and not promotion.rules.requester_may_approve:
        did = "asked for this promotion" if promotion.requester_id else "registered this version"
        raise PromotionRefused(
            f"You {did}, so another person must decide it", "requester_may_not_decide"
        )
    if not may(actor, "promotion.decide", promotion):
        raise PromotionRefused(
            "Only an approver of the team that owns the model may decide this", "not_an_approver"
        )
    changed = Version.objects.get(pk=promotion.version_id).digest != promotion.digest
    if (changed and status in (Status.REFUSED, Status.CHECKING, Status.WAITING)) or (
        digest and digest != promotion.digest
    ):
        raise PromotionRefused(
            "The bundle is not the one you looked at: it changed after the request was made; "
            "request again",
            "digest_changed",
        )
    if status.is_final:
        raise PromotionRefused(
            f"This promotion has ended already: it is {status}. {promotion.reason}",
            "already_ended",
        )
    if promotion.approvals.filter(user=actor).exists():
        raise PromotionRefused("You have answered already", "already_answered")
    if status is Status.CHECKING and answer is Answer.APPROVE:
        raise PromotionRefused(
            "Its checks still run; approve when you can read what they say", "still_checking"
        )


@transaction.atomic
def cancel(*, promotion: Promotion, actor: User, words: str, now: datetime) -> Promotion:
    """It takes the request back. Raises: PromotionRefused (already_ended)."""
    held = Promotion.objects.select_for_update().get(pk=promotion.pk)
    if Status(held.status).is_final:
        raise PromotionRefused(
            f"This promotion has ended already: it is {held.status}", "already_ended"
        )
    why = f"Cancelled by {selectors.name_of(actor)}: {words}".removesuffix(": ")
    _apply(held, Decision(Status.CANCELLED, why), now=now, actor=actor)
    return held


@transaction.atomic
def tick(promotion: Promotion, *, now: datetime) -> None:
    """It looks at an unfinished promotion again and moves it on, if there is anything new."""
    promotion.refresh_from_db()
    if Status(promotion.status).is_final:
        return
    decision = decide(selectors.asked(promotion), now)
    if decision.status is Status.WAITING:
        # Nobody should read and decide what could not be applied.
        why_not = selectors.overtaken(promotion) or selectors.outdated(promotion)
        decision = Decision(Status.REFUSED, why_not) if why_not else decision
    _apply(promotion, decision, now=now, actor=None)


def check_applicable(*, promotion: Promotion, now: datetime) -> bool:
    """It answers whether a rollout may take this up; an approved one that may not is refused.

    What was approved must still be what is there, the checks must have compared it with what
    serves now, and what the policy asked for by itself must not replace a newer version. What the
    policy asked for is asked for anew where only the checks are out of date.
    """
    with transaction.atomic():
        held = Promotion.objects.select_for_update().get(pk=promotion.pk)
        if held.status == Status.APPROVED:
            overtaken, outdated = selectors.overtaken(held), selectors.outdated(held)
            decision = decide(selectors.asked(held), now)
            if overtaken or outdated:
                decision = Decision(Status.REFUSED, overtaken or outdated)
            if decision.status is not Status.APPROVED:
                _apply(held, decision, now=now, actor=None)
            if outdated and not overtaken and held.requester_id is None:
                _ask_again(held, now)
        promotion.refresh_from_db()
        return promotion.status == Status.APPROVED


def _ask_again(promotion: Promotion, now: datetime) -> None:
    """The policy asks for itself; a person is told to."""
    try:
        request(
            version=promotion.version,
            environment=promotion.environment,
            requester=None,
            words="",
            now=now,
        )
    except PromotionRefused as refused:
        log.info("%s is not asked for again: %s", promotion, refused.message)


def close(*, promotion: Promotion, served: bool, now: datetime) -> None:
    """It notes that the rollout which took this up has ended, and whether it carried it in."""
    Promotion.objects.filter(pk=promotion.pk, closed_at=None).update(
        closed_at=now, served_at=now if served else None
    )
    _publish(promotion)


def sweep(*, now: datetime) -> None:
    """It makes the requests that policies make by themselves and ticks all that are open."""
    request_automatic(now=now)
    for promotion in Promotion.objects.unfinished().order_by("pk"):
        try:
            tick(promotion, now=now)
        except Exception:  # one that cannot be moved must not hold up all the others
            log.exception("The %s could not be looked at; the next sweep tries", promotion)


def request_automatic(*, now: datetime) -> None:
    """It asks for every environment that versions enter by themselves, once a build."""
    automatic = registry.entered_automatically()
    for environment in Environment.objects.filter(name__in=automatic):
        for version in selectors.never_asked(environment, automatic[environment.name]):
            try:
                request(version=version, environment=environment, requester=None, words="", now=now)
            except Refused as refused:  # not yet; the next sweep looks again
                log.debug("%s does not enter %s: %s", version, environment, refused.message)
            except Exception:  # a policy that cannot be read is its own model's trouble
                log.exception("%s could not be asked for in %s", version, environment)


def _apply(promotion: Promotion, decision: Decision, *, now: datetime, actor: User | None) -> None:
    """Writes a decision and tells of it; nothing happens when somebody else wrote first."""
    came_from = Status(promotion.status)
    if decision.status is came_from and decision.reason == promotion.reason:
        return
    changes: dict[str, Any] = {"reason": decision.reason}
    if decision.status.is_final:
        changes["decided_at"] = now
    if not promotion.move(decision.status, **changes):
        return
    _publish(promotion)
    if decision.status is came_from:
        return
    _record(promotion, decision.status, actor, now, decision.reason)
    if decision.status.is_final:
        mails.ended(promotion, actor, now)
    else:
        mails.approval_wanted(promotion, now)
    if decision.status is Status.APPROVED:
        wake("rollouts.sweep")


def _record(
    promotion: Promotion, verb: str, actor: User | None, now: datetime, reason: str
) -> None:
    record(
        f"promotion.{verb}",
        promotion,
        actor=actor,
        now=now,
        model_name=promotion.version.model.name,
        environment=promotion.environment.name,
        reason=reason,
        evidence=_evidence(promotion),
    )


def _evidence(promotion: Promotion) -> dict[str, Any]:
    run = promotion.validation
    return {
        "version": promotion.version.number,
        "digest": promotion.digest,
        "policy": promotion.policy_number,
        "requester": promotion.requester.get_username() if promotion.requester else None,
        "approvals": [
            {"user": a.user.get_username(), "answer": a.answer, "words": a.words,
             "digest": a.digest, "at": a.at.isoformat()}
            for a in promotion.approvals.select_related("user")
        ],
        "validation": run.pk if run else None,
        "gates": [
            {"gate": c.gate, "title": c.title, "verdict": c.verdict, "summary": c.summary}
            for c in (run.checks.all() if run else [])
        ],
    }  # fmt: skip


def _publish(promotion: Promotion) -> None:
    for topic in (
        f"promotion:{promotion.pk}",
        f"version:{promotion.version_id}",
        f"model:{promotion.version.model.name}",
        "home:all",
    ):
        live.publish(topic)
