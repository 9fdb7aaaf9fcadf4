"""What policies ask for by themselves, and what may not be applied any more."""

from datetime import datetime

import pytest

from apps.promotions import services
from apps.promotions.decide import decide
from apps.promotions.lifecycle import Asked, Decision, Status
from apps.promotions.models import Promotion
from apps.registry.models import Version
from apps.serving.backends import Capabilities
from apps.serving.backends.local import LocalBackend
from apps.validation.lifecycle import Verdict
from tests.people import Cast
from tests.promotions import stage
from tests.promotions.stage import subjects, verbs

pytestmark = pytest.mark.django_db


def test_versions_enter_staging_by_themselves_once_a_build(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.environment("staging")
    services.sweep(now=now)
    assert not Promotion.objects.exists()

    stage.built(version, now)
    services.sweep(now=now)
    services.sweep(now=now)

    promotion = Promotion.objects.get()
    assert (promotion.requester, promotion.environment.name) == (None, "staging")
    assert (promotion.status, promotion.reason) == (
        Status.APPROVED, "Approved by the policy: every check passed",
    )  # fmt: skip
    assert verbs(promotion) == ["promotion.requested", "promotion.approved"]


def test_an_older_version_does_not_enter_by_itself(cast: Cast, now: datetime) -> None:
    model = stage.a_model(cast, now)
    stage.serves(stage.built(stage.a_version(model, cast, now, 3), now), "staging", now)
    stage.built(stage.a_version(model, cast, now, 2), now)

    services.sweep(now=now)

    assert not Promotion.objects.exists()


def test_what_was_overtaken_while_it_waited_is_refused(cast: Cast, now: datetime) -> None:
    model = stage.a_model(cast, now)
    stage.built(stage.a_version(model, cast, now, 2), now)
    stage.environment("staging")
    services.sweep(now=now)
    older = Promotion.objects.get()
    stage.serves(stage.built(stage.a_version(model, cast, now, 3), now), "staging", now)

    assert not services.check_applicable(promotion=older, now=now)

    assert (older.status, older.reason) == (
        Status.REFUSED, "flight-delay v3 is newer and serves in staging already",
    )  # fmt: skip


def test_what_changed_after_the_approval_is_not_applied(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    services.approve(promotion=promotion, actor=cast.approver, words="", now=now)
    assert services.check_applicable(promotion=promotion, now=now)
    Version.objects.filter(pk=promotion.version_id).update(digest="sha256:other")

    assert not services.check_applicable(promotion=promotion, now=now)

    assert (promotion.status, promotion.reason) == (
        Status.REFUSED, "The bundle changed after it was approved; request again",
    )  # fmt: skip
    assert verbs(promotion)[-1] == "promotion.refused"
    assert subjects(cast.owner) == [
        "Approved: flight-delay v2 for production",
        "Refused: flight-delay v2 for production",
    ]


def test_what_the_checks_compared_with_must_still_serve(cast: Cast, now: datetime) -> None:
    """Two wait for production at once, both compared with v1; one of them comes to serve."""
    second = stage.waiting(cast, now, number=2)
    third_version = stage.a_version(second.version.model, cast, now, 3)
    stage.serves(stage.built(third_version, now), "staging", now)
    third = stage.asked(third_version, cast, now)
    stage.checked(third, Verdict.PASS, now)
    services.tick(third, now=now)
    services.approve(promotion=second, actor=cast.approver, words="", now=now)
    services.approve(promotion=third, actor=cast.approver, words="", now=now)
    stage.serves(third.build, "production", now)

    assert not services.check_applicable(promotion=second, now=now)

    assert (second.status, second.reason) == (
        Status.REFUSED,
        "flight-delay v3 came to serve in production after the checks had compared with "
        "flight-delay v1; request again",
    )


def test_nobody_is_asked_about_checks_that_are_out_of_date(cast: Cast, now: datetime) -> None:
    second = stage.waiting(cast, now, number=2)
    other = stage.built(stage.a_version(second.version.model, cast, now, 3), now)
    stage.serves(other, "production", now)

    services.sweep(now=now)

    second.refresh_from_db()
    assert second.status == Status.REFUSED
    assert second.reason.endswith("request again")


def test_the_policy_asks_anew_when_only_its_checks_are_out_of_date(
    cast: Cast, now: datetime
) -> None:
    policy = stage.POLICY.replace(
        "enter: automatic", "enter: automatic\n    gates: [{gate: schema_compatible}]"
    )
    model = stage.a_model(cast, now, policy)
    stage.environment("staging")
    first = stage.built(stage.a_version(model, cast, now, 1), now)
    services.sweep(now=now)
    stage.built(stage.a_version(model, cast, now, 2), now)
    services.sweep(now=now)
    stage.serves(first, "staging", now)
    asked = Promotion.objects.get(version__number=2)
    stage.checked(asked, Verdict.PASS, now)
    services.sweep(now=now)

    assert not services.check_applicable(promotion=asked, now=now)

    again = Promotion.objects.filter(version__number=2).latest("pk")
    assert (asked.status, again.status) == (Status.REFUSED, Status.CHECKING)
    assert again.validation is not None
    assert again.validation.compared_with == first


def test_a_plan_that_the_backend_cannot_do_is_refused_when_it_is_asked(
    cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stage.a_model(cast, now)
    version = stage.a_version(model, cast, now, 1)
    stage.serves(stage.built(version, now), "staging", now)
    monkeypatch.setattr(LocalBackend, "capabilities", Capabilities())

    with pytest.raises(services.PromotionRefused) as refused:
        stage.asked(version, cast, now)

    assert (refused.value.code, refused.value.message) == (
        "plan_not_supported",
        "production is served by 'local', which cannot split traffic: the plan's step of 10 % "
        "needs that. Give it one step of 100 %",
    )


def test_one_that_cannot_be_looked_at_stops_no_other(
    cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = stage.waiting(cast, now)
    good_version = stage.a_version(bad.version.model, cast, now, 5)
    stage.serves(stage.built(good_version, now), "staging", now)
    good = stage.asked(good_version, cast, now)
    stage.checked(good, Verdict.PASS, now)

    def odd(asked: Asked, at: datetime) -> Decision:
        if asked.digest_asked == bad.digest:
            raise RuntimeError("odd")
        return decide(asked, at)

    monkeypatch.setattr(services, "decide", odd)
    services.sweep(now=now)

    good.refresh_from_db()
    assert good.status == Status.WAITING


def test_the_author_does_not_decide_what_the_policy_asked_for_them(
    cast: Cast, now: datetime
) -> None:
    policy = stage.POLICY.replace("approvals: {required: 0}", "approvals: {required: 1}")
    version = stage.a_version(stage.a_model(cast, now, policy), cast, now)
    version.registered_by = cast.colleague  # data scientist and approver
    version.save()
    stage.environment("staging")
    stage.built(version, now)
    services.sweep(now=now)
    services.sweep(now=now)
    promotion = Promotion.objects.get()
    assert promotion.status == Status.WAITING

    with pytest.raises(services.PromotionRefused) as refused:
        services.approve(promotion=promotion, actor=cast.colleague, words="", now=now)

    assert (refused.value.code, refused.value.message) == (
        "requester_may_not_decide",
        "You registered this version, so another person must decide it",
    )
    services.approve(promotion=promotion, actor=cast.approver, words="", now=now)
    assert promotion.version.registered_by == cast.colleague
