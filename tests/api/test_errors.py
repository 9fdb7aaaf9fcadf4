"""What the API answers where none of its views is reached: the same shape as everywhere."""

from unittest import mock

import pytest
from django.test import Client

from tests.people import Cast, bearer


@pytest.mark.parametrize("address", ["/api/v1/builds/many", "/api/v1/nothing", "/api/"])
def test_an_address_that_is_none_is_not_found_in_json(address: str) -> None:
    answer = Client().get(address)

    assert answer.status_code == 404
    assert answer.json() == {
        "code": "not_found",
        "message": "There is no such address; /api/v1/schema/ describes those that there are",
        "detail": None,
    }


@pytest.mark.parametrize("address", ["/api/v1/builds?model=a%00b", "/api/v1/models/a%00b"])
def test_a_name_with_a_nul_is_refused_before_it_reaches_the_database(
    address: str, cast: Cast
) -> None:
    answer = Client().get(address, headers=bearer(cast.owner))

    assert answer.status_code == 400
    assert answer.json() == {
        "code": "invalid",
        "message": "The address holds a NUL character, which no name has",
        "detail": None,
    }


def test_the_same_on_a_page_is_a_page() -> None:
    answer = Client().get("/models/a%00b")

    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "This address cannot be read" in answer.content.decode()


def test_a_bug_is_told_in_json_without_its_details(cast: Cast) -> None:
    client = Client(raise_request_exception=False)
    with mock.patch("apps.builds.selectors.visible_to", side_effect=RuntimeError("secret words")):
        answer = client.get("/api/v1/builds", headers=bearer(cast.owner))

    assert answer.status_code == 500
    assert answer.json()["code"] == "broken"
    assert "secret words" not in answer.content.decode()
