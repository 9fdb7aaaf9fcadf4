"""What policies ask for by themselves, and what may not be applied any more."""

from datetime import datetime

import pytest

from apps.promotions import services
from apps.promotions.lifecycle import Status
from apps.promotions.models import Promotion
from apps.registry.models import Version
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
