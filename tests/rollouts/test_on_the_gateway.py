"""A rollout whose first step only copies requests, and the way back, on the real gateway."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apps.promotions import services as promotions
from apps.rollouts import reconciler
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services import rollbacks, steering
from apps.serving.backends.local import LocalBackend
from apps.serving.models import Endpoint, Revision
from apps.serving.services import sights, wishes
from apps.validation.lifecycle import Verdict
from tests.people import Cast
from tests.promotions import stage
from tests.serving.cast import Callers, until

pytestmark = pytest.mark.django_db
INFER = "/production/v2/models/flight-delay/infer"
POLICY = stage.POLICY.replace(
    "        - {weight: 10, hold_seconds: 60}\n        - {weight: 50, hold_seconds: 60}\n"
    "        - {weight: 100, hold_seconds: 0}\n",
    "        - {weight: 0, hold_seconds: 0, analysis: false}\n"
    "        - {weight: 0, shadow: 100, hold_seconds: 0, analysis: false}\n"
    "        - {weight: 100, hold_seconds: 0, analysis: false}\n",
)


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def rollout(backend: LocalBackend, bundle: Path, cast: Cast, now: datetime) -> Rollout:
    """v1 answers callers in production; v2 was approved and is on its way."""
    model = stage.a_model(cast, now, POLICY)
    versions = [stage.a_version(model, cast, now, number) for number in (1, 2)]
    builds = [stage.built(version, now, "sha256:whole") for version in versions]
    for build in builds:
        build.bundle_path, build.environment_path = str(bundle), sys.prefix
        build.save()
    stable = stage.serves(builds[0], "production", now)
    wishes.set_traffic(
        endpoint=Endpoint.objects.get(pk=stable.endpoint_id), weights={stable.pk: 1000},
        actor=None, reason="", now=now,
    )  # fmt: skip
    until("v1 served", lambda: _serves(stable))
    stage.serves(builds[1], "staging", now)
    promotion = stage.asked(versions[1], cast, now)
    stage.checked(promotion, Verdict.PASS, now)
    promotions.tick(promotion, now=now)
    promotions.approve(promotion=promotion, actor=cast.approver, words="", now=now)
    return steering.start(promotion=promotion, actor=None, now=clock())


def _serves(revision: Revision) -> bool:
    """The split of a stable revision is in force before its replica is ready."""
    sight = _converged(revision)
    return sight.weights == {revision.pk: 1000} and sight.ready.get(revision.pk) == 1


def _converged(revision: Revision) -> sights.Sight:
    endpoint = Endpoint.objects.get(pk=revision.endpoint_id)
    sights.converge(endpoint, clock())
    return sights.look(endpoint)


def test_copies_first_then_everything_and_back_at_once(rollout: Rollout, cast: Cast) -> None:
    stable, candidate = rollout.stable, rollout.candidate
    assert stable is not None
    orders: list[tuple[int, int]] = []

    def moved() -> Rollout:
        reconciler.reconcile(rollout.pk, clock=clock)
        sights.sweep(now=clock())  # as the worker does beside it
        seen = Rollout.objects.get(pk=rollout.pk)
        if (seen.weight, seen.shadow) not in orders[-1:]:
            orders.append((seen.weight, seen.shadow))
        assert seen.phase != Phase.REVERTING, seen.reason
        return seen

    def reached(phase: Phase) -> Rollout | None:
        seen = moved()
        return seen if seen.phase == phase else None

    with Callers(INFER) as callers:
        callers.wait_for(50)
        until("the candidate was ready", lambda: reached(Phase.PROGRESSING))
        done = until("it had succeeded", lambda: reached(Phase.SUCCEEDED))
        assert orders == [(0, 0), (0, 1000), (1000, 0)]
        sight = sights.look(done.endpoint)
        assert (sight.weights, sight.shadow) == ({candidate.pk: 1000}, {})
        _converged(candidate)  # writes down that v1 still is ready

        began = time.monotonic()
        rollbacks.roll_back(endpoint=done.endpoint, actor=cast.operator, reason="slow", now=clock())
        took = time.monotonic() - began
        assert sights.look(done.endpoint).weights == {stable.pk: 1000}
        callers.wait_for(50)  # more than are under way
        callers.reset()
        callers.wait_for(100)

    assert callers.lost == []
    assert set(callers.counts) == {str(stable.pk)}
    # Less than a second; but the processors may be busy with something else.
    assert took < 10
