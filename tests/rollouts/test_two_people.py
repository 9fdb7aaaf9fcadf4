"""Two people roll back at the same moment: the traffic goes back once, both are told the same."""

from collections.abc import Callable
from datetime import datetime
from threading import Barrier, Thread

import pytest
from django.db import connection

from apps.audit.models import Event
from apps.core.errors import Refused
from apps.rollouts.models import Rollback
from apps.rollouts.services import rollbacks
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision
from apps.serving.services import wishes
from tests.people import cast as on_stage
from tests.rollouts import stage
from tests.rollouts.stage import World, tick
from tests.rollouts.test_rollback import AT_ONCE

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """It makes the calls at the same moment and gives what each answered, or its refusal's code."""
    ready = Barrier(len(calls))
    ends: list[object] = []

    def run(call: Callable[[], object]) -> None:
        try:
            connection.ensure_connection()
            ready.wait(timeout=10)
            ends.append(call())
        except Refused as refused:
            ends.append(refused.code)
        finally:
            connection.close()

    threads = [Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return ends


@pytest.mark.parametrize("names_it", [True, False])
def test_it_goes_back_once(now: datetime, world: World, names_it: bool) -> None:
    cast = on_stage()
    rollout = stage.started(stage.approved(cast, now, AT_ONCE), world, now)
    for _ in range(3):
        done = tick(rollout, now)
    Revision.objects.update(state=RevisionState.READY, ready_replicas=1)
    before, after = done.stable, done.candidate
    assert before is not None

    def click(person: str) -> Callable[[], object]:
        return lambda: rollbacks.roll_back(
            endpoint=Endpoint.objects.get(pk=done.endpoint_id),
            to=before if names_it else None,
            actor=getattr(cast, person),
            reason=person,
            now=now,
        )

    ends = at_once(click("operator"), click("admin"))

    rollback = Rollback.objects.get()
    assert ends == [rollback, rollback]
    assert (rollback.left, rollback.to) == (after, before)
    assert Event.objects.filter(verb="endpoint.rolled_back").count() == 1


def test_what_is_retired_at_this_moment_is_either_gone_to_or_gone(
    now: datetime, world: World
) -> None:
    cast = on_stage()
    rollout = stage.started(stage.approved(cast, now, AT_ONCE), world, now)
    for _ in range(3):
        done = tick(rollout, now)
    Revision.objects.update(state=RevisionState.READY, ready_replicas=1)
    before = done.stable
    assert before is not None
    endpoint = Endpoint.objects.get(pk=done.endpoint_id)

    ends = at_once(
        lambda: rollbacks.roll_back(endpoint=endpoint, actor=cast.admin, reason="slow", now=now),
        lambda: wishes.retire(revision=before, now=now),
    )

    wanted = Revision.objects.get(pk=before.pk).wanted
    if "no_way_back" in ends:
        assert (wanted, Rollback.objects.count()) == (RevisionWish.STOP, 0)
    else:
        assert (wanted, Rollback.objects.count()) == (RevisionWish.RUN, 1)
