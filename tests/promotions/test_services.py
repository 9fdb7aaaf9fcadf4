"""The verbs on promotions: what they change, tell and record, and what they refuse."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.audit.models import Event
from apps.notifications.models import Delivery
from apps.promotions import services
from apps.promotions.lifecycle import Status
from apps.promotions.models import Approval, Promotion
from apps.promotions.services import PromotionRefused
from apps.validation.lifecycle import RunStatus, Verdict
from apps.validation.models import ValidationRun
from tests.people import Cast
from tests.promotions import stage
from tests.promotions.stage import subjects, verbs

pytestmark = pytest.mark.django_db


def refused(code: str, call: Any, **given: Any) -> str:
    """The call is refused with this code, and neither statuses nor answers nor events change."""
    before = _everything()
    with pytest.raises(PromotionRefused) as caught:
        call(**given)
    assert caught.value.code == code
    assert _everything() == before
    return caught.value.message


def _everything() -> tuple[list[Any], ...]:
    return (
        list(Promotion.objects.order_by("pk").values()),
        list(Approval.objects.order_by("pk").values()),
        list(Event.objects.order_by("pk").values_list("pk", "verb")),
        list(Delivery.objects.order_by("pk").values_list("pk", flat=True)),
        list(ValidationRun.objects.order_by("pk").values_list("pk", flat=True)),
    )


def test_a_request_freezes_the_policy_and_starts_the_checks(cast: Cast, now: datetime) -> None:
    model = stage.a_model(cast, now)
    first = stage.built(stage.a_version(model, cast, now, 1), now)
    stage.serves(first, "production", now)
    version = stage.a_version(model, cast, now, 2)
    build = stage.built(version, now)
    stage.serves(build, "staging", now)

    promotion = stage.asked(version, cast, now, "better on the holdout")

    assert (promotion.status, promotion.reason) == (Status.CHECKING, "Its checks run")
    assert (promotion.digest, promotion.policy_number) == (build.digest, 1)
    assert promotion.policy["rollout"]["steps"][0] == {
        "weight": 10.0, "shadow": 0.0, "hold_seconds": 60.0, "analysis": True,
        "weight_permille": 100, "shadow_permille": 0,
    }  # fmt: skip
    run = promotion.validation
    assert run is not None
    assert (run.build, run.compared_with, run.status) == (build, first, RunStatus.QUEUED)
    assert run.gates == [{"gate": "schema_compatible"}]
    assert verbs(promotion) == ["promotion.requested"]
    event = Event.objects.get(verb="promotion.requested")
    assert (event.actor, event.reason) == (cast.owner, "better on the holdout")
    assert event.evidence["digest"] == build.digest


def test_what_is_not_built_may_not_be_asked_for(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)

    words = refused("not_built", stage.asked, version=version, cast=cast, now=now)

    assert words == "flight-delay v1 is not built yet; wait for its build"


def test_an_environment_must_stand_in_the_policy(cast: Cast, now: datetime) -> None:
    model = stage.a_model(cast, now, "{version: 1, environments: {staging: {}}}")
    version = stage.a_version(model, cast, now)
    stage.built(version, now)

    refused("environment_not_in_policy", stage.asked, version=version, cast=cast, now=now)


def test_it_must_have_served_in_the_environment_before(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.built(version, now)

    words = refused("not_served_before", stage.asked, version=version, cast=cast, now=now)

    assert words == "flight-delay v1 must have served in staging before it may enter production"


def test_another_bundle_of_the_version_has_not_served(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.serves(stage.built(version, now), "staging", now)
    stage.built(version, now)

    refused("not_served_before", stage.asked, version=version, cast=cast, now=now)


def test_having_served_once_is_enough(cast: Cast, now: datetime) -> None:
    model = stage.a_model(cast, now)
    version = stage.a_version(model, cast, now)
    stage.built(version, now)
    stage.environment("staging")
    services.sweep(now=now)
    to_staging = Promotion.objects.get()
    assert to_staging.status == Status.APPROVED
    services.close(promotion=to_staging, served=True, now=now)
    newer = stage.built(stage.a_version(model, cast, now, 2), now)
    stage.serves(newer, "staging", now)

    assert stage.asked(version, cast, now).status == Status.CHECKING


def test_a_rollout_that_came_back_did_not_serve(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.built(version, now)
    stage.environment("staging")
    services.sweep(now=now)
    services.close(promotion=Promotion.objects.get(), served=False, now=now)

    refused("not_served_before", stage.asked, version=version, cast=cast, now=now)


def test_one_request_at_a_time(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)

    refused("already_open", stage.asked, version=promotion.version, cast=cast, now=now)


def test_an_approved_one_is_open_until_its_rollout_ended(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    services.approve(promotion=promotion, actor=cast.approver, words="", now=now)

    refused("already_open", stage.asked, version=promotion.version, cast=cast, now=now)
    services.close(promotion=promotion, served=False, now=now)

    assert stage.asked(promotion.version, cast, now).pk != promotion.pk


def test_what_serves_already_needs_no_promotion(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    build = stage.built(version, now)
    stage.serves(build, "staging", now)
    stage.serves(build, "production", now)

    refused("already_serving", stage.asked, version=version, cast=cast, now=now)


def test_when_the_checks_pass_the_people_who_may_decide_are_asked(
    cast: Cast, now: datetime
) -> None:
    promotion = stage.waiting(cast, now)

    assert promotion.reason == "Waiting for the approval of one person"
    assert verbs(promotion) == ["promotion.requested", "promotion.waiting"]
    subject = "Approval wanted: flight-delay v2 for production"
    for person in (cast.approver, cast.colleague, cast.admin):
        assert subjects(person) == [subject]
    for person in (cast.owner, cast.viewer, cast.operator, cast.stranger):
        assert subjects(person) == []
    mail = Delivery.objects.get(user=cast.approver)
    assert mail.link.endswith(f"/promotions/{promotion.pk}")
    assert "ada asks that flight-delay v2 enter production" in mail.text
    assert "better on the holdout" in mail.text
    assert "flight-delay v1, sha256:v1b1" in mail.text
    assert "pass: 12 of 12 columns" in mail.text


def test_a_second_tick_tells_nobody_twice(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    before = _everything()

    services.sweep(now=now)
    services.tick(promotion, now=now)

    assert _everything()[0][0] == before[0][0]
    assert subjects(cast.approver) == ["Approval wanted: flight-delay v2 for production"]


def test_one_approval_of_another_person_approves(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)

    approved = services.approve(promotion=promotion, actor=cast.approver, words="fine", now=now)

    assert (approved.status, approved.reason) == (Status.APPROVED, "Approved by grace")
    assert approved.decided_at == now
    assert verbs(promotion)[-1] == "promotion.approved"
    event = Event.objects.get(verb="promotion.approved", object_id=promotion.pk)
    assert event.actor == cast.approver
    assert event.evidence["approvals"] == [
        {"user": "grace", "answer": "approve", "words": "fine", "digest": promotion.digest,
         "at": now.isoformat()}
    ]  # fmt: skip
    assert event.evidence["gates"][0]["verdict"] == "pass"
    assert subjects(cast.owner) == ["Approved: flight-delay v2 for production"]


def test_the_requester_may_not_decide(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    promotion.requester = cast.colleague  # who is an approver too
    promotion.save(update_fields=["requester"])

    words = refused(
        "requester_may_not_decide", services.approve,
        promotion=promotion, actor=cast.colleague, words="", now=now,
    )  # fmt: skip

    assert words == "You asked for this promotion, so another person must decide it"


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_only_approvers_of_the_owning_team_decide(cast: Cast, now: datetime, who: str) -> None:
    promotion = stage.waiting(cast, now)

    refused(
        "not_an_approver", services.approve,
        promotion=promotion, actor=getattr(cast, who), words="", now=now,
    )  # fmt: skip


def test_a_second_approval_of_an_ended_request_is_refused(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    services.approve(promotion=promotion, actor=cast.approver, words="", now=now)

    for person in (cast.approver, cast.colleague):
        refused(
            "already_ended", services.approve,
            promotion=promotion, actor=person, words="", now=now,
        )  # fmt: skip


TWO = stage.POLICY.replace("required: 1", "required: 2")


def test_two_must_be_two_different_people(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now, policy=TWO)
    first = services.approve(promotion=promotion, actor=cast.approver, words="", now=now)
    assert first.reason == "Waiting for the approval of one person more"
    assert verbs(promotion)[-1] == "promotion.answered"

    refused(
        "already_answered", services.approve,
        promotion=promotion, actor=cast.approver, words="", now=now,
    )  # fmt: skip
    second = services.approve(promotion=promotion, actor=cast.colleague, words="", now=now)

    assert (second.status, second.reason) == (Status.APPROVED, "Approved by grace and ben")


def test_an_approval_after_the_digest_changed_is_refused(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    stage.built(promotion.version, now)

    with pytest.raises(PromotionRefused) as caught:
        services.approve(promotion=promotion, actor=cast.approver, words="", now=now)

    assert caught.value.code == "digest_changed"
    promotion.refresh_from_db()
    assert (promotion.status, promotion.reason) == (
        Status.REFUSED, "The bundle changed after the request was made; request again",
    )  # fmt: skip
    assert not Approval.objects.exists()


def test_an_approval_of_what_somebody_did_not_look_at_is_refused(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)

    refused(
        "digest_changed", services.approve,
        promotion=promotion, actor=cast.approver, words="", now=now, digest="sha256:old",
    )  # fmt: skip


def test_nobody_approves_before_the_checks_can_be_read(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.serves(stage.built(version, now), "staging", now)
    promotion = stage.asked(version, cast, now)

    refused(
        "still_checking", services.approve,
        promotion=promotion, actor=cast.approver, words="", now=now,
    )  # fmt: skip
    no = services.reject(promotion=promotion, actor=cast.approver, words="not today", now=now)

    assert (no.status, no.reason) == (Status.REJECTED, "Rejected by grace: not today")
    assert verbs(promotion)[-1] == "promotion.rejected"


def test_nobody_decides_what_expired_a_moment_ago(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    late = now + timedelta(hours=24)

    with pytest.raises(PromotionRefused) as caught:
        services.approve(promotion=promotion, actor=cast.approver, words="", now=late)

    assert caught.value.code == "already_ended"
    promotion.refresh_from_db()
    assert promotion.status == Status.EXPIRED
    assert verbs(promotion)[-1] == "promotion.expired"


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (Verdict.FAIL, Status.REFUSED, "A check failed: Schema: `dep_hour` is gone"),
        (
            Verdict.UNCLEAR,
            Status.WAITING,
            "Waiting for the approval of one person, who must also judge what no check could: "
            "A check is unclear: Schema: `dep_hour` is gone",
        ),
    ],
)
def test_what_the_checks_say_is_the_reason(
    cast: Cast, now: datetime, verdict: Verdict, status: Status, reason: str
) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.serves(stage.built(version, now), "staging", now)
    promotion = stage.asked(version, cast, now)
    stage.checked(promotion, verdict, now, "`dep_hour` is gone")

    services.sweep(now=now)

    promotion.refresh_from_db()
    assert (promotion.status, promotion.reason) == (status, reason)


def test_checks_that_could_not_be_done_refuse(cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.serves(stage.built(version, now), "staging", now)
    promotion = stage.asked(version, cast, now)
    ValidationRun.objects.update(status=RunStatus.FAILED, reason="No holdout named `flights`")

    services.tick(promotion, now=now)

    assert (promotion.status, promotion.reason) == (
        Status.REFUSED, "The checks could not be done: No holdout named `flights`",
    )  # fmt: skip


def test_whoever_asked_takes_it_back(cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)

    taken_back = services.cancel(promotion=promotion, actor=cast.owner, words="", now=now)

    assert (taken_back.status, taken_back.reason) == (Status.CANCELLED, "Cancelled by ada")
    assert subjects(cast.owner) == []  # who just did it needs no mail about it
    refused("already_ended", services.cancel, promotion=promotion, actor=cast.owner, words="",
            now=now)  # fmt: skip
