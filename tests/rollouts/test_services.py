"""The verbs on rollouts, and what each refuses."""

from datetime import datetime
from typing import Any

import pytest

from apps.audit.models import Event
from apps.promotions.lifecycle import Status
from apps.registry.models import Version
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services import steering
from apps.rollouts.services.steering import RolloutRefused
from apps.serving.models import Revision
from tests.people import Cast
from tests.promotions import stage as promotion_stage
from tests.rollouts import stage
from tests.rollouts.stage import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


@pytest.fixture
def rollout(cast: Cast, now: datetime, world: World) -> Rollout:
    return stage.started(stage.approved(cast, now), world, now)


def refused(code: str, call: Any, **given: Any) -> None:
    """The call is refused with this code, and neither rollouts nor revisions nor events change."""
    before = _everything()
    with pytest.raises(RolloutRefused) as caught:
        call(**given)
    assert (caught.value.code, _everything()) == (code, before)


def _everything() -> tuple[list[Any], ...]:
    return (
        list(Rollout.objects.order_by("pk").values()),
        list(Revision.objects.order_by("pk").values()),
        list(Event.objects.order_by("pk").values_list("pk", flat=True)),
    )


def verbs(rollout: Rollout) -> list[str]:
    events = Event.objects.filter(object_type="rollout", object_id=rollout.pk).order_by("pk")
    return list(events.values_list("verb", flat=True))


def test_an_approved_promotion_starts_a_revision_without_traffic(
    rollout: Rollout, cast: Cast
) -> None:
    assert (rollout.phase, rollout.step, rollout.weight) == (Phase.PREPARING, 0, 0)
    assert rollout.candidate.build == rollout.promotion.build
    assert rollout.stable is not None
    assert rollout.stable.version.number == 1
    assert [step.weight for step in rollout.steps] == [100, 500, 1000]
    assert verbs(rollout) == ["rollout.started"]


def test_a_promotion_is_rolled_out_once(rollout: Rollout, now: datetime) -> None:
    refused("already_started", steering.start, promotion=rollout.promotion, actor=None, now=now)


def test_what_is_not_approved_does_not_start(cast: Cast, now: datetime) -> None:
    promotion = promotion_stage.waiting(cast, now)

    refused("promotion_not_approved", steering.start, promotion=promotion, actor=None, now=now)


def test_one_rollout_at_a_time_moves_an_endpoint(
    rollout: Rollout, cast: Cast, now: datetime
) -> None:
    model = rollout.endpoint.model
    version = promotion_stage.a_version(model, cast, now, 3)
    promotion_stage.serves(promotion_stage.built(version, now), "staging", now)
    promotion = promotion_stage.asked(version, cast, now)
    promotion.status = Status.APPROVED
    promotion.save(update_fields=["status"])

    refused("endpoint_busy", steering.start, promotion=promotion, actor=None, now=now)


def test_what_changed_after_the_approval_is_refused_for_good(cast: Cast, now: datetime) -> None:
    promotion = stage.approved(cast, now)
    Version.objects.filter(pk=promotion.version_id).update(digest="sha256:other")

    with pytest.raises(RolloutRefused) as caught:
        steering.start(promotion=promotion, actor=None, now=now)

    assert caught.value.code == "promotion_not_applicable"
    assert caught.value.message == "The bundle changed after it was approved; request again"
    promotion.refresh_from_db()
    assert promotion.status == Status.REFUSED
    assert not Rollout.objects.exists()


def test_people_pause_and_resume(rollout: Rollout, cast: Cast, now: datetime) -> None:
    refused("not_paused", steering.resume, rollout=rollout, actor=cast.operator, now=now)
    paused = steering.pause(rollout=rollout, actor=cast.operator, now=now)
    assert (paused.pause_wanted, paused.phase, paused.revision) == (True, Phase.PREPARING, 1)
    refused("already_paused", steering.pause, rollout=rollout, actor=cast.operator, now=now)
    resumed = steering.resume(rollout=rollout, actor=cast.operator, now=now)

    assert (resumed.pause_wanted, resumed.revision) == (False, 2)
    assert verbs(rollout) == ["rollout.started", "rollout.paused", "rollout.resumed"]


def test_an_abort_is_a_wish_with_a_reason(rollout: Rollout, cast: Cast, now: datetime) -> None:
    aborted = steering.abort(rollout=rollout, actor=cast.operator, reason="wrong day", now=now)

    assert (aborted.abort_wanted, aborted.abort_reason) == (True, "wrong day")
    assert aborted.phase == Phase.PREPARING  # only the loop says where it stands
    event = Event.objects.get(verb="rollout.aborted")
    assert (event.actor, event.reason) == (cast.operator, "wrong day")
    refused(
        "rollout_reverting", steering.abort,
        rollout=rollout, actor=cast.operator, reason="", now=now,
    )  # fmt: skip


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.REVERTED])
@pytest.mark.parametrize("verb", ["pause", "resume", "abort"])
def test_what_has_ended_is_not_steered(
    rollout: Rollout, cast: Cast, now: datetime, phase: Phase, verb: str
) -> None:
    Rollout.objects.update(phase=phase)
    reason = {"reason": ""} if verb == "abort" else {}

    refused(
        "rollout_ended", getattr(steering, verb),
        rollout=rollout, actor=cast.operator, now=now, **reason,
    )  # fmt: skip


def test_what_goes_back_cannot_be_held(rollout: Rollout, cast: Cast, now: datetime) -> None:
    Rollout.objects.update(phase=Phase.REVERTING)

    refused("rollout_reverting", steering.pause, rollout=rollout, actor=cast.operator, now=now)
