"""A rollout on a backend that does what it is told, when the test lets it."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from apps.core.errors import Unavailable
from apps.monitoring.selectors import requests as monitoring
from apps.monitoring.sums import Sums
from apps.promotions import services as promotions
from apps.promotions.models import Promotion
from apps.rollouts import reconciler
from apps.rollouts.models import Rollout
from apps.rollouts.services import steering
from apps.serving.models import Endpoint, Revision
from apps.serving.services import sights
from tests.people import Cast
from tests.promotions import stage


@dataclass
class World:
    """What the backend and the gateway's rollups say; the wishes stand in the rows, as ever."""

    weights: dict[int, int] | None = field(default_factory=dict)
    copies: dict[int, int] | None = field(default_factory=dict)
    ready: dict[int, int] = field(default_factory=dict)
    failing: dict[int, str] = field(default_factory=dict)
    sums: dict[int, Sums] = field(default_factory=dict)
    copied: dict[int, Sums] = field(default_factory=dict)  # what answers to copies were like
    obeys: bool = True
    silent: bool = False
    converged: int = 0
    on_look: Any = None
    since: list[datetime] = field(default_factory=list)
    spans_since: list[datetime] = field(default_factory=list)

    def look(self, endpoint: Endpoint) -> sights.Sight:
        if self.on_look is not None:
            self.on_look()
        if self.silent:
            raise Unavailable("The supervisor does not answer")
        weights = None if self.weights is None else dict(self.weights)
        copies = None if self.copies is None else dict(self.copies)
        return sights.Sight(weights, dict(self.ready), dict(self.failing), copies)

    def converge(self, endpoint: Endpoint, now: datetime) -> None:
        self.converged += 1
        if self.obeys and self.weights is not None:
            endpoint.refresh_from_db()
            self.weights = {int(pk): weight for pk, weight in endpoint.traffic_wanted.items()}
        if self.obeys and self.copies is not None:
            self.copies = {int(pk): share for pk, share in endpoint.shadow_wanted.items()}

    def compare(
        self, *, candidate: Revision, stable: Revision | None, since: datetime, now: datetime
    ) -> tuple[Sums, Sums | None]:
        self.since.append(since)
        theirs = None if stable is None else self.sums.get(stable.pk, Sums())
        return self.sums.get(candidate.pk, Sums()), theirs

    def compare_shadow(
        self, *, candidate: Revision, stable: Revision | None, since: datetime, now: datetime
    ) -> tuple[Sums, Sums | None]:
        theirs = None if stable is None else self.sums.get(stable.pk, Sums())
        return self.copied.get(candidate.pk, Sums()), theirs

    def spans(self, *, revision: Revision, since: datetime, now: datetime) -> list[Sums]:
        self.spans_since.append(since)
        return [self.sums[revision.pk]] * 3 if revision.pk in self.sums else []

    def took(
        self, revision: Revision | None, requests: int, errors: int = 0, *, copied: bool = False
    ) -> None:
        """This revision answered so many requests within 10 ms, and failed so many."""
        assert revision is not None
        sums = Sums(requests=requests, server_errors=errors, latency_count=requests - errors)
        logs = [2.0 + 0.3 * (place % 3) for place in range(sums.latency_count)]
        sums.log_latency_sum = sum(logs)
        sums.log_latency_square_sum = sum(value**2 for value in logs)
        sums.bins[300] = sums.latency_count
        (self.copied if copied else self.sums)[revision.pk] = sums


@dataclass
class Clock:
    """It stands still until a test moves it."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)


def set_up(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(sights, "look", world.look)
    monkeypatch.setattr(sights, "converge", world.converge)
    monkeypatch.setattr(monitoring, "compare", world.compare)
    monkeypatch.setattr(monitoring, "compare_shadow", world.compare_shadow)
    monkeypatch.setattr(monitoring, "spans", world.spans)
    return world


def approved(cast: Cast, now: datetime, policy: str = stage.POLICY) -> Promotion:
    """v1 serves in production; v2 was approved for it."""
    promotion = stage.waiting(cast, now, policy=policy)
    return promotions.approve(promotion=promotion, actor=cast.approver, words="", now=now)


def approved_first(cast: Cast, now: datetime) -> Promotion:
    """v1 was approved for staging, where nothing serves."""
    model = stage.a_model(cast, now)
    stage.built(stage.a_version(model, cast, now), now)
    stage.environment("staging")
    promotions.sweep(now=now)
    return Promotion.objects.get()


def started(promotion: Promotion, world: World, now: datetime) -> Rollout:
    """Its rollout, with the candidate's replicas up."""
    rollout = steering.start(promotion=promotion, actor=None, now=now)
    world.weights = {int(pk): weight for pk, weight in rollout.endpoint.traffic_wanted.items()}
    world.ready[rollout.candidate_id] = 1
    return rollout


def tick(rollout: Rollout, now: datetime) -> Rollout:
    reconciler.reconcile(rollout.pk, clock=Clock(now))
    return Rollout.objects.get(pk=rollout.pk)
