"""What an edition of a policy changed, and who may put it in force."""

from __future__ import annotations

import pytest
from django.test import Client

from apps.audit.models import Event
from apps.registry import policy, selectors
from apps.registry.models import Model
from apps.registry.policy import Change
from apps.registry.services import policies
from tests.factories.registry import NOON, ModelFactory
from tests.people import Cast, bearer

PLAIN = "environments: {production: {approvals: {required: 2}}}\n"
WIDER = """\
environments:
  production: {approvals: {required: 2}, serving: {scaling: {max: 3}, capture: {share: 0.5}}}
"""
REDACTED = """\
environments:
  production: {approvals: {required: 2}, serving: {capture: {redact: [ssn]}}}
"""
LAXER = "environments: {production: {approvals: {required: 0}}}\n"


def document(text: str) -> object:
    return policy.parse(text).model_dump(mode="json")


def test_every_value_that_differs_is_named() -> None:
    assert policy.changes(document(PLAIN), document(WIDER)) == [
        Change("environments.production.serving.capture.share", 1.0, 0.5),
        Change("environments.production.serving.scaling.max", 1, 3),
    ]
    assert policy.changes(document(PLAIN), document(PLAIN + "# the same\n")) == []
    assert policy.changes({"a": [1, 2]}, {"a": [1, 3], "b": None}) == [Change("a.1", 2, 3)]
    assert policy.changes({"a": [1]}, {"a": [1, 2]}) == [Change("a", [1], [1, 2])]


@pytest.fixture
def model(cast: Cast) -> Model:
    model: Model = ModelFactory.create(team=cast.team)
    policies.put_policy(model=model, text=PLAIN, actor=cast.admin, now=NOON)
    return model


def test_operators_change_how_it_is_served_and_nothing_else(
    client: Client, cast: Cast, model: Model
) -> None:
    path = f"/api/v1/models/{model.name}/policy"

    def put(text: str, person: object) -> int:
        headers = bearer(person)  # type: ignore[arg-type]
        sent = {"text": text}
        return client.put(path, sent, content_type="application/json", headers=headers).status_code

    assert put(WIDER, cast.owner) == 403
    assert put(WIDER, cast.operator) == 200
    assert put(LAXER, cast.operator) == 403
    assert put(REDACTED, cast.operator) == 403
    assert put("environments: [", cast.operator) == 409
    assert put("environments: [", cast.viewer) == 403
    assert put(LAXER, cast.admin) == 200
    assert [edition.text for edition in model.policies.order_by("number")] == [PLAIN, WIDER, LAXER]
    event = Event.objects.filter(verb="policy.changed").order_by("pk")[1]
    assert event.actor_name == cast.operator.username
    assert event.evidence["number"] == 2
    assert event.evidence["changes"] == {
        "environments.production.serving.scaling.max": {"was": 1, "now": 3},
        "environments.production.serving.capture.share": {"was": 1.0, "now": 0.5},
    }


def test_the_page_shows_what_each_edition_changed(client: Client, cast: Cast, model: Model) -> None:
    policies.put_policy(model=model, text=WIDER, actor=cast.admin, now=NOON)
    [(newest, changed), (first, nothing)] = selectors.editions(model, 5)
    assert (newest.number, first.number, nothing) == (2, 1, [])
    assert [change.path for change in changed] == [
        "environments.production.serving.capture.share",
        "environments.production.serving.scaling.max",
    ]
    client.force_login(cast.operator)
    page = client.get(f"/models/{model.name}/policy").content.decode()
    assert "environments.production.serving.scaling.max" in page
    assert "You may change the parts named" in page
    answer = client.post(f"/models/{model.name}/policy", {"text": LAXER})
    assert answer.status_code == 403
