"""Two clicks on Approve at the same moment: one approval, the second is refused."""

from collections.abc import Callable
from datetime import datetime
from threading import Barrier, Thread

import pytest
from django.db import connection

from apps.accounts.models import User
from apps.promotions import services
from apps.promotions.models import Approval, Promotion
from apps.promotions.services import PromotionRefused
from tests.people import cast as on_stage
from tests.promotions import stage

pytestmark = pytest.mark.django_db(transaction=True)
TWO = stage.POLICY.replace("required: 1", "required: 2")


def at_once(*calls: Callable[[], object]) -> list[str]:
    """It makes the calls at the same moment and tells how each ended."""
    ready, ends = Barrier(len(calls)), []

    def run(call: Callable[[], object]) -> None:
        try:
            connection.ensure_connection()
            ready.wait(timeout=10)
            call()
            ends.append("done")
        except PromotionRefused as refused:
            ends.append(refused.code)
        finally:
            connection.close()

    threads = [Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return sorted(ends)


def approving(promotion: Promotion, person: User, now: datetime) -> Callable[[], object]:
    mine = Promotion.objects.get(pk=promotion.pk)
    return lambda: services.approve(promotion=mine, actor=person, words="", now=now)


def test_of_one_person_one_counts(now: datetime) -> None:
    cast = on_stage()
    promotion = stage.waiting(cast, now, policy=TWO)

    ends = at_once(*[approving(promotion, cast.approver, now) for _ in range(2)])

    assert ends == ["already_answered", "done"]
    assert Approval.objects.count() == 1
    promotion.refresh_from_db()
    assert promotion.reason == "Waiting for the approval of one person more"


def test_of_two_people_the_second_finds_it_ended(now: datetime) -> None:
    cast = on_stage()
    promotion = stage.waiting(cast, now)

    ends = at_once(
        approving(promotion, cast.approver, now), approving(promotion, cast.colleague, now)
    )

    assert ends == ["already_ended", "done"]
    assert Approval.objects.count() == 1


def test_of_two_requests_one_stands(now: datetime) -> None:
    cast = on_stage()
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    stage.serves(stage.built(version, now), "staging", now)

    ends = at_once(*[lambda: stage.asked(version, cast, now) for _ in range(2)])

    assert ends == ["already_open", "done"]
    assert Promotion.objects.count() == 1
