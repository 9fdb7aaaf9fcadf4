"""The way back at once: what it moves, whom it tells, and what it refuses."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.audit.models import Event
from apps.core.errors import Unavailable
from apps.notifications.models import Delivery
from apps.promotions.lifecycle import Status
from apps.registry.models import Alias
from apps.rollouts import reconciler, shadows
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollback, Rollout
from apps.rollouts.services import rollbacks
from apps.rollouts.services.steering import RolloutRefused
from apps.serving.lifecycle import RevisionState, RevisionWish
from apps.serving.models import Endpoint, Revision
from apps.serving.services import sights, wishes
from tests.people import Cast, bearer
from tests.promotions import stage as promotion_stage
from tests.rollouts import stage
from tests.rollouts.stage import Clock, World, tick

pytestmark = pytest.mark.django_db
SECOND = timedelta(seconds=1)
URL = "/endpoints/production/flight-delay/rollback"
AT_ONCE = promotion_stage.POLICY.replace(
    "        - {weight: 10, hold_seconds: 60}\n        - {weight: 50, hold_seconds: 60}\n"
    "        - {weight: 100, hold_seconds: 0}\n",
    "        - {weight: 100, hold_seconds: 0, analysis: false}\n",
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


@pytest.fixture
def endpoint(cast: Cast, now: datetime, world: World) -> Endpoint:
    """v2 replaced v1 in production a moment ago; both run and are ready."""
    rollout = stage.started(stage.approved(cast, now, AT_ONCE), world, now)
    for _ in range(3):
        done = tick(rollout, now)
    assert done.phase == Phase.SUCCEEDED
    Revision.objects.update(state=RevisionState.READY, ready_replicas=1)
    return done.endpoint


def revision(endpoint: Endpoint, version: int) -> Revision:
    return endpoint.revisions.get(version__number=version)


def back(endpoint: Endpoint, cast: Cast, now: datetime, **given: Any) -> Rollback:
    asked = {"actor": cast.operator, "reason": "callers complain", **given}
    return rollbacks.roll_back(endpoint=endpoint, now=now, **asked)


def serves(endpoint: Endpoint) -> int:
    """The version that has all traffic and is the stable one."""
    row = Endpoint.objects.select_related("stable__version").get(pk=endpoint.pk)
    assert row.stable is not None
    assert row.traffic_wanted == {str(row.stable_id): 1000}
    return row.stable.version.number


def refused(code: str, endpoint: Endpoint, cast: Cast, now: datetime, **given: Any) -> str:
    """It is refused with this code, and nothing changes; gives the words."""
    before = _everything()
    with pytest.raises(RolloutRefused) as caught:
        back(endpoint, cast, now, **given)
    assert (caught.value.code, _everything()) == (code, before)
    return caught.value.message


def _everything() -> tuple[list[Any], ...]:
    tables = (Rollback, Rollout, Endpoint, Revision, Alias, Delivery)
    rows = [list(table.objects.order_by("pk").values()) for table in tables]
    return (*rows, list(Event.objects.order_by("pk").values_list("pk", flat=True)))


def test_all_traffic_goes_back_at_once(
    endpoint: Endpoint, cast: Cast, now: datetime, world: World
) -> None:
    converged = world.converged

    done = back(endpoint, cast, now + SECOND)

    assert (done.left.version.number, done.to.version.number, done.at) == (2, 1, now + SECOND)
    assert serves(endpoint) == 1
    assert Alias.objects.get(name="production").wanted == 1
    assert world.converged == converged + 1
    assert world.weights == {done.to_id: 1000}
    event = Event.objects.get(verb="endpoint.rolled_back")
    assert (event.actor, event.reason, event.environment) == (
        cast.operator, "callers complain", "production",
    )  # fmt: skip
    assert event.evidence == {
        "from_version": 2,
        "to_version": 1,
        "from_revision": done.left_id,
        "to_revision": done.to_id,
        "digest": "sha256:v1b1",
    }
    splits = Event.objects.filter(verb="traffic.changed", environment="production")
    split = splits.order_by("pk").last()
    assert split is not None
    assert (split.actor, split.evidence["weights"]) == (cast.operator, {"1": 100.0})


def test_what_is_gone_back_to_gets_no_copies_any_more(
    endpoint: Endpoint, cast: Cast, now: datetime, world: World
) -> None:
    """It has all traffic: each request would reach it twice."""
    first = revision(endpoint, 1)
    shadows.start(
        endpoint=endpoint, revision=first, share=500, actor=cast.operator, reason="why", now=now
    )

    back(endpoint, cast, now)

    assert serves(endpoint) == 1
    assert Endpoint.objects.get(pk=endpoint.pk).shadow_wanted == {}
    assert (world.weights, world.copies) == ({first.pk: 1000}, {})
    last = Event.objects.filter(verb="endpoint.shadow_changed").order_by("pk").last()
    assert last is not None
    assert (last.actor, last.reason, last.evidence["shadow"]) == (
        cast.operator, "callers complain", {},
    )  # fmt: skip


def test_the_owners_are_told_why(endpoint: Endpoint, cast: Cast, now: datetime) -> None:
    back(endpoint, cast, now)

    mails = Delivery.objects.filter(kind="endpoint.rolled_back")
    assert {mail.user for mail in mails} == {cast.owner, cast.operator, cast.admin}
    mail = mails.get(user=cast.owner)
    assert mail.subject == "Rolled back: flight-delay v2 in production, v1 serves again"
    assert "otto took flight-delay v2 out of production: callers complain" in mail.text
    assert mail.link.endswith("/endpoints/production/flight-delay")


def test_what_was_left_stays_warm_for_a_while(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    back(endpoint, cast, now + 300 * SECOND)

    def wanted(version: int) -> str:
        return revision(endpoint, version).wanted

    reconciler.sweep(clock=Clock(now + 899 * SECOND))
    assert (wanted(1), wanted(2)) == (RevisionWish.RUN, RevisionWish.RUN)
    reconciler.sweep(clock=Clock(now + 900 * SECOND))
    assert (wanted(1), wanted(2)) == (RevisionWish.RUN, RevisionWish.STOP)


def test_the_last_time_that_it_was_left_counts(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    back(endpoint, cast, now + 100 * SECOND)
    back(endpoint, cast, now + 200 * SECOND, to=revision(endpoint, 2))
    assert serves(endpoint) == 2

    reconciler.sweep(clock=Clock(now + 799 * SECOND))
    assert revision(endpoint, 1).wanted == RevisionWish.RUN
    reconciler.sweep(clock=Clock(now + 800 * SECOND))
    assert revision(endpoint, 1).wanted == RevisionWish.STOP
    assert revision(endpoint, 2).wanted == RevisionWish.RUN


@pytest.mark.parametrize("names_it", [True, False])
def test_a_second_click_and_a_second_person_change_nothing(
    endpoint: Endpoint, cast: Cast, now: datetime, names_it: bool
) -> None:
    given = {"to": revision(endpoint, 1)} if names_it else {}
    first = back(endpoint, cast, now, **given)
    before = _everything()

    again = back(endpoint, cast, now + SECOND, actor=cast.admin, reason="mine", **given)

    assert (again, again.reason, _everything()) == (first, "callers complain", before)
    assert serves(endpoint) == 1


def test_a_rollback_of_long_ago_is_not_the_answer_to_a_new_one(
    endpoint: Endpoint, cast: Cast, now: datetime, world: World
) -> None:
    back(endpoint, cast, now)
    promotion = Rollout.objects.get().promotion
    # v2 comes in again, as it may after another promotion, and then v1.
    for version in (2, 1):
        stable, candidate = revision(endpoint, 3 - version), revision(endpoint, version)
        promotion.pk = None
        promotion.status, promotion.closed_at = Status.APPROVED, None
        promotion.save(force_insert=True)
        Rollout.objects.create(
            endpoint=endpoint, promotion=promotion, candidate=candidate, stable=stable,
            plan={"steps": []}, phase=Phase.SUCCEEDED, created_at=now, finished_at=now + SECOND,
        )  # fmt: skip
        shares = {candidate.pk: 1000}
        wishes.set_traffic(endpoint=endpoint, weights=shares, actor=None, reason="", now=now)
        wishes.set_stable(endpoint=endpoint, revision=candidate, now=now)

    done = back(endpoint, cast, now + 2 * SECOND)

    assert (done.left.version.number, done.to.version.number) == (1, 2)


def test_a_reason_is_required(endpoint: Endpoint, cast: Cast, now: datetime) -> None:
    words = refused("reason_missing", endpoint, cast, now, reason=" \n")

    assert words == "Say why it is rolled back: its owners are told"


def test_while_a_rollout_moves_that_one_is_aborted(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    Rollout.objects.update(phase=Phase.PAUSED)

    assert refused("endpoint_busy", endpoint, cast, now) == (
        "The rollout of flight-delay v2 to production still moves; abort it, which takes all "
        "traffic back"
    )


def test_what_no_longer_runs_is_promoted_instead(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    first = revision(endpoint, 1)
    wishes.retire(revision=first, now=now)
    words = "flight-delay v1 no longer runs in production; request a promotion of v1 instead"

    assert refused("no_way_back", endpoint, cast, now) == words
    assert refused("no_way_back", endpoint, cast, now, to=first) == words


def test_before_a_first_version_there_was_nothing(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    Rollout.objects.update(stable=None)

    assert refused("no_way_back", endpoint, cast, now) == (
        "Nothing served flight-delay in production before flight-delay v2; request a promotion of "
        "the version that should serve"
    )
    Endpoint.objects.filter(pk=endpoint.pk).update(stable=None)
    assert refused("nothing_serves", endpoint, cast, now) == (
        "Nothing serves flight-delay in production that could be rolled back; request a promotion "
        "of the version that should serve"
    )


def test_what_is_not_ready_is_not_gone_to(endpoint: Endpoint, cast: Cast, now: datetime) -> None:
    first = Revision.objects.filter(pk=revision(endpoint, 1).pk)
    first.update(ready_replicas=0, state=RevisionState.FAILING, reason="exited with 1")

    assert refused("not_ready", endpoint, cast, now) == (
        "flight-delay v1 is not ready in production: it is failing (exited with 1); try again "
        "when it is"
    )
    # What sleeps answers the next request.
    first.update(state=RevisionState.ASLEEP, replicas=0, reason="")
    back(endpoint, cast, now)
    assert serves(endpoint) == 1


def test_what_serves_already_and_what_runs_elsewhere(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    staging = Revision.objects.get(endpoint__environment__name="staging")

    assert refused("already_serving", endpoint, cast, now, to=revision(endpoint, 2)) == (
        "flight-delay v2 serves in production already"
    )
    refused("revision_unknown", endpoint, cast, now, to=staging)


def test_a_backend_that_is_down_gets_it_later(
    endpoint: Endpoint, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def down(endpoint: Endpoint, now: datetime) -> None:
        raise Unavailable("The supervisor does not answer")

    monkeypatch.setattr(sights, "converge", down)

    back(endpoint, cast, now)

    assert serves(endpoint) == 1
    assert "The supervisor does not answer" in caplog.text


# ---- over HTTP ----------------------------------------------------------------------------------


def post(client: Client, user: User, key: str = "", **body: Any) -> tuple[int, Any]:
    headers = bearer(user) | ({"Idempotency-Key": key} if key else {})
    answer = client.post(f"/api/v1{URL}", body, content_type="application/json", headers=headers)
    return answer.status_code, answer.json()


def test_an_operator_rolls_back_over_the_api(
    client: Client, endpoint: Endpoint, cast: Cast
) -> None:
    assert post(client, cast.approver, reason="slow")[0] == 403
    assert post(client, cast.stranger, reason="slow")[0] == 404
    assert post(client, cast.operator)[0] == 400
    assert serves(endpoint) == 2

    status, done = post(client, cast.operator, "mine", version=1, reason="slow")

    assert status == 200
    assert {name: done[name] for name in ("from_version", "to_version", "reason")} == {
        "from_version": 2, "to_version": 1, "reason": "slow",
    }  # fmt: skip
    assert (done["model"], done["environment"], done["endpoint"]) == (
        "flight-delay", "production", "flight-delay",
    )  # fmt: skip
    assert post(client, cast.operator, "mine", version=1, reason="slow") == (status, done)
    assert post(client, cast.operator, reason="again") == (status, done)
    status, error = post(client, cast.operator, version=9, reason="slow")
    assert (status, error["code"], error["message"]) == (
        409, "revision_unknown", "v9 never ran in production; request a promotion of it",
    )  # fmt: skip


# ---- on the page --------------------------------------------------------------------------------


def page(user: User) -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(URL)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_offers_the_way_back_to_who_may_take_it(endpoint: Endpoint, cast: Cast) -> None:
    text = page(cast.operator)

    assert "Roll back to v1</button>" in text
    assert 'data-confirm="Roll back flight-delay in production to v1?"' in text
    assert "All traffic goes from v2 to v1 at once." in text
    assert '<input type="hidden" name="version" value="1">' in text
    assert "<form" not in page(cast.viewer)
    assert "v1 still runs: an operator of Flights can roll back to it at once." in page(cast.viewer)


def test_a_click_on_the_page_rolls_back(endpoint: Endpoint, cast: Cast, client: Client) -> None:
    client.force_login(cast.viewer)
    assert client.post(URL, {"version": "1", "reason": "slow"}).status_code == 403
    client.force_login(cast.operator)
    refused = client.post(URL, {"version": "1", "reason": ""})
    assert (refused.status_code, serves(endpoint)) == (409, 2)
    assert "Say why it is rolled back" in refused.content.decode()

    done = client.post(URL, {"version": "1", "reason": "slow"})

    assert (done.status_code, done.headers["Location"]) == (
        302, "/endpoints/production/flight-delay",
    )  # fmt: skip
    assert serves(endpoint) == 1
    text = page(cast.operator)
    assert "v1 serves again in place of v2" in text
    assert "Roll back to v2</button>" in text


def test_the_page_says_how_to_get_back_otherwise(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    first = revision(endpoint, 1)
    Revision.objects.filter(pk=first.pk).update(ready_replicas=0, state=RevisionState.STARTING)
    assert "v1 runs, but is not ready to take traffic" in page(cast.operator)
    wishes.retire(revision=first, now=now)
    text = page(cast.operator)
    assert "No other version runs here. To go back to v1," in text
    assert "/models/flight-delay/versions/1" in text
    Rollout.objects.update(phase=Phase.PROGRESSING)
    assert "aborting its rollout takes all traffic back" in page(cast.operator)
