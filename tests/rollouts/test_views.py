"""Copies of requests on the endpoint's page and in the API: started, told, stopped, by whom."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.audit.models import Event
from apps.rollouts import shadows
from apps.rollouts.lifecycle import Phase
from apps.rollouts.models import Rollout
from apps.rollouts.services.steering import RolloutRefused
from apps.serving.lifecycle import RevisionState
from apps.serving.models import Endpoint, Revision
from apps.serving.services import wishes
from tests.people import Cast, bearer
from tests.rollouts import stage
from tests.rollouts.stage import World, tick
from tests.rollouts.test_rollback import AT_ONCE

pytestmark = pytest.mark.django_db
URL = "/endpoints/production/flight-delay/shadow"
PAGE = "/endpoints/production/flight-delay"
API = f"/api/v1{URL}"


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


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def revision(endpoint: Endpoint, version: int) -> Revision:
    return endpoint.revisions.get(version__number=version)


def asked(endpoint: Endpoint, **changes: Any) -> dict[str, Any]:
    number = revision(endpoint, 1).number
    return {"revision": number, "percent": "12.5", "reason": "how is v1 now?"} | changes


def copies(endpoint: Endpoint) -> dict[str, int]:
    """The thousandths of requests that are copied, by version."""
    endpoint.refresh_from_db()
    return {f"v{revision.version.number}": share for revision, share in shadows.running(endpoint)}


def part(user: User) -> str:
    answer = client_of(user).get(URL, headers={"HX-Request": "true"})
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_of_an_endpoint_loads_it(endpoint: Endpoint, cast: Cast) -> None:
    text = client_of(cast.viewer).get(PAGE).content.decode()

    assert f'id="shadow" class="stack" hx-preserve data-live="endpoint:{endpoint.pk}"' in text
    assert f'hx-get="{URL}"' in text


def test_what_is_ready_is_offered_to_who_may_start_it(endpoint: Endpoint, cast: Cast) -> None:
    text = part(cast.operator)

    assert [f"v{one.version.number}" for one in shadows.candidates(endpoint)] == ["v1"]
    assert ">v1 (revision 1)</option>" in text
    assert ">v2 (revision" not in text  # it answers the callers
    assert "<html" not in text
    assert " style=" not in text
    theirs = part(cast.viewer)
    assert "<form" not in theirs
    assert "an operator of Flights can start that" in theirs


def test_copies_are_started_told_and_stopped(
    endpoint: Endpoint, cast: Cast, world: World, now: datetime
) -> None:
    operator = client_of(cast.operator)

    started = operator.post(URL, asked(endpoint))

    assert (started.status_code, started.headers["Location"]) == (302, PAGE)
    assert copies(endpoint) == {"v1": 125}
    event = Event.objects.get(verb="endpoint.shadow_changed")
    assert (event.actor, event.reason) == (cast.operator, "how is v1 now?")
    assert event.evidence["shadow"] == {"1": 12.5}

    world.took(revision(endpoint, 1), 300, 3, copied=True)
    world.took(revision(endpoint, 2), 2400)
    text = part(cast.operator)
    assert "12.5 % of requests are copied to" in text
    assert ", as soon as the gateway reports it" in text
    assert '<td class="num" data-label="Requests">300</td>' in text
    assert '<td class="num" data-label="Requests">2.4 k</td>' in text
    assert '<td class="num" data-label="Errors (ours)">1 %</td>' in text
    assert f"{PAGE}/log?shadow=yes&amp;revision=1" in text
    assert 'data-confirm="Stop copying requests to v1?"' in text
    theirs = part(cast.viewer)
    assert "12.5 % of requests are copied to" in theirs
    assert "<form" not in theirs
    endpoint.shadow_seen = endpoint.shadow_wanted
    endpoint.save()
    assert "as soon as" not in part(cast.operator)

    stopped = operator.post(f"{URL}/1/stop")

    assert (stopped.status_code, stopped.headers["Location"]) == (302, PAGE)
    assert copies(endpoint) == {}
    assert Event.objects.filter(verb="endpoint.shadow_changed").count() == 2
    assert operator.post(f"{URL}/1/stop").status_code == 302  # the same again changes nothing
    assert Event.objects.filter(verb="endpoint.shadow_changed").count() == 2


def test_another_share_replaces_the_first(endpoint: Endpoint, cast: Cast) -> None:
    operator = client_of(cast.operator)
    operator.post(URL, asked(endpoint, percent="10"))
    operator.post(URL, asked(endpoint, percent="0.1"))

    assert copies(endpoint) == {"v1": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"percent": "0"}, "greater than or equal to 0.1"),
        ({"percent": "101"}, "less than or equal to 100"),
        ({"percent": "12.34"}, "no more than 1 decimal place"),
        ({"percent": "NaN"}, "Enter a number"),
        ({"revision": "2"}, "Select a valid choice"),
        ({"revision": "9" * 40}, "Select a valid choice"),
        ({"reason": ""}, "This field is required"),
        ({"reason": "x" * 501}, "at most 500 characters"),
    ],
)
def test_what_is_wrong_stands_beside_the_form(
    changes: dict[str, Any], words: str, endpoint: Endpoint, cast: Cast
) -> None:
    answer = client_of(cast.operator).post(URL, asked(endpoint, **changes))

    text = answer.content.decode()
    assert answer.status_code == 400
    assert words in text
    assert "<html" in text
    assert copies(endpoint) == {}


def test_a_refusal_stands_beside_the_form_too(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    moving = Rollout.objects.get()
    Rollout.objects.update(phase=Phase.PROGRESSING)

    answer = client_of(cast.operator).post(URL, asked(endpoint))

    assert answer.status_code == 400
    words = "v2 is on its way here, and its steps say what is copied; wait for it or abort it"
    assert f"<li>{words}</li>" in answer.content.decode()
    text = part(cast.operator)
    assert moving.get_absolute_url() in text
    assert "<form" not in text
    assert client_of(cast.operator).post(f"{URL}/1/stop").status_code == 409
    assert copies(endpoint) == {}


def test_who_may_not_is_refused(endpoint: Endpoint, cast: Cast) -> None:
    for user, status in ((cast.viewer, 403), (cast.approver, 403), (cast.stranger, 404)):
        client = client_of(user)
        assert client.post(URL, asked(endpoint)).status_code == status
        assert client.post(f"{URL}/1/stop").status_code == status
    assert client_of(cast.stranger).get(URL).status_code == 404
    assert client_of(cast.operator).post(f"{URL}/77/stop").status_code == 404
    assert client_of(cast.operator).get(f"{URL}/1/stop").status_code == 405
    assert copies(endpoint) == {}


def test_the_verb_keeps_what_cannot_get_copies_out(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    """Whatever a page offered, since what it showed may be over when it is sent."""

    def refused(version: int, share: int = 100, reason: str = "why") -> str:
        with pytest.raises(RolloutRefused) as caught:
            shadows.start(
                endpoint=endpoint, revision=revision(endpoint, version), share=share,
                actor=cast.operator, reason=reason, now=now,
            )  # fmt: skip
        return caught.value.code

    assert refused(2) == "already_serving"
    assert (refused(1, 0), refused(1, 1001)) == ("shadow_share", "shadow_share")
    assert refused(1, reason=" ") == "reason_missing"
    Revision.objects.update(ready_replicas=0)
    assert refused(1) == "not_ready"
    assert "No other version is ready here" in part(cast.operator)
    assert copies(endpoint) == {}


def test_a_rollout_ends_what_a_person_copied(cast: Cast, now: datetime, world: World) -> None:
    rollout = stage.started(stage.approved(cast, now), world, now)
    wishes.set_shadow(
        endpoint=rollout.endpoint, shares={rollout.candidate_id: 500}, actor=cast.operator,
        reason="to see", now=now,
    )  # fmt: skip
    assert copies(rollout.endpoint) == {"v2": 500}

    tick(rollout, now)

    assert copies(rollout.endpoint) == {}


def test_what_sleeps_is_not_offered_and_gets_no_copies(
    endpoint: Endpoint, cast: Cast, now: datetime
) -> None:
    """No copy wakes it, so the gateway would never make one."""
    endpoint.revisions.filter(version__number=1).update(
        state=RevisionState.ASLEEP, replicas=0, ready_replicas=0
    )

    assert shadows.candidates(endpoint) == []
    assert "No other version is ready here" in part(cast.operator)
    with pytest.raises(RolloutRefused) as caught:
        shadows.start(
            endpoint=endpoint, revision=revision(endpoint, 1), share=100, actor=cast.operator,
            reason="why", now=now,
        )  # fmt: skip
    assert (caught.value.code, caught.value.message) == (
        "not_ready", "v1 has no ready replica here; only what runs can get copies",
    )  # fmt: skip
    assert put(cast.operator, {1: 10.0}) == (409, "not_ready")
    assert copies(endpoint) == {}


def put(user: User, shares: dict[int, float], reason: str = "how is v1 now?") -> tuple[int, Any]:
    """What the API says: the status, and the copies that are wanted or the code of a refusal."""
    copied = [{"revision": number, "percent": percent} for number, percent in shares.items()]
    answer = Client().put(
        API, {"copies": copied, "reason": reason}, content_type="application/json",
        headers=bearer(user),
    )  # fmt: skip
    said = answer.json()
    return answer.status_code, said.get("shadow_wanted", said.get("code"))


def test_the_api_takes_all_copies_that_there_should_be(endpoint: Endpoint, cast: Cast) -> None:
    first = str(revision(endpoint, 1).pk)
    for user, status in ((cast.viewer, 403), (cast.owner, 403), (cast.stranger, 404)):
        assert put(user, {1: 12.5})[0] == status

    assert put(cast.operator, {1: 12.5}) == (200, {first: 125})
    event = Event.objects.get(verb="endpoint.shadow_changed")
    assert (event.actor, event.reason) == (cast.operator, "how is v1 now?")
    assert put(cast.operator, {1: 12.5}) == (200, {first: 125})
    assert Event.objects.filter(verb="endpoint.shadow_changed").count() == 1

    assert put(cast.operator, {}) == (200, {})
    assert copies(endpoint) == {}


def test_the_api_keeps_what_cannot_get_copies_out(endpoint: Endpoint, cast: Cast) -> None:
    assert put(cast.operator, {2: 10.0}) == (409, "already_serving")
    assert put(cast.operator, {1: 10.0, 2: 10.0}) == (409, "already_serving")
    assert put(cast.operator, {9: 10.0}) == (409, "revision_unknown")
    assert put(cast.operator, {1: 101.0}) == (400, "invalid")
    assert put(cast.operator, {1: 10.0}, reason=" ") == (400, "invalid")
    twice = {"copies": [{"revision": 1, "percent": 1}] * 2, "reason": "x"}
    answer = Client().put(
        API, twice, content_type="application/json", headers=bearer(cast.operator)
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert copies(endpoint) == {}

    put(cast.operator, {1: 10.0})
    Revision.objects.update(ready_replicas=0)
    assert put(cast.operator, {1: 10.0})[0] == 200  # what it gets already it may keep
    assert put(cast.operator, {1: 20.0}) == (409, "not_ready")
    assert copies(endpoint) == {"v1": 100}


def test_the_api_leaves_copies_to_a_rollout_that_moves(endpoint: Endpoint, cast: Cast) -> None:
    """Else it would answer 200 to what the next tick undoes."""
    Rollout.objects.update(phase=Phase.PROGRESSING)

    assert put(cast.operator, {1: 10.0}) == (409, "endpoint_busy")
    assert put(cast.operator, {}) == (409, "endpoint_busy")
    assert copies(endpoint) == {}
