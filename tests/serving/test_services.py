"""The verbs on endpoints: what they change, record and refuse."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from apps.audit.models import Event
from apps.builds.lifecycle import BuildStatus
from apps.serving import selectors
from apps.serving.lifecycle import RevisionWish
from apps.serving.models import Endpoint, Environment, Revision
from apps.serving.services import wishes
from tests.serving.cast import NOW, make_build, make_model

pytestmark = pytest.mark.django_db


@pytest.fixture
def endpoint() -> Endpoint:
    wishes.ensure_environments()
    environment = Environment.objects.get(name="production")
    return wishes.ensure_endpoint(model=make_model(), environment=environment, now=NOW)


def deploy(endpoint: Endpoint, number: int) -> Revision:
    build = make_build(endpoint.model, number=number, digest=f"sha256:{number}")
    return wishes.deploy(endpoint=endpoint, build=build, replicas=1, now=NOW)


def split(endpoint: Endpoint, weights: dict[int, int]) -> None:
    wishes.set_traffic(endpoint=endpoint, weights=weights, actor=None, reason="step 1", now=NOW)


def events(verb: str) -> list[Event]:
    return list(Event.objects.filter(verb=verb))


def state(endpoint: Endpoint) -> Any:
    return Endpoint.objects.values().get(pk=endpoint.pk)


def test_environments_are_made_once() -> None:
    wishes.ensure_environments()
    wishes.ensure_environments()
    assert list(Environment.objects.values_list("name", "order")) == [
        ("staging", 1),
        ("production", 2),
    ]


def test_an_endpoint_is_made_once_and_named_after_its_model(endpoint: Endpoint) -> None:
    again = wishes.ensure_endpoint(model=endpoint.model, environment=endpoint.environment, now=NOW)
    assert again == endpoint
    assert endpoint.name == "flight-delay"
    assert len(events("endpoint.created")) == 1


def test_two_models_whose_names_look_alike_get_two_addresses(endpoint: Endpoint) -> None:
    other = make_model("Flight Delay")
    second = wishes.ensure_endpoint(model=other, environment=endpoint.environment, now=NOW)
    assert second.name == f"flight-delay-{other.pk}"


def test_deploying_a_build_twice_gives_one_revision(endpoint: Endpoint) -> None:
    first = deploy(endpoint, 1)
    again = wishes.deploy(endpoint=endpoint, build=first.build, replicas=1, now=NOW)
    assert again == first
    assert first.number == 1
    [event] = events("revision.deployed")
    assert event.evidence == {"version": 1, "digest": "sha256:1", "replicas": 1}
    assert (event.model_name, event.environment) == ("flight-delay", "production")


def test_a_build_that_failed_is_not_deployed(endpoint: Endpoint) -> None:
    build = make_build(endpoint.model, number=1, status=BuildStatus.FAILED)
    with pytest.raises(wishes.ServingRefused) as refused:
        wishes.deploy(endpoint=endpoint, build=build, replicas=1, now=NOW)
    assert refused.value.code == "build_not_ready"
    assert not Revision.objects.exists()


def test_a_build_of_another_model_is_not_deployed(endpoint: Endpoint) -> None:
    build = make_build(make_model("other"), number=1)
    with pytest.raises(wishes.ServingRefused) as refused:
        wishes.deploy(endpoint=endpoint, build=build, replicas=1, now=NOW)
    assert refused.value.code == "other_model"
    assert not Revision.objects.exists()


def test_a_split_is_recorded_once_with_what_served(endpoint: Endpoint) -> None:
    one, two = deploy(endpoint, 1), deploy(endpoint, 2)
    split(endpoint, {one.pk: 995, two.pk: 5})
    before = state(endpoint)
    split(endpoint, {two.pk: 5, one.pk: 995})

    assert state(endpoint) == before
    assert endpoint.traffic_wanted == {str(one.pk): 995, str(two.pk): 5}
    assert endpoint.traffic_changed_at == NOW
    assert endpoint.revision == 1
    [event] = events("traffic.changed")
    assert event.at == NOW
    assert event.reason == "step 1"
    assert event.evidence == {
        "weights": {"1": 99.5, "2": 0.5},
        "revisions": {str(one.pk): 995, str(two.pk): 5},
        "digests": {"1": "sha256:1", "2": "sha256:2"},
    }
    served_event, served = selectors.served_at(
        model=endpoint.model, environment="production", at=timezone.now().replace(year=2031)
    )
    assert served_event == event
    assert served == [
        selectors.Served(1, 99.5, "sha256:1"),
        selectors.Served(2, 0.5, "sha256:2"),
    ]


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({"one": 999}, "weights_sum"),
        ({"one": 1100, "two": -100}, "weights_negative"),
        ({"one": 500, "nobody": 500}, "revision_unknown"),
        ({"one": 500, "retired": 500}, "revision_retired"),
    ],
)
def test_a_split_that_cannot_be_served_changes_nothing(
    endpoint: Endpoint, weights: dict[str, int], code: str
) -> None:
    named = {"one": deploy(endpoint, 1), "two": deploy(endpoint, 2), "retired": deploy(endpoint, 3)}
    wishes.retire(revision=named["retired"], now=NOW)
    keys = {name: revision.pk for name, revision in named.items()} | {"nobody": 0}
    before = state(endpoint)
    with pytest.raises(wishes.ServingRefused) as refused:
        split(endpoint, {keys[name]: weight for name, weight in weights.items()})
    assert refused.value.code == code
    assert state(endpoint) == before
    assert events("traffic.changed") == []


def test_no_traffic_at_all_can_be_wanted(endpoint: Endpoint) -> None:
    one = deploy(endpoint, 1)
    split(endpoint, {one.pk: 1000})
    split(endpoint, {})
    assert endpoint.traffic_wanted == {}
    assert [event.evidence["weights"] for event in events("traffic.changed")] == [{}, {"1": 100.0}]


def test_the_stable_revision_is_recorded_once(endpoint: Endpoint) -> None:
    one = deploy(endpoint, 1)
    wishes.set_stable(endpoint=endpoint, revision=one, now=NOW)
    wishes.set_stable(endpoint=endpoint, revision=one, now=NOW)
    assert endpoint.stable_id == one.pk
    assert [e.evidence for e in events("endpoint.stable_changed")] == [
        {"version": 1, "revision": one.pk}
    ]


def test_what_serves_is_not_retired(endpoint: Endpoint) -> None:
    one, two = deploy(endpoint, 1), deploy(endpoint, 2)
    split(endpoint, {one.pk: 1000})
    wishes.set_stable(endpoint=endpoint, revision=two, now=NOW)
    for revision, code in ((one, "revision_has_traffic"), (two, "revision_is_stable")):
        with pytest.raises(wishes.ServingRefused) as refused:
            wishes.retire(revision=revision, now=NOW)
        assert refused.value.code == code
        assert Revision.objects.get(pk=revision.pk).wanted == RevisionWish.RUN
    assert events("revision.retired") == []


def test_retiring_twice_is_recorded_once_and_the_build_can_come_back(endpoint: Endpoint) -> None:
    one = deploy(endpoint, 1)
    wishes.retire(revision=one, now=NOW)
    wishes.retire(revision=one, now=NOW)
    assert one.wanted == RevisionWish.STOP
    assert len(events("revision.retired")) == 1
    again = wishes.deploy(endpoint=endpoint, build=one.build, replicas=1, now=NOW)
    assert (again.pk == one.pk, again.number) == (False, 2)
