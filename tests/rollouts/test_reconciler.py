"""The loop against a backend that crashes, stays silent, or lets people in between."""

import logging
from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.audit.models import Event
from apps.notifications.models import Delivery
from apps.promotions import services as promotions
from apps.promotions.models import Promotion
from apps.registry.models import Alias, Version
from apps.rollouts import reconciler
from apps.rollouts.lifecycle import Phase, Verdict
from apps.rollouts.models import Observation, Rollout
from apps.rollouts.services import settling, steering
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Endpoint, Revision
from apps.serving.services import wishes
from tests.people import Cast
from tests.promotions import stage as promotion_stage
from tests.rollouts import stage
from tests.rollouts.stage import Clock, World, tick

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


@pytest.fixture
def rollout(cast: Cast, now: datetime, world: World) -> Rollout:
    return stage.started(stage.approved(cast, now), world, now)


def wanted(rollout: Rollout) -> dict[str, int]:
    return dict(Endpoint.objects.get(pk=rollout.endpoint_id).traffic_wanted)


def shares(rollout: Rollout, candidate: int) -> dict[str, int]:
    split = {str(rollout.stable_id): 1000 - candidate, str(rollout.candidate_id): candidate}
    return {pk: share for pk, share in split.items() if share}


def at_ten_percent(rollout: Rollout, now: datetime) -> Rollout:
    """The first step is reached."""
    tick(rollout, now)
    moved = tick(rollout, now + SECOND)
    assert (moved.weight, moved.reached_at) == (100, now + SECOND)
    return moved


def test_it_waits_for_the_replicas_before_any_traffic_moves(
    rollout: Rollout, world: World, now: datetime
) -> None:
    world.ready[rollout.candidate_id] = 0

    waiting = tick(rollout, now)

    assert (waiting.phase, waiting.weight) == (Phase.PREPARING, 0)
    assert waiting.reason == "Waiting for the candidate's replicas to be ready"
    assert wanted(rollout) == shares(rollout, 0)


def test_it_walks_through_all_steps_and_hands_over(
    rollout: Rollout, world: World, now: datetime
) -> None:
    assert rollout.stable is not None
    at = now
    for share in (100, 500):
        assert tick(rollout, at).weight == share
        assert tick(rollout, at + SECOND).reason.startswith(f"Watching {share / 10:g} % until")
        at += timedelta(seconds=61)
        waiting = tick(rollout, at)
        if share == 100:
            assert waiting.reason == "Waiting at 10 %: 0 of 100 requests to the candidate"
        world.took(rollout.candidate, 500)
        world.took(rollout.stable, 4500, 9)
        assert wanted(rollout) == shares(rollout, share) or share == 500
    for _ in range(4):
        at += SECOND
        done = tick(rollout, at)

    assert (done.phase, done.weight, done.reason) == (Phase.SUCCEEDED, 1000, "All steps passed")
    assert done.finished_at is not None
    endpoint = Endpoint.objects.get(pk=rollout.endpoint_id)
    assert endpoint.stable_id == rollout.candidate_id
    assert endpoint.traffic_wanted == {str(rollout.candidate_id): 1000}
    assert world.weights == {rollout.candidate_id: 1000}
    assert Alias.objects.get(name="production").wanted == 2
    promotion = Promotion.objects.get(pk=rollout.promotion_id)
    assert promotion.served_at == promotion.closed_at == done.finished_at
    event = Event.objects.get(verb="rollout.succeeded")
    assert (event.evidence["version"], event.evidence["stable_version"]) == (2, 1)
    assert event.evidence["digest"] == "sha256:v2b1"
    split = Event.objects.filter(verb="traffic.changed", environment="production").order_by("pk")
    assert [e.evidence["weights"] for e in split] == [
        {"1": 100.0}, {"1": 90.0, "2": 10.0}, {"1": 50.0, "2": 50.0}, {"2": 100.0},
    ]  # fmt: skip


def test_the_replaced_revision_stays_warm_for_a_while(
    rollout: Rollout, world: World, now: datetime
) -> None:
    Rollout.objects.update(phase=Phase.SUCCEEDED, finished_at=now)
    wishes.set_traffic(
        endpoint=rollout.endpoint, weights={rollout.candidate_id: 1000}, actor=None, reason="",
        now=now,
    )  # fmt: skip
    wishes.set_stable(endpoint=rollout.endpoint, revision=rollout.candidate, now=now)

    def kept() -> str:
        assert rollout.stable is not None
        rollout.stable.refresh_from_db()
        return rollout.stable.wanted

    reconciler.sweep(clock=Clock(now + timedelta(seconds=599)))
    assert kept() == RevisionWish.RUN
    reconciler.sweep(clock=Clock(now + timedelta(seconds=600)))
    assert kept() == RevisionWish.STOP
    assert Revision.objects.get(pk=rollout.candidate_id).wanted == RevisionWish.RUN


def test_errors_take_the_traffic_back_and_the_owner_is_told_what_was_seen(
    rollout: Rollout, world: World, now: datetime, cast: Cast
) -> None:
    at_ten_percent(rollout, now)
    world.took(rollout.candidate, 210, 17)
    world.took(rollout.stable, 1900, 4)

    going = tick(rollout, now + 5 * SECOND)
    assert (going.phase, going.weight) == (Phase.REVERTING, 0)
    assert wanted(rollout) == shares(rollout, 0)
    assert world.weights == {rollout.stable_id: 1000}
    back = tick(rollout, now + 6 * SECOND)

    cause = "The analysis failed at 10 %: errors 8.1 % against 0.2 %"
    assert (back.phase, back.reason) == (Phase.REVERTED, f"Rolled back. {cause}")
    assert back.finished_at == now + 6 * SECOND
    assert Revision.objects.get(pk=rollout.candidate_id).wanted == RevisionWish.STOP
    assert Endpoint.objects.get(pk=rollout.endpoint_id).stable_id == rollout.stable_id
    assert not Alias.objects.exists()
    assert Promotion.objects.get(pk=rollout.promotion_id).served_at is None
    event = Event.objects.get(verb="rollout.reverted")
    assert event.evidence["cause"] == cause
    assert event.evidence["analysis"]["verdict"] == "fail"
    assert event.evidence["analysis"]["candidate_requests"] == 210
    mails = Delivery.objects.filter(kind="rollout.reverted")
    assert {mail.user for mail in mails} == {cast.owner, cast.operator, cast.admin}
    mail = mails.get(user=cast.owner)
    assert mail.subject == (
        "Rolled back: flight-delay v2 in production, errors 8.1 % against 0.2 %"
    )
    assert "flight-delay v1 serves again" in mail.text
    assert mail.link.endswith(f"/rollouts/{rollout.pk}")


def test_its_story_has_a_line_for_each_change_and_none_for_each_tick(
    rollout: Rollout, world: World, now: datetime
) -> None:
    at_ten_percent(rollout, now)
    for seconds in range(2, 8):
        world.took(rollout.candidate, seconds)
        world.took(rollout.stable, 9 * seconds)
        tick(rollout, now + seconds * SECOND)
    world.took(rollout.candidate, 210, 17)
    world.took(rollout.stable, 1900, 4)
    tick(rollout, now + 8 * SECOND)
    tick(rollout, now + 9 * SECOND)

    story = Observation.objects.filter(rollout=rollout).order_by("pk")
    assert [(line.phase, line.weight, line.verdict) for line in story] == [
        ("preparing", 0, ""),
        ("progressing", 100, ""),
        ("progressing", 100, "unclear"),
        ("reverting", 0, "fail"),
        ("reverted", 0, ""),
    ]


def test_new_figures_are_kept_without_waking_those_who_wait_for_a_change(
    rollout: Rollout, world: World, now: datetime
) -> None:
    reached = at_ten_percent(rollout, now)
    world.took(rollout.candidate, 34)
    world.took(rollout.stable, 300)

    later = tick(rollout, now + 70 * SECOND)

    assert later.evidence["candidate_requests"] == 34
    assert later.reason == "Waiting at 10 %: 34 of 100 requests to the candidate"
    assert later.revision == reached.revision


def test_it_counts_from_the_step_on(rollout: Rollout, world: World, now: datetime) -> None:
    at_ten_percent(rollout, now)
    assert set(world.since) == {now}


def test_at_all_traffic_the_stable_revision_is_judged_by_its_past(
    rollout: Rollout, world: World, now: datetime
) -> None:
    Rollout.objects.update(phase=Phase.PROGRESSING, step=2, weight=1000)
    later = now + timedelta(minutes=30)
    Observation.objects.create(
        rollout=rollout, at=later, phase="progressing", step=2, weight=1000, reason="Moving"
    )

    tick(rollout, later)

    # Of both by moments, since those are of other times.
    assert world.since == [later]
    assert world.spans_since == [later - timedelta(days=7), later]


def test_at_all_traffic_a_stable_revision_that_hardly_served_is_no_measure(
    rollout: Rollout, world: World, now: datetime
) -> None:
    """It gets no more requests: a rollout that waited for thirty of them waited for ever."""
    Rollout.objects.update(phase=Phase.PROGRESSING, step=2, weight=1000)
    Observation.objects.create(
        rollout=rollout, at=now, phase="progressing", step=2, weight=1000, reason="Moving"
    )
    world.took(rollout.candidate, 200)
    world.took(rollout.stable, 9)
    found = reconciler.analyse(Rollout.objects.get(), now + 70 * SECOND)
    assert found is not None
    assert (found.verdict, found.stable_requests) == (Verdict.PASS, None)
    world.took(rollout.stable, 10)  # three spans of them, as many as are needed
    found = reconciler.analyse(Rollout.objects.get(), now + 70 * SECOND)
    assert found is not None
    assert found.stable_requests == 30


def test_a_crash_after_recording_heals_on_the_next_tick(
    rollout: Rollout, world: World, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        def crash(**given: object) -> None:
            raise ConnectionError("killed")

        broken.setattr(wishes, "set_traffic", crash)
        with pytest.raises(ConnectionError):
            tick(rollout, now)
    assert Rollout.objects.get(pk=rollout.pk).weight == 100
    assert wanted(rollout) == shares(rollout, 0)

    tick(rollout, now + SECOND)

    assert wanted(rollout) == shares(rollout, 100)
    assert world.weights == {rollout.stable_id: 900, rollout.candidate_id: 100}


def test_a_crash_on_the_way_back_heals_too(rollout: Rollout, world: World, now: datetime) -> None:
    world.obeys = False
    tick(rollout, now)  # 10 % is asked for and not yet there
    Rollout.objects.update(phase=Phase.REVERTING, weight=0, cause="Aborted by request")

    back = tick(rollout, now + SECOND)

    assert back.phase == Phase.REVERTED
    assert wanted(rollout) == shares(rollout, 0)
    assert Revision.objects.get(pk=rollout.candidate_id).wanted == RevisionWish.STOP


def test_an_abort_during_a_tick_is_not_overwritten(
    rollout: Rollout, world: World, now: datetime, cast: Cast
) -> None:
    def somebody_aborts() -> None:
        world.on_look = None
        steering.abort(rollout=rollout, actor=cast.operator, reason="wrong day", now=now)

    world.on_look = somebody_aborts
    untouched = tick(rollout, now)
    assert untouched.abort_wanted
    assert (untouched.phase, untouched.weight) == (Phase.PREPARING, 0)
    assert wanted(rollout) == shares(rollout, 0)

    assert tick(rollout, now + SECOND).phase == Phase.REVERTING
    back = tick(rollout, now + 2 * SECOND)

    assert (back.phase, back.cause) == (Phase.REVERTED, "Aborted by request: wrong day")


def test_a_second_worker_stays_out(rollout: Rollout, world: World, now: datetime) -> None:
    assert rollout.claim(now)

    left = tick(rollout, now)

    assert (left.phase, left.revision) == (Phase.PREPARING, 0)
    assert left.lease_until == now + timedelta(seconds=30)


def test_a_worker_that_lost_its_lease_does_not_give_another_ones_back(
    rollout: Rollout, now: datetime
) -> None:
    slow = Rollout.objects.get(pk=rollout.pk)
    assert slow.claim(now)
    other = Rollout.objects.get(pk=rollout.pk)
    later = now + timedelta(seconds=31)
    assert other.claim(later)

    slow.release(later)

    assert Rollout.objects.get(pk=rollout.pk).lease_until == later + timedelta(seconds=30)


def test_a_worker_whose_lease_another_took_writes_no_figures(
    rollout: Rollout, world: World, now: datetime
) -> None:
    at_ten_percent(rollout, now)
    clock = Clock(now + 70 * SECOND)

    def another_takes_over() -> None:
        world.on_look = None
        clock.move(31)
        world.took(rollout.candidate, 40)
        tick(rollout, clock())
        world.took(rollout.candidate, 34)

    world.on_look = another_takes_over
    reconciler.reconcile(rollout.pk, clock=clock)

    left = Rollout.objects.get(pk=rollout.pk)
    assert left.evidence["candidate_requests"] == 40
    assert left.reason == "Waiting at 10 %: 40 of 100 requests to the candidate"


def test_a_worker_whose_lease_ran_out_writes_nothing_and_the_next_tick_does(
    rollout: Rollout, world: World, now: datetime
) -> None:
    clock = Clock(now)
    world.on_look = lambda: clock.move(30)

    reconciler.reconcile(rollout.pk, clock=clock)
    left = Rollout.objects.get(pk=rollout.pk)
    assert (left.phase, left.weight, left.revision) == (Phase.PREPARING, 0, 0)
    assert wanted(rollout) == shares(rollout, 0)

    world.on_look = None
    assert tick(rollout, clock()).weight == 100


def test_a_worker_that_slept_after_recording_does_not_undo_what_its_successor_asked_for(
    rollout: Rollout, world: World, now: datetime, monkeypatch: pytest.MonkeyPatch, cast: Cast
) -> None:
    clock = Clock(now)
    settle = settling.settle

    def settle_and_sleep(**given: Any) -> bool:
        won = settle(**given)
        monkeypatch.setattr(settling, "settle", settle)
        clock.move(31)
        steering.abort(rollout=rollout, actor=cast.operator, reason="wrong day", now=clock())
        tick(rollout, clock())
        return won

    monkeypatch.setattr(settling, "settle", settle_and_sleep)
    reconciler.reconcile(rollout.pk, clock=clock)

    left = Rollout.objects.get(pk=rollout.pk)
    assert (left.phase, left.weight) == (Phase.REVERTING, 0)
    assert wanted(rollout) == shares(rollout, 0)


def test_each_rollout_of_a_sweep_has_its_own_time(
    rollout: Rollout, world: World, now: datetime, cast: Cast
) -> None:
    version = promotion_stage.a_version(rollout.endpoint.model, cast, now, 3)
    promotion_stage.built(version, now)
    promotions.sweep(now=now)
    other = stage.started(
        Promotion.objects.get(version=version, environment__name="staging"), world, now
    )
    world.weights = {}
    clock = Clock(now)
    leases: list[datetime] = []

    def slowly() -> None:
        leases.extend(
            Rollout.objects.filter(lease_until__gt=clock()).values_list("lease_until", flat=True)
        )
        clock.move(20)

    world.on_look = slowly
    reconciler.sweep(clock=clock)

    assert leases == [now + 30 * SECOND, now + 50 * SECOND]
    moved = Observation.objects.filter(phase=Phase.PROGRESSING).order_by("pk")
    assert [(line.rollout, line.at) for line in moved] == [
        (rollout, now + 20 * SECOND),
        (other, now + 40 * SECOND),
    ]
    splits = Event.objects.filter(verb="traffic.changed", at__gt=now).order_by("pk")
    assert [event.at for event in splits] == [now + 20 * SECOND, now + 40 * SECOND]


def test_a_hold_begins_when_the_share_was_seen(
    rollout: Rollout, world: World, now: datetime
) -> None:
    tick(rollout, now)
    clock = Clock(now + SECOND)
    world.on_look = lambda: clock.move(9)

    reconciler.reconcile(rollout.pk, clock=clock)

    assert Rollout.objects.get(pk=rollout.pk).reached_at == now + 10 * SECOND


@pytest.mark.parametrize("silent", [True, False])
def test_a_silent_backend_is_never_taken_for_zero(
    rollout: Rollout, world: World, now: datetime, silent: bool, caplog: pytest.LogCaptureFixture
) -> None:
    at_ten_percent(rollout, now)
    world.silent, world.weights = silent, None
    Rollout.objects.update(abort_wanted=True)

    with caplog.at_level(logging.ERROR):
        going = tick(rollout, now + SECOND)
        still = tick(rollout, now + timedelta(hours=1))

    assert (going.phase, still.phase) == (Phase.REVERTING, Phase.REVERTING)
    world.silent, world.weights = False, {rollout.stable_id or 0: 1000}
    assert tick(rollout, now + timedelta(hours=2)).phase == Phase.REVERTED


def test_a_bundle_that_changed_is_taken_back(rollout: Rollout, world: World, now: datetime) -> None:
    at_ten_percent(rollout, now)
    Version.objects.filter(pk=rollout.promotion.version_id).update(digest="sha256:other")

    tick(rollout, now + SECOND)

    assert tick(rollout, now + 2 * SECOND).cause == "The bundle changed after it was approved"


@pytest.fixture
def broken_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*given: Any) -> Any:
        raise ValueError("math domain error")

    monkeypatch.setattr(reconciler, "judge", breaks)


def test_an_analysis_that_breaks_waits_and_says_so(
    rollout: Rollout, now: datetime, broken_analysis: None, caplog: pytest.LogCaptureFixture
) -> None:
    at_ten_percent(rollout, now)

    waiting = tick(rollout, now + 70 * SECOND)

    words = "the analysis could not be made: ValueError: math domain error"
    assert (waiting.phase, waiting.reason) == (Phase.PROGRESSING, f"Waiting at 10 %: {words}")
    assert (waiting.evidence["verdict"], waiting.evidence["reason"]) == ("unclear", words)
    assert f"The analysis of rollout {rollout.pk} could not be made" in caplog.text


def test_an_analysis_that_breaks_does_not_stand_in_the_way_of_an_abort(
    rollout: Rollout, now: datetime, cast: Cast, broken_analysis: None
) -> None:
    at_ten_percent(rollout, now)
    steering.abort(rollout=rollout, actor=cast.operator, reason="wrong day", now=now)

    tick(rollout, now + 2 * SECOND)
    back = tick(rollout, now + 3 * SECOND)

    assert (back.phase, back.cause) == (Phase.REVERTED, "Aborted by request: wrong day")


def test_an_analysis_that_breaks_does_not_hide_a_bundle_that_changed(
    rollout: Rollout, now: datetime, broken_analysis: None
) -> None:
    at_ten_percent(rollout, now)
    Version.objects.filter(pk=rollout.promotion.version_id).update(digest="sha256:other")

    going = tick(rollout, now + 2 * SECOND)

    assert (going.phase, going.cause) == (
        Phase.REVERTING, "The bundle changed after it was approved",
    )  # fmt: skip


def test_a_first_version_whose_every_error_is_tolerated_moves_on(
    cast: Cast, now: datetime, world: World
) -> None:
    rollout = stage.started(stage.approved_first(cast, now), world, now)
    tolerances = {**rollout.plan["tolerances"], "error_rate_difference": 1}
    steps = [{"weight_permille": 1000, "hold_seconds": 0, "analysis": True}]
    Rollout.objects.update(plan={"steps": steps, "tolerances": tolerances})
    world.took(rollout.candidate, 40, 40)

    for seconds in range(3):
        done = tick(rollout, now + seconds * SECOND)

    assert (done.phase, done.evidence["verdict"]) == (Phase.SUCCEEDED, "pass")


def test_replicas_that_do_not_stay_up_end_it(rollout: Rollout, world: World, now: datetime) -> None:
    world.ready, world.failing = {}, {rollout.candidate_id: "exited with 1: no module sklearn"}

    tick(rollout, now)
    back = tick(rollout, now + SECOND)

    assert back.phase == Phase.REVERTED
    assert back.cause == (
        "The candidate's replicas do not stay up: exited with 1: no module sklearn"
    )


def test_the_first_revision_takes_everything_at_once(
    cast: Cast, now: datetime, world: World
) -> None:
    rollout = stage.started(stage.approved_first(cast, now), world, now)
    assert (rollout.stable, wanted(rollout)) == (None, {})

    for seconds in range(3):
        done = tick(rollout, now + seconds * SECOND)

    assert done.phase == Phase.SUCCEEDED
    assert world.weights == {rollout.candidate_id: 1000}


def test_a_first_production_version_is_not_split_with_nothing(
    cast: Cast, now: datetime, world: World
) -> None:
    promotion = stage.approved(cast, now)
    Endpoint.objects.update(stable=None, traffic_wanted={})

    rollout = stage.started(promotion, world, now)

    assert [step.weight for step in rollout.steps] == [1000]
    tick(rollout, now)
    tick(rollout, now + SECOND)
    assert tick(rollout, now + 2 * SECOND).phase == Phase.SUCCEEDED  # nobody calls it yet


def test_the_sweep_starts_what_was_approved_one_at_a_time(
    cast: Cast, now: datetime, world: World
) -> None:
    first = stage.approved_first(cast, now)
    second_version = promotion_stage.a_version(first.version.model, cast, now, 2)
    promotion_stage.built(second_version, now)
    promotions.sweep(now=now)

    reconciler.sweep(clock=Clock(now))
    reconciler.sweep(clock=Clock(now))

    assert [r.promotion for r in Rollout.objects.all()] == [first]
    world.ready[Rollout.objects.get().candidate_id] = 1
    for seconds in range(1, 6):
        reconciler.sweep(clock=Clock(now + seconds * SECOND))
    assert [r.candidate.version.number for r in Rollout.objects.order_by("pk")] == [1, 2]


def test_one_rollout_that_breaks_does_not_hold_up_the_others(
    rollout: Rollout, cast: Cast, now: datetime, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    Rollout.objects.update(plan={"steps": []})
    version = promotion_stage.a_version(rollout.endpoint.model, cast, now, 3)
    promotion_stage.built(version, now)
    promotions.sweep(now=now)

    reconciler.sweep(clock=Clock(now))

    assert "could not be reconciled" in caplog.text
    assert Rollout.objects.filter(endpoint__environment__name="staging").exists()


def test_finished_rollouts_are_never_due(rollout: Rollout, now: datetime) -> None:
    assert list(Rollout.objects.due(now)) == [rollout]
    Rollout.objects.update(phase=Phase.SUCCEEDED)

    assert not Rollout.objects.due(now)
