"""Steps of which callers notice nothing: the candidate runs in the dark, then gets copies."""

from datetime import datetime, timedelta

import pytest
from django.test import Client

from apps.audit.models import Event
from apps.promotions.services import PromotionRefused
from apps.registry.services import policies
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Observation, Rollout
from apps.rollouts.services import steering
from apps.serving import selectors
from apps.serving.backends import Capabilities
from apps.serving.backends.local import LocalBackend
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Endpoint, Revision
from apps.serving.services import wishes
from tests.people import Cast, bearer
from tests.promotions import stage as promotion_stage
from tests.rollouts import stage
from tests.rollouts.stage import World, tick

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
COPYING = "Copying 50 % of requests to v2, nobody sees its answers"
POLICY = promotion_stage.POLICY.replace(
    "        - {weight: 10, hold_seconds: 60}\n        - {weight: 50, hold_seconds: 60}\n",
    "        - {weight: 0, hold_seconds: 60, analysis: false}\n"
    "        - {weight: 0, shadow: 50, hold_seconds: 60}\n"
    "        - {weight: 10, hold_seconds: 60}\n",
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


@pytest.fixture
def rollout(cast: Cast, now: datetime, world: World) -> Rollout:
    return stage.started(stage.approved(cast, now, POLICY), world, now)


def wanted(rollout: Rollout) -> tuple[dict[str, int], dict[str, int]]:
    """The split and the copies that are asked for."""
    endpoint = Endpoint.objects.get(pk=rollout.endpoint_id)
    return endpoint.traffic_wanted, endpoint.shadow_wanted


def all_on_stable(rollout: Rollout) -> dict[str, int]:
    return {str(rollout.stable_id): 1000}


def copying(rollout: Rollout, now: datetime) -> Rollout:
    """The dark step is over, and the gateway reports the copies; a minute from then."""
    tick(rollout, now)
    tick(rollout, now + SECOND)
    moved = tick(rollout, now + 61 * SECOND)
    assert (moved.step, moved.weight, moved.shadow, moved.reason) == (1, 0, 500, COPYING)
    reached = tick(rollout, now + 62 * SECOND)
    assert reached.reached_at == now + 62 * SECOND
    return reached


def test_in_the_dark_it_runs_and_gets_nothing(
    rollout: Rollout, world: World, now: datetime
) -> None:
    dark = "v2 runs without traffic, so that people can test it"

    assert tick(rollout, now).reason == dark
    waiting = tick(rollout, now + SECOND)

    assert waiting.reason == f"{dark}, until 12:01:01 UTC"
    assert (waiting.phase, waiting.step, waiting.weight, waiting.shadow) == (
        Phase.PROGRESSING, 0, 0, 0,
    )  # fmt: skip
    assert wanted(rollout) == (all_on_stable(rollout), {})
    assert world.since == []  # nothing is compared


def test_it_is_held_in_the_dark(rollout: Rollout, world: World, now: datetime, cast: Cast) -> None:
    tick(rollout, now)
    steering.pause(rollout=rollout, actor=cast.operator, now=now)

    held = tick(rollout, now + timedelta(hours=1))

    assert (held.phase, held.reason) == (Phase.PAUSED, "Paused by request at 0 %")


def test_copies_are_asked_for_seen_and_judged_before_anybody_gets_an_answer(
    rollout: Rollout, world: World, now: datetime
) -> None:
    copying(rollout, now)
    assert wanted(rollout) == (all_on_stable(rollout), {str(rollout.candidate_id): 500})
    later = now + 123 * SECOND
    assert tick(rollout, later).reason == (
        "Waiting at 50 % copied: 0 of 100 requests to the candidate"
    )
    world.took(rollout.candidate, 500, copied=True)
    world.took(rollout.stable, 1000)

    moved = tick(rollout, later + SECOND)

    assert (moved.step, moved.weight, moved.shadow, moved.reason) == (2, 100, 0, "Moving to 10 %")
    assert moved.evidence["candidate_requests"] == 500
    split = {str(rollout.stable_id): 900, str(rollout.candidate_id): 100}
    assert wanted(rollout) == (split, {})
    assert world.copies == {}
    changes = Event.objects.filter(verb="endpoint.shadow_changed").order_by("pk")
    assert [event.evidence["shadow"] for event in changes] == [{"2": 50.0}, {}]
    story = Observation.objects.filter(rollout=rollout).order_by("pk")
    assert [(line.phase, line.step, line.weight, line.shadow, line.verdict) for line in story] == [
        ("preparing", 0, 0, 0, ""),
        ("progressing", 0, 0, 0, ""),
        ("progressing", 1, 0, 500, ""),
        ("progressing", 1, 0, 500, "unclear"),
        ("progressing", 2, 100, 0, "pass"),
    ]


def test_what_fails_on_copies_is_taken_back_before_anybody_saw_it(
    rollout: Rollout, world: World, now: datetime
) -> None:
    copying(rollout, now)
    world.took(rollout.candidate, 210, 17, copied=True)
    world.took(rollout.stable, 1900, 4)

    going = tick(rollout, now + 70 * SECOND)
    assert (going.phase, going.shadow) == (Phase.REVERTING, 0)
    assert wanted(rollout) == (all_on_stable(rollout), {})
    back = tick(rollout, now + 71 * SECOND)

    assert (back.phase, back.cause) == (
        Phase.REVERTED, "The analysis failed at 50 % copied: errors 8.1 % against 0.2 %",
    )  # fmt: skip
    assert Revision.objects.get(pk=rollout.candidate_id).wanted == RevisionWish.STOP
    splits = Event.objects.filter(verb="traffic.changed", environment="production")
    assert [event.evidence["weights"] for event in splits] == [{"1": 100.0}]


def test_a_gateway_that_does_not_tell_of_copies_is_waited_for(
    rollout: Rollout, world: World, now: datetime
) -> None:
    reached = copying(rollout, now)
    world.took(rollout.candidate, 500, copied=True)
    world.took(rollout.stable, 1000)
    world.copies = None

    waiting = tick(rollout, now + 200 * SECOND)

    assert (waiting.step, waiting.reason) == (1, "Waiting for the serving backend to answer")
    assert waiting.reached_at == reached.reached_at


def test_it_is_not_back_while_copies_are_still_seen(
    rollout: Rollout, world: World, now: datetime, cast: Cast
) -> None:
    copying(rollout, now)
    world.obeys = False
    steering.abort(rollout=rollout, actor=cast.operator, reason="wrong day", now=now)

    going = tick(rollout, now + 70 * SECOND)
    still = tick(rollout, now + 71 * SECOND)

    assert (going.phase, still.phase) == (Phase.REVERTING, Phase.REVERTING)
    world.obeys = True
    tick(rollout, now + 72 * SECOND)
    assert tick(rollout, now + 73 * SECOND).phase == Phase.REVERTED


@pytest.mark.parametrize("lost", ["set_traffic", "set_shadow"])
def test_a_crash_after_recording_leaves_no_half_of_a_step(
    rollout: Rollout, world: World, now: datetime, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    copying(rollout, now)
    world.took(rollout.candidate, 500, copied=True)
    world.took(rollout.stable, 1000)
    with monkeypatch.context() as broken:

        def crash(**given: object) -> None:
            raise ConnectionError("killed")

        broken.setattr(wishes, lost, crash)
        with pytest.raises(ConnectionError):
            tick(rollout, now + 123 * SECOND)
    moved = Rollout.objects.get(pk=rollout.pk)
    assert (moved.step, moved.weight, moved.shadow) == (2, 100, 0)
    copies = {str(rollout.candidate_id): 500}
    assert wanted(rollout) == (all_on_stable(rollout), copies)

    tick(rollout, now + 124 * SECOND)

    split = {str(rollout.stable_id): 900, str(rollout.candidate_id): 100}
    assert wanted(rollout) == (split, {})
    assert (world.weights, world.copies) == (
        {rollout.stable_id: 900, rollout.candidate_id: 100}, {},
    )  # fmt: skip


def test_a_crash_on_the_way_back_heals_too(rollout: Rollout, world: World, now: datetime) -> None:
    copying(rollout, now)
    world.copies = {}  # they ended at the gateway, though they are still asked for
    Rollout.objects.update(phase=Phase.REVERTING, shadow=0, cause="Aborted by request")

    back = tick(rollout, now + 70 * SECOND)

    assert back.phase == Phase.REVERTED
    assert wanted(rollout) == (all_on_stable(rollout), {})
    assert Revision.objects.get(pk=rollout.candidate_id).wanted == RevisionWish.STOP


def test_a_first_version_has_nobody_whose_requests_could_be_copied(
    cast: Cast, now: datetime, world: World
) -> None:
    promotion = stage.approved(cast, now, POLICY)
    Endpoint.objects.update(stable=None, traffic_wanted={})

    rollout = stage.started(promotion, world, now)

    assert [(step.weight, step.shadow) for step in rollout.steps] == [(1000, 0)]


def test_a_candidate_is_as_wide_as_what_it_is_to_replace(
    cast: Cast, now: datetime, world: World
) -> None:
    promotion = stage.approved(cast, now)
    Revision.objects.filter(endpoint__environment__name="production").update(replicas=3)

    rollout = stage.started(promotion, world, now)

    assert (rollout.replicas, rollout.candidate.replicas) == (3, 3)
    assert tick(rollout, now).reason == "Waiting for the candidate's replicas to be ready"
    world.ready[rollout.candidate_id] = 3
    assert tick(rollout, now).phase == Phase.PROGRESSING
    # What the scaler adds for more traffic may still be on its way.
    Revision.objects.filter(pk=rollout.candidate_id).update(replicas=5)
    tick(rollout, now + SECOND)
    world.took(rollout.candidate, 500)
    world.took(rollout.stable, 4500)
    assert tick(rollout, now + 61 * SECOND).reason == "Moving to 50 %"


def test_the_policy_in_force_now_says_how_wide_it_is(
    cast: Cast, now: datetime, world: World
) -> None:
    promotion = stage.approved(cast, now)
    newer = promotion_stage.POLICY + "    serving: {scaling: {min: 2, max: 4}}\n"
    policies.put_policy(model=promotion.version.model, text=newer, actor=cast.admin, now=now)
    Revision.objects.filter(endpoint__environment__name="production").update(replicas=0)

    rollout = stage.started(promotion, world, now)

    assert rollout.candidate.replicas == 2


def test_a_backend_that_cannot_copy_is_said_when_it_is_asked_for(
    cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalBackend, "capabilities", Capabilities(split=True))

    with pytest.raises(PromotionRefused) as refused:
        stage.approved(cast, now, POLICY)

    assert (refused.value.code, refused.value.message) == (
        "plan_not_supported",
        "production is served by 'local', which cannot copy requests: the plan's step with a "
        "shadow of 50 % needs that. Leave it out",
    )


def test_a_step_in_the_dark_asks_nothing_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalBackend, "capabilities", Capabilities())
    production = promotion_stage.environment("production")

    assert selectors.unsupported(production, [(0, 0), (1000, 0)]) == ""


def test_pages_and_api_say_what_is_copied(
    rollout: Rollout, world: World, now: datetime, cast: Cast, client: Client
) -> None:
    copying(rollout, now)
    Endpoint.objects.filter(pk=rollout.endpoint_id).update(
        traffic_seen=all_on_stable(rollout), shadow_seen={str(rollout.candidate_id): 500}
    )
    seen = client.get(f"/api/v1/rollouts/{rollout.pk}", headers=bearer(cast.viewer)).json()
    assert (seen["weight_percent"], seen["shadow_percent"]) == (0.0, 50.0)
    assert [line["shadow_percent"] for line in seen["observations"]] == [0.0, 0.0, 50.0, 50.0]

    client.force_login(cast.viewer)
    text = client.get(f"/rollouts/{rollout.pk}").content.decode()

    assert COPYING in text
    for words in (
        "<strong>50 % of requests</strong> are copied to v2; callers never see its answers.",
        "The gateway reports the same share.",
        "<strong>50 % copied</strong>",
        "Runs without traffic</span>",
        "50 % of requests copied</span>",
        "10 % of traffic</span>",
        "0 copied requests to the candidate and 0 to the stable version",
    ):
        assert words in text, words
