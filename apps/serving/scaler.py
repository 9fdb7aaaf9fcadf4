"""The engine that follows the traffic: looks at what is in flight, decides, scales, wakes.

What it remembers is in memory only: killed at any moment, the next one begins to watch anew and
takes nothing away before it has seen a whole window.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from apps.registry import selectors as registry
from apps.registry.policy import serving_of
from apps.registry.serving_policy import Serving
from apps.serving import backends, scaling, selectors
from apps.serving.decide import Wanted, Watched, decide
from apps.serving.doorkeeper import Doorkeeper
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Environment, Revision
from apps.serving.services import sights

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
USAGE_SECONDS = 10.0
WAKING_SECONDS = 0.25


class Scaler:
    """One installation's scaler."""

    def __init__(
        self,
        now: Callable[[], datetime] = timezone.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._clock = clock
        self._watched: dict[int, Watched] = {}
        self._knocked = threading.Event()
        self._used: dict[int, tuple[float, float]] = {}
        self._used_at = self._seen_at = clock()
        self.doorkeeper = Doorkeeper(lambda _: self._knocked.set())

    def run(self, stop: threading.Event) -> None:
        """It works until it is told to stop; a database that is away is waited for."""
        pause = TICK_SECONDS
        while not stop.is_set():
            try:
                self.tick()
                pause = WAKING_SECONDS if self.doorkeeper.waiting else TICK_SECONDS
            except (OperationalError, InterfaceError) as down:
                pause = min(max(pause * 2, TICK_SECONDS), LONGEST_PAUSE_SECONDS)
                log.warning("The database did not answer; again in %.1f s: %s", pause, down)
                connection.close()
            except Exception:
                # One endpoint's trouble must not keep all others from growing.
                pause = min(max(pause * 2, TICK_SECONDS), LONGEST_PAUSE_SECONDS)
                log.exception("A tick failed; again in %.1f s", pause)
            self._knocked.wait(pause)
            self._knocked.clear()

    def tick(self) -> None:
        """It wakes whatever somebody waits for, and looks at all backends once."""
        self._wake()
        for alias in sorted(set(Environment.objects.values_list("backend", flat=True))):
            if alias in settings.SERVING_BACKENDS:
                self._follow(alias)
        self._account()

    def _follow(self, alias: str) -> None:
        flow = backends.load(alias).flow()
        if flow is None:
            return  # nobody knows what is in flight: everything stays as it is
        revisions = _running(alias)
        parts = _parts(revisions)
        elapsed = self._clock() - self._seen_at
        for revision in revisions:
            part = parts[revision.pk]
            self._use(revision, part, elapsed)
            weight = revision.endpoint.traffic_wanted.get(str(revision.pk), 0)
            is_stable = revision.endpoint.stable_id == revision.pk
            if not weight and not is_stable:
                continue  # kept as it is: a way back must be wide enough at once
            wanted = self._decide(revision, part, flow, may_sleep=is_stable)
            if wanted.replicas != revision.replicas:
                self._scale(revision, wanted)
        self._watched = {pk: self._watched[pk] for pk in self._watched.keys() & _keys(revisions)}
        self._seen_at = self._clock()

    def _decide(
        self,
        revision: Revision,
        part: Serving,
        flow: Mapping[int, backends.Flow],
        *,
        may_sleep: bool,
    ) -> Wanted:
        at = self._clock()
        watched = self._watched.setdefault(revision.pk, Watched(since=at))
        seen = flow.get(revision.pk, backends.Flow(0, watched.requests))
        watched.see(at=at, in_flight=seen.in_flight, requests=seen.requests)
        capabilities = backends.load(revision.endpoint.environment.backend).capabilities
        return decide(
            part.scaling,
            watched,
            current=revision.replicas,
            may_sleep=may_sleep and capabilities.scale_to_zero,
            at=at,
            now=self._now(),
        )

    def _scale(self, revision: Revision, wanted: Wanted) -> None:
        more = wanted.replicas - revision.replicas
        if more > 0 and revision.replicas and (short := selectors.shortage_for(revision, more)):
            if revision.scaled_reason != short:
                log.warning("%s stays at %d replicas: %s", revision, revision.replicas, short)
                Revision.objects.filter(pk=revision.pk).update(scaled_reason=short)
            return
        now = self._now()
        if scaling.scale(
            revision=revision, replicas=wanted.replicas, reason=wanted.reason, now=now
        ):
            log.info("%s: %d replicas. %s", revision, wanted.replicas, wanted.reason)
            sights.converge(revision.endpoint, now)

    def _wake(self) -> None:
        """It starts what somebody waits for, and opens when a replica is ready."""
        for pk in sorted(self.doorkeeper.waiting):
            revision = (
                Revision.objects.select_related(
                    "endpoint__model", "endpoint__environment", "version__model"
                )
                .filter(pk=pk, wanted=RevisionWish.RUN)
                .first()
            )
            if revision is None:
                self.doorkeeper.refuse(pk, "This revision runs no more; send the request again")
                continue
            if not revision.replicas:
                floor = selectors.serving_part(revision.endpoint).scaling.floor(self._now())
                scaling.scale(
                    revision=revision,
                    replicas=max(1, floor),
                    reason="A request came",
                    now=self._now(),
                )
                # It may not sleep again before it has been idle once more.
                self._watched.pop(pk, None)
            sights.converge(revision.endpoint, self._now())
            sight = sights.look(revision.endpoint)
            revision.refresh_from_db(fields=["reason"])
            self.doorkeeper.reasons[pk] = revision.reason
            if sight.ready.get(pk):
                self.doorkeeper.open_for(pk)
            elif pk in sight.failing:
                self.doorkeeper.refuse(pk, f"The model does not start: {sight.failing[pk]}")

    def _use(self, revision: Revision, part: Serving, elapsed: float) -> None:
        pk = revision.endpoint_id
        used, most = self._used.get(pk, (0.0, 0.0))
        # What all replicas that may be would have used counts once, for what serves.
        ceiling = part.scaling.max if revision.endpoint.stable_id == revision.pk else 0
        self._used[pk] = (used + revision.replicas * elapsed, most + ceiling * elapsed)

    def _account(self) -> None:
        if self._clock() - self._used_at < USAGE_SECONDS:
            return
        used, self._used = self._used, {}
        self._used_at = self._clock()
        scaling.add_usage(used, now=self._now())


def _running(alias: str) -> list[Revision]:
    rows = Revision.objects.filter(
        wanted=RevisionWish.RUN, endpoint__environment__backend=alias
    ).select_related("endpoint__model", "endpoint__environment", "version__model")
    return list(rows.order_by("pk"))


def _parts(revisions: list[Revision]) -> dict[int, Serving]:
    documents = registry.documents(revision.endpoint.model_id for revision in revisions)
    return {
        revision.pk: serving_of(
            documents.get(revision.endpoint.model_id, {}), revision.endpoint.environment.name
        )
        for revision in revisions
    }


def _keys(revisions: list[Revision]) -> set[int]:
    return {revision.pk for revision in revisions}
