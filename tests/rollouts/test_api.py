"""Rollouts over HTTP, signed with tokens."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.rollouts.models import Rollout
from tests.people import Cast, bearer
from tests.rollouts import stage
from tests.rollouts.stage import World, tick

pytestmark = pytest.mark.django_db
URL = "/api/v1/rollouts"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return stage.set_up(monkeypatch)


@pytest.fixture
def rollout(cast: Cast, now: datetime, world: World) -> Rollout:
    return stage.started(stage.approved(cast, now), world, now)


def post(client: Client, path: str, user: User, **body: Any) -> tuple[int, Any]:
    answer = client.post(URL + path, body, content_type="application/json", headers=bearer(user))
    return answer.status_code, answer.json()


def get(client: Client, path: str, user: User) -> tuple[int, Any]:
    answer = client.get(URL + path, headers=bearer(user))
    return answer.status_code, answer.json()


def test_an_operator_starts_an_approved_promotion(
    client: Client, cast: Cast, now: datetime, world: World
) -> None:
    promotion = stage.approved(cast, now)
    assert post(client, "", cast.owner, promotion=promotion.pk)[0] == 403
    assert post(client, "", cast.stranger, promotion=promotion.pk)[0] == 404
    assert not Rollout.objects.exists()

    status, made = post(client, "", cast.operator, promotion=promotion.pk)

    assert status == 201
    assert (made["phase"], made["version"], made["stable_version"]) == ("preparing", 2, 1)
    status, error = post(client, "", cast.operator, promotion=promotion.pk)
    assert (status, error["code"]) == (409, "already_started")


def test_it_is_read_with_its_story(
    client: Client, cast: Cast, now: datetime, rollout: Rollout
) -> None:
    tick(rollout, now)

    status, seen = get(client, f"/{rollout.pk}", cast.viewer)

    assert status == 200
    assert (seen["phase"], seen["weight_percent"], seen["reason"]) == (
        "progressing", 10.0, "Moving to 10 %",
    )  # fmt: skip
    assert [line["phase"] for line in seen["observations"]] == ["preparing", "progressing"]
    assert get(client, f"/{rollout.pk}", cast.stranger)[0] == 404
    assert get(client, f"/{rollout.pk}?wait=9&revision=99", cast.viewer)[0] == 200


def test_the_list_filters(client: Client, cast: Cast, rollout: Rollout) -> None:
    for query, found in (
        ("", 1),
        ("?model=flight-delay&environment=production&phase=preparing", 1),
        (f"?promotion={rollout.promotion_id}", 1),
        ("?promotion=x", 0),
        ("?phase=succeeded", 0),
    ):
        assert len(get(client, query, cast.viewer)[1]["results"]) == found
    assert get(client, "", cast.stranger)[1]["results"] == []


def test_an_operator_steers(client: Client, cast: Cast, rollout: Rollout) -> None:
    path = f"/{rollout.pk}"
    for verb in ("pause", "resume", "abort"):
        assert post(client, f"{path}/{verb}", cast.approver)[0] == 403
    assert Rollout.objects.get().revision == 0

    assert post(client, f"{path}/pause", cast.operator)[1]["pause_wanted"] is True
    status, error = post(client, f"{path}/pause", cast.operator)
    assert (status, error["code"]) == (409, "already_paused")
    assert post(client, f"{path}/resume", cast.operator)[1]["pause_wanted"] is False
    status, aborted = post(client, f"{path}/abort", cast.operator, reason="wrong day")
    assert (status, aborted["abort_wanted"], aborted["abort_reason"]) == (200, True, "wrong day")
