"""Promotions over HTTP, signed with tokens."""

from datetime import datetime
from typing import Any

import pytest
from django.test import Client

from apps.accounts.lifecycle import Scope
from apps.accounts.models import User
from apps.core import waiting
from apps.promotions import services
from apps.promotions.models import Approval, Promotion
from tests.people import Cast, bearer
from tests.promotions import stage

pytestmark = pytest.mark.django_db
URL = "/api/v1/promotions"


def post(client: Client, path: str, user: User, *scopes: Scope, **body: Any) -> tuple[int, Any]:
    answer = client.post(
        URL + path, body, content_type="application/json", headers=bearer(user, *scopes)
    )
    return answer.status_code, answer.json()


def get(client: Client, path: str, user: User) -> tuple[int, Any]:
    answer = client.get(URL + path, headers=bearer(user))
    return answer.status_code, answer.json()


def test_a_request_by_api(client: Client, cast: Cast, now: datetime) -> None:
    version = stage.a_version(stage.a_model(cast, now), cast, now)
    build = stage.built(version, now)
    stage.serves(build, "staging", now)

    status, made = post(
        client, "", cast.owner,
        model="flight-delay", version=1, environment="production", words="better",
    )  # fmt: skip

    assert status == 201
    assert made["status"] == "checking"
    assert (made["model"], made["version"], made["environment"]) == (
        "flight-delay", 1, "production",
    )  # fmt: skip
    assert (made["digest"], made["requester"], made["words"]) == (build.digest, "ada", "better")
    assert (made["approvals_required"], made["approvals"]) == (1, [])
    assert Promotion.objects.get().pk == made["id"]


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [("viewer", 403, "forbidden"), ("stranger", 404, "not_found"), ("owner", 409, "not_built")],
)
def test_a_request_that_is_not_made(
    client: Client, cast: Cast, now: datetime, who: str, status: int, code: str
) -> None:
    stage.a_version(stage.a_model(cast, now), cast, now)
    stage.environment("production")

    answered, error = post(
        client, "", getattr(cast, who), model="flight-delay", version=1, environment="production"
    )

    assert (answered, error["code"]) == (status, code)
    assert set(error) == {"code", "message", "detail"}
    assert not Promotion.objects.exists()


def test_an_approver_approves(client: Client, cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    # The clock of the API is the real one, and the request must not have expired by it.
    Promotion.objects.update(created_at=now)

    status, decided = post(
        client, f"/{promotion.pk}/approve", cast.approver, words="fine", digest=promotion.digest
    )

    assert (status, decided["status"], decided["reason"]) == (200, "approved", "Approved by grace")
    [given] = decided["approvals"]
    assert (given["user"], given["answer"], given["words"]) == ("grace", "approve", "fine")


def test_what_is_refused_says_why(client: Client, cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    path = f"/{promotion.pk}/approve"

    for person, body, expected in (
        (cast.owner, {}, (409, "requester_may_not_decide")),
        (cast.operator, {}, (403, "forbidden")),
        (cast.stranger, {}, (404, "not_found")),
        (cast.approver, {"digest": "sha256:other"}, (409, "digest_changed")),
        (cast.approver, {"words": 5 * ["x"]}, (400, "invalid")),
    ):
        status, error = post(client, path, person, **body)
        assert (status, error["code"]) == expected
    assert not Approval.objects.exists()

    post(client, path, cast.approver)
    status, error = post(client, path, cast.colleague)
    assert (status, error["code"]) == (409, "already_ended")


def test_a_token_without_the_scope_does_not_approve(
    client: Client, cast: Cast, now: datetime
) -> None:
    promotion = stage.waiting(cast, now)

    status, error = post(client, f"/{promotion.pk}/approve", cast.approver, Scope.READ, Scope.WRITE)

    assert (status, error["code"]) == (403, "forbidden")
    assert not Approval.objects.exists()


def test_reject_and_cancel(client: Client, cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)
    status, decided = post(client, f"/{promotion.pk}/reject", cast.approver, words="not today")
    assert (status, decided["status"]) == (200, "rejected")

    status, error = post(client, f"/{promotion.pk}/cancel", cast.owner)
    assert (status, error["code"]) == (409, "already_ended")

    again = stage.asked(promotion.version, cast, now)
    status, cancelled = post(client, f"/{again.pk}/cancel", cast.owner)
    assert (status, cancelled["status"]) == (200, "cancelled")


def test_the_list_shows_only_the_teams_own(client: Client, cast: Cast, now: datetime) -> None:
    promotion = stage.waiting(cast, now)

    status, page = get(client, "?environment=production&status=waiting", cast.viewer)
    assert status == 200
    assert [row["id"] for row in page["results"]] == [promotion.pk]
    assert get(client, "?status=approved", cast.viewer)[1]["results"] == []
    assert get(client, "", cast.stranger)[1]["results"] == []
    assert get(client, f"/{promotion.pk}", cast.stranger)[0] == 404


def test_the_number_of_queries_does_not_grow_with_the_list(
    client: Client, cast: Cast, now: datetime, django_assert_max_num_queries: Any
) -> None:
    model = stage.a_model(cast, now)
    for number in range(1, 6):
        version = stage.a_version(model, cast, now, number)
        stage.serves(stage.built(version, now), "staging", now)
        stage.asked(version, cast, now)
    headers = bearer(cast.viewer)

    with django_assert_max_num_queries(9):
        answer = client.get(URL, headers=headers)

    assert len(answer.json()["results"]) == 5


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []
        self.then: Any = None

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        if self.then is not None:
            self.then()

    def now(self) -> float:
        return self.at


def test_waiting_ends_with_a_change(cast: Cast, now: datetime) -> None:
    promotion, clock = stage.waiting(cast, now), Clock()
    clock.then = lambda: services.cancel(promotion=promotion, actor=cast.owner, words="", now=now)

    waiting.for_change(
        Promotion.objects.all(), promotion.pk, revision=promotion.revision, seconds=30,
        sleep=clock.sleep, clock=clock.now,
    )  # fmt: skip

    assert clock.slept == [0.5]


def test_waiting_ends_when_the_time_is_over(cast: Cast, now: datetime) -> None:
    promotion, clock = stage.waiting(cast, now), Clock()

    waiting.for_change(
        Promotion.objects.all(), promotion.pk, revision=promotion.revision, seconds=1.2,
        sleep=clock.sleep, clock=clock.now,
    )  # fmt: skip

    assert clock.slept == [0.5, 0.5, pytest.approx(0.2)]


def test_a_change_that_came_before_is_answered_at_once(
    client: Client, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    promotion = stage.waiting(cast, now)

    status, seen = get(client, f"/{promotion.pk}?wait=60&revision=0", cast.viewer)

    assert (status, seen["revision"]) == (200, 1)
    assert get(client, f"/{promotion.pk}?wait=61", cast.viewer)[0] == 400
