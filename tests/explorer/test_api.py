"""Searches over HTTP: asked, followed, read page by page, downloaded, removed."""

import csv
import io
from collections.abc import Callable
from datetime import datetime
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
import pytest
from django.test import Client

from apps.accounts.lifecycle import Scope
from apps.explorer import results
from apps.explorer.models import Search
from apps.serving.models import Endpoint
from tests.explorer.conftest import asked, collect, put, run
from tests.people import Cast, bearer

SINCE, UNTIL = "2030-01-01T00:00:00Z", "2030-01-01T01:00:00Z"
pytestmark = pytest.mark.django_db(transaction=True)


class Api:
    def __init__(self, signed: dict[str, str]) -> None:
        self.client = Client()
        self.signed = signed

    def post(self, path: str, **body: Any) -> tuple[int, Any]:
        answer = self.client.post(
            f"/api/v1/{path}", body, content_type="application/json", headers=self.signed
        )
        return answer.status_code, answer.json()

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        answer = self.client.get(f"/api/v1/{path}", query, headers=self.signed)
        return answer.status_code, answer.json()

    def delete(self, path: str) -> int:
        return self.client.delete(f"/api/v1/{path}", headers=self.signed).status_code

    def download(self, path: str, **query: Any) -> tuple[Any, bytes]:
        answer: Any = self.client.get(f"/api/v1/{path}", query, headers=self.signed)
        assert answer.streaming
        return answer, b"".join(answer.streaming_content)


@pytest.fixture
def api(cast: Cast) -> Api:
    return Api(bearer(cast.viewer))


def done(pk: int) -> Search:
    search = Search.objects.get(pk=pk)
    assert search.job is not None
    run(search.job.pk)
    search.refresh_from_db()
    assert search.state == "done", search.reason
    return search


def test_a_search_from_the_question_to_its_end(
    endpoint: Endpoint, cast: Cast, now: datetime, api: Api
) -> None:
    put(endpoint, *(asked(float(number), id=f"r{number}") for number in range(5)))
    collect(now)
    where = f"endpoints/{endpoint.pk}/searches"
    condition = {"column": "in.distance", "op": "ge", "value": 1}

    status, queued = api.post(where, since=SINCE, until=UNTIL, conditions=[condition])
    assert (status, queued["state"], queued["asked_by"]) == (202, "queued", "vera")
    assert queued["question"]["conditions"] == [condition]
    assert api.get(f"searches/{queued['id']}")[1]["rows"] == []
    status, said = api.get(f"searches/{queued['id']}/download")
    assert (status, said["code"]) == (409, "not_ended")

    done(queued["id"])
    status, found = api.get(f"searches/{queued['id']}", count=2, start=1, sort="in.distance")
    assert (status, found["state"], found["found"], found["shown"]) == (200, "done", 4, 4)
    assert (found["files_done"], found["files_total"], found["waiting_rows"]) == (1, 1, 0)
    assert [row["in.distance"] for row in found["rows"]] == [2.0, 3.0]
    assert "request" not in found["rows"][0]
    assert {"in.distance", "out.0", "request"} <= set(found["columns"])
    _, downwards = api.get(f"searches/{queued['id']}", sort="-in.distance", bodies="true")
    assert [row["id"] for row in downwards["rows"]] == ["r4", "r3", "r2", "r1"]
    assert '"data":[[4.0' in downwards["rows"][0]["request"]
    # What is no column sorts nothing.
    _, unsorted = api.get(f"searches/{queued['id']}", sort="id; drop table x")
    assert [row["id"] for row in unsorted["rows"]] == ["r4", "r3", "r2", "r1"]

    status, listed = api.get(where)
    assert [row["id"] for row in listed["results"]] == [queued["id"]]
    path = results.folder() / Search.objects.get().result_path
    assert api.delete(f"searches/{queued['id']}") == 204
    assert (Search.objects.count(), path.exists()) == (0, False)


def test_the_result_as_a_file(endpoint: Endpoint, cast: Cast, now: datetime, api: Api) -> None:
    put(
        endpoint,
        asked(-1.5, "=1+cmd|' /C calc'!A0", id="-2+3", caller="@SUM(A1)"),
        asked(2.0, 'say "no",\nplease', id="plain", caller="+1"),
    )
    collect(now)
    _, queued = api.post(f"endpoints/{endpoint.pk}/searches", since=SINCE, until=UNTIL)
    search = done(queued["id"])

    answer, content = api.download(f"searches/{search.pk}/download", **{"as": "csv"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == f'attachment; filename="flights-{search.pk}.csv"'
    first, second = csv.DictReader(io.StringIO(content.decode(), newline=""))
    assert (first["id"], first["caller"], first["in.distance"]) == ("plain", "'+1", "2.0")
    assert first["in.origin"] == 'say "no",\nplease'
    assert (second["id"], second["caller"]) == ("'-2+3", "'@SUM(A1)")
    # A number below zero is no formula, and stays a number.
    assert (second["in.distance"], second["in.origin"]) == ("-1.5", "'=1+cmd|' /C calc'!A0")
    assert second["at"] == "2030-01-01T00:00:00+00:00"

    answer, content = api.download(f"searches/{search.pk}/download")
    assert answer["Content-Type"] == "application/vnd.apache.parquet"
    assert pq.read_table(io.BytesIO(content))["id"].to_pylist() == ["plain", "-2+3"]
    (results.folder() / search.result_path).unlink()
    status, said = api.get(f"searches/{search.pk}/download")
    assert (status, said["code"]) == (409, "no_result")


BREAKS: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda whole: b"",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "a broken page": lambda whole: whole[:4] + bytes(400) + whole[404:],
    "a broken footer": lambda whole: whole[:-200] + b"\xff" * 150 + whole[-50:],
}


@pytest.mark.parametrize("way", BREAKS)
def test_a_file_that_the_disk_broke_counts_as_gone(
    way: str, endpoint: Endpoint, cast: Cast, now: datetime, api: Api
) -> None:
    put(endpoint, *(asked(float(number), id=f"r{number}") for number in range(60)))
    collect(now)
    _, queued = api.post(f"endpoints/{endpoint.pk}/searches", since=SINCE, until=UNTIL)
    search = done(queued["id"])
    path = results.folder() / search.result_path
    path.write_bytes(BREAKS[way](path.read_bytes()))

    status, said = api.get(f"searches/{search.pk}", bodies="true")
    assert (status, said["rows"]) == (200, [])
    status, said = api.get(f"searches/{search.pk}/download", **{"as": "csv"})
    assert (status, said["code"]) == (409, "no_result")
    status, said = api.get(f"searches/{search.pk}/download")
    assert (status, said["code"]) == (409, "no_result")
    page = Client()
    page.force_login(cast.viewer)
    where = f"/endpoints/production/flights/log?search={search.pk}"
    assert page.get(where).status_code == 200


def test_a_long_file_comes_piece_by_piece(
    endpoint: Endpoint, cast: Cast, now: datetime, api: Api
) -> None:
    put(endpoint, *(asked(float(number)) for number in range(25)))
    collect(now)
    _, queued = api.post(f"endpoints/{endpoint.pk}/searches", since=SINCE, until=UNTIL)
    search = done(queued["id"])

    with mock.patch.object(results, "BATCH_ROWS", 10):
        pieces = list(results.as_csv(results.folder() / search.result_path, search.digest))

    assert [piece.count(b"\r\n") for piece in pieces] == [1, 10, 10, 5]


@pytest.mark.parametrize(
    "body",
    [
        {"since": "yesterday"},
        {"revisions": ["1; drop table x"]},
        {"revisions": [2**31]},
        {"status": "5xx or true"},
        {"status": "6xx"},
        {"latency_from_ms": -1},
        {"request_id": "a" * 501},
        {"request_id": "a\0"},
        {"conditions": [{"column": "in.distance", "op": "or 1=1", "value": 1}]},
        {"conditions": [{"op": "eq", "value": 1}]},
        {"conditions": [{"column": "in.distance", "op": "eq", "value": 1}] * 10_000},
        {"conditions": "in.distance > 1"},
        {"conditions": ["x"]},
        {"limit": 0},
        {"limit": 100_001},
        {"shadow": "maybe"},
    ],
)
def test_a_body_that_is_wrong_is_told(body: dict[str, Any], endpoint: Endpoint, api: Api) -> None:
    status, said = api.post(f"endpoints/{endpoint.pk}/searches", **body)

    assert (status, said["code"]) == (400, "invalid")
    assert list(said["detail"]) == list(body)
    assert not Search.objects.exists()


def test_what_the_log_does_not_have_is_told(endpoint: Endpoint, api: Api) -> None:
    column = {"column": "in.x", "op": "eq", "value": 1}
    for body, code in (
        ({"conditions": [column]}, "column_unknown"),
        ({"since": UNTIL, "until": SINCE}, "time_wrong"),
        ({"since": "2029-01-01T00:00:00Z", "until": UNTIL}, "time_too_long"),
        ({"revisions": [7]}, "revision_unknown"),
    ):
        status, said = api.post(f"endpoints/{endpoint.pk}/searches", **body)
        assert (status, said["code"]) == (409, code)
    assert not Search.objects.exists()


def test_only_whoever_asked_or_may_cancel_stops_a_search(
    endpoint: Endpoint, cast: Cast, api: Api
) -> None:
    _, mine = api.post(f"endpoints/{endpoint.pk}/searches")
    other = Api(bearer(cast.approver))
    _, theirs = other.post(f"endpoints/{endpoint.pk}/searches")

    assert api.delete(f"searches/{theirs['id']}") == 403
    assert Api(bearer(cast.stranger)).delete(f"searches/{mine['id']}") == 404
    assert Api(bearer(cast.viewer, Scope.READ)).delete(f"searches/{mine['id']}") == 403
    assert set(Search.objects.values_list("state", flat=True)) == {"queued"}
    assert api.delete(f"searches/{mine['id']}") == 204
    assert Api(bearer(cast.operator)).delete(f"searches/{theirs['id']}") == 204
    assert set(Search.objects.values_list("state", flat=True)) == {"cancelled"}


def test_strangers_see_nothing(endpoint: Endpoint, cast: Cast, api: Api) -> None:
    _, mine = api.post(f"endpoints/{endpoint.pk}/searches")
    stranger = Api(bearer(cast.stranger))

    for path in (
        f"endpoints/{endpoint.pk}/searches",
        f"searches/{mine['id']}",
        f"searches/{mine['id']}/download",
        f"endpoints/{endpoint.pk}/replays",
    ):
        assert stranger.get(path)[0] == 404
    assert stranger.post(f"endpoints/{endpoint.pk}/searches")[0] == 404


def test_numbers_that_json_does_not_have(
    endpoint: Endpoint, cast: Cast, now: datetime, api: Api
) -> None:
    from apps.explorer.api import _plain

    assert _plain({"a": float("nan"), "b": float("inf"), "c": 1.5, "d": None}) == {
        "a": "nan", "b": "inf", "c": 1.5, "d": None,
    }  # fmt: skip
