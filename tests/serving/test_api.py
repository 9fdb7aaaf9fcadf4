"""Serving in the API: what people may read of it."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.accounts.lifecycle import Scope
from apps.serving import keys
from apps.serving.models import Endpoint, Environment
from apps.serving.services import wishes
from tests.people import Cast, bearer
from tests.serving.cast import NOW, make_build, make_model


@pytest.fixture
def endpoint(cast: Cast) -> Endpoint:
    wishes.ensure_environments()
    endpoint = wishes.ensure_endpoint(
        model=make_model(team=cast.team),
        environment=Environment.objects.get(name="production"),
        now=NOW,
    )
    build = make_build(endpoint.model, number=4, digest="sha256:four")
    revision = wishes.deploy(endpoint=endpoint, build=build, replicas=2, now=NOW)
    wishes.set_traffic(
        endpoint=endpoint, weights={revision.pk: 1000}, actor=None, reason="first", now=NOW
    )
    return endpoint


def test_environments_come_in_their_order(client: Client, cast: Cast) -> None:
    wishes.ensure_environments()
    answer = client.get("/api/v1/environments", headers=bearer(cast.viewer))
    assert answer.status_code == 200
    names = sorted(answer.json()["results"], key=lambda row: row["order"])
    assert [row["name"] for row in names] == ["staging", "production"]


def test_an_endpoint_shows_wanted_and_seen_traffic(
    client: Client, cast: Cast, endpoint: Endpoint
) -> None:
    headers = bearer(cast.viewer)
    said = client.get("/api/v1/endpoints/production/flight-delay", headers=headers).json()
    revision = endpoint.revisions.get()
    assert said["model"] == "flight-delay"
    assert said["traffic_wanted"] == {str(revision.pk): 1000}
    assert said["traffic_seen"] is None
    [shown] = said["revisions"]
    assert (shown["id"], shown["version"], shown["digest"]) == (revision.pk, 4, "sha256:four")
    assert (shown["state"], shown["replicas"], shown["ready_replicas"]) == ("starting", 2, 0)
    [listed] = client.get("/api/v1/endpoints", headers=headers).json()["results"]
    more = {name: said.pop(name) for name in ("policy", "serving", "use")}
    assert listed == said
    assert more["policy"] is None
    assert more["serving"]["scaling"]["max"] == 1
    assert more["use"] == {"days": 30, "replica_hours": 0.0, "saved_hours": 0.0}


def test_somebody_of_another_team_sees_none_of_it(
    client: Client, cast: Cast, endpoint: Endpoint
) -> None:
    headers = bearer(cast.stranger)
    assert client.get("/api/v1/endpoints", headers=headers).json()["results"] == []
    for path in ("endpoints/production/flight-delay", "models/flight-delay/served"):
        assert client.get(f"/api/v1/{path}", headers=headers).status_code == 404


def test_what_served_at_a_moment(client: Client, cast: Cast, endpoint: Endpoint) -> None:
    headers = bearer(cast.viewer)
    path = "/api/v1/models/flight-delay/served"
    said = client.get(f"{path}?at=2030-01-07T14:05:00Z", headers=headers).json()
    assert said["served"] == [{"version": 4, "percent": 100.0, "digest": "sha256:four"}]
    assert said["since"] == "2030-01-07T12:00:00Z"
    earlier = client.get(f"{path}?at=2030-01-07T11:59:59Z", headers=headers).json()
    assert (earlier["served"], earlier["since"], earlier["event"]) == ([], None, None)
    elsewhere = client.get(f"{path}?environment=staging", headers=headers).json()
    assert elsewhere["served"] == []
    wrong = client.get(f"{path}?at=yesterday", headers=headers)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid")
    assert list(wrong.json()["detail"]) == ["at"]


def test_who_may_test_gets_the_key_of_a_running_revision(
    client: Client, cast: Cast, endpoint: Endpoint
) -> None:
    path = "/api/v1/endpoints/production/flight-delay/revisions/1/key"
    revision = endpoint.revisions.get()

    answer = client.get(path, headers=bearer(cast.owner))
    assert answer.json() == {"header": "x-force-revision", "value": keys.of(revision.pk)}
    assert answer.headers["Cache-Control"] == "no-store"

    reading = bearer(cast.owner, Scope.READ, Scope.WRITE)
    assert client.get(path, headers=reading).status_code == 403  # the scope `test` is asked
    assert client.get(path, headers=bearer(cast.viewer)).status_code == 403
    assert client.get(path, headers=bearer(cast.stranger)).status_code == 404
    other = path.replace("/1/", "/2/")
    assert client.get(other, headers=bearer(cast.owner)).status_code == 404


def test_the_page_shows_keys_to_those_who_may_test_only(
    client: Client, cast: Cast, endpoint: Endpoint
) -> None:
    key = keys.of(endpoint.revisions.get().pk)
    for user, shown in ((cast.owner, True), (cast.viewer, False)):
        client.force_login(user)
        page = client.get("/endpoints/production/flight-delay").content.decode()
        assert (key in page) is shown
