"""What people and programs send and record that nobody had in mind."""

import csv
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import orjson
import pytest
from django.http import QueryDict
from django.test import Client
from django.utils import timezone

from apps.explorer import forms, results, runner, services
from apps.explorer.forms import SearchForm
from apps.explorer.models import Search
from apps.explorer.question import Condition, Question
from apps.monitoring.collector import Collector
from apps.serving.models import Endpoint
from tests.explorer.conftest import DAY, asked, collect, find, put, question
from tests.explorer.test_api import Api
from tests.explorer.test_views import PAGE, client_of
from tests.monitoring.making import record, segment
from tests.people import Cast, bearer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api(cast: Cast) -> Api:
    return Api(bearer(cast.viewer))


@pytest.fixture
def viewer(cast: Cast) -> Client:
    return client_of(cast.viewer)


# ---- questions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "words"),
    [
        ("", "0001-01-01", "The beginning must lie before the end"),
        ("0001-01-01", "", "At most 31 days at once"),
        ("2020-01-01", "2030-01-01", "At most 31 days at once"),
        ("2030-01-02", "2030-01-01", "The beginning must lie before the end"),
        ("9999-12-31T23:59:59", "", "The beginning must lie before the end"),
    ],
)
def test_times_from_one_end_of_the_calendar_to_the_other(
    since: str, until: str, words: str, endpoint: Endpoint, viewer: Client
) -> None:
    answer = viewer.post(PAGE, {"since": since, "until": until})

    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert viewer.get(PAGE, {"since": since, "until": until}).status_code in (200, 400)
    assert not Search.objects.exists()


def test_such_times_over_the_api(endpoint: Endpoint, api: Api, viewer: Client) -> None:
    where = f"endpoints/{endpoint.pk}/searches"

    assert api.post(where, until="0001-01-01T00:00:00Z")[1]["code"] == "time_wrong"
    last = {"since": "9999-12-31T00:00:00Z", "until": "9999-12-31T23:59:59.999999Z"}
    assert api.post(where, **last)[0] == 202
    assert viewer.get(PAGE).status_code == 200  # it lists the search, with its address


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, orjson.loads(b"[" * 500 + b"]" * 500), {"a": [1]}, None, [[1]]]
)
def test_values_of_any_size_and_depth_are_refused(
    value: Any, endpoint: Endpoint, now: datetime, api: Api
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    window = {"since": "2030-01-01T00:00:00Z", "until": "2030-01-01T01:00:00Z"}
    for column, op in (("in.origin", "eq"), ("in.distance", "in"), ("caller", "between")):
        body = {"conditions": [{"column": column, "op": op, "value": value}], **window}
        status, said = api.post(f"endpoints/{endpoint.pk}/searches", **body)
        assert (status, said["code"]) == (409, "value_wrong")
        assert len(said["message"]) < 400
    assert not Search.objects.exists()


def test_a_body_deeper_than_python_reads(endpoint: Endpoint, cast: Cast) -> None:
    value = b"[" * 100_000 + b"]" * 100_000
    answer = Client(raise_request_exception=False).post(
        f"/api/v1/endpoints/{endpoint.pk}/searches",
        b'{"conditions": [{"column": "caller", "op": "eq", "value": ' + value + b"}]}",
        content_type="application/json",
        headers=bearer(cast.viewer),
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"error": "x" * 1_000_000}, "at most 500 characters"),
        ({"request_id": "x" * 600}, "at most 500 characters"),
        ({"column": "in.origin", "op": "eq", "value": "x" * 1_000_000}, "is compared with a text"),
        ({"column": "in.origin", "op": "in", "value": "x" * 1_000_000}, "stand on one line"),
        ({"column": "in.origin", "op": "in", "value": "a\nb"}, "stand on one line"),
        ({"column": "in.distance", "op": "gt", "value": "nan"}, "a finite number"),
        ({"column": "in.distance", "op": "in", "value": "1, inf"}, "a finite number"),
        ({"column": "in.distance", "op": "in", "value": ""}, "is a number, not"),
        ({"column": "x" * 100_000, "op": "eq", "value": "1"}, "The log has no column"),
        ({"latency_from_ms": "nan"}, "Enter a number"),
        ({"column": ["in.distance"] * 51, "op": ["eq"] * 51, "value": ["1"] * 51}, "At most 50"),
    ],
)
def test_what_is_typed_at_any_length_is_told(
    form: dict[str, Any], words: str, endpoint: Endpoint, now: datetime, viewer: Client
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    window = {"since": "2030-01-01T00:00:00", "until": "2030-01-01T01:00:00"}

    answer = viewer.post(PAGE, window | form)

    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not Search.objects.exists()


def test_a_process_that_reads_long_cells_takes_no_longer_values(
    endpoint: Endpoint, now: datetime, viewer: Client
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    window = {"since": "2030-01-01T00:00:00", "until": "2030-01-01T01:00:00"}
    before = csv.field_size_limit(16 << 20)
    try:
        form = {"column": "in.origin", "op": "in", "value": "x" * 1_000_000}
        answer = viewer.post(PAGE, window | form)
    finally:
        csv.field_size_limit(before)
    assert answer.status_code == 400
    assert "stand on one line" in answer.content.decode()


# ---- addresses ----------------------------------------------------------------------------------


def again(endpoint: Endpoint, address: str, known: dict[str, str]) -> Question:
    """The question that whoever opens the address sends."""
    form = SearchForm(endpoint, QueryDict(address))
    assert form.is_valid(), form.errors
    return form.question(known, DAY)


def test_an_address_asks_what_was_asked(endpoint: Endpoint) -> None:
    texts = ["plain", "a, b", 'say "no"', "  wide  ", "", "'; drop table x", "ä%&=+"]
    first = Question(
        DAY, DAY + timedelta(hours=2), revisions=(1, 2), shadow="both", status="5xx",
        latency_from_ms=0.5, request_id=" a&b=c ", caller="x", error="50 %", order="sample",
        limit=7,
        conditions=(
            Condition("in.o", "in", texts), Condition("in.o", "between", ["a,b", "c"]),
            Condition("in.n", "in", [1.5, -2.0]), Condition("in.o", "eq", 'a, "b"'),
            Condition("in.b", "eq", True), Condition("in.n", "is_null"),
        ),
    )  # fmt: skip

    address = forms.address(first.as_json())

    known = {"in.o": "text", "in.n": "number", "in.b": "bool"}
    assert again(endpoint, address, known) == first


def test_an_address_misses_no_part_of_a_second(endpoint: Endpoint) -> None:
    until = DAY + timedelta(seconds=1, microseconds=1)
    first = Question(DAY + timedelta(microseconds=5), until)

    found = again(endpoint, forms.address(first.as_json()), {})

    assert (found.since, found.until) == (DAY, DAY + timedelta(seconds=2))


def test_an_address_that_is_too_long_names_the_search_only(
    endpoint: Endpoint, now: datetime, api: Api, viewer: Client
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    condition = {"column": "in.origin", "op": "in", "value": ["x" * 1000] * 900}
    window = {"since": "2030-01-01T00:00:00Z", "until": "2030-01-01T01:00:00Z"}
    status, queued = api.post(f"endpoints/{endpoint.pk}/searches", conditions=[condition], **window)
    assert status == 202

    text = viewer.get(PAGE).content.decode()

    assert f'href="{PAGE}?search={queued["id"]}#found"' in text
    assert len(text) < 100_000
    whole = viewer.get(PAGE, {"search": queued["id"]}).content.decode()
    assert whole.count("x" * 1000) == 900  # its form asks the same again


# ---- what was recorded --------------------------------------------------------------------------


def test_ids_of_any_kind_are_listed_and_found(
    endpoint: Endpoint, cast: Cast, now: datetime, viewer: Client
) -> None:
    """A model's own code may write into its spool: what no gateway lets through stands there."""
    ids = ["", "a\nb", "x" * 500, "..", "<b>'\"", "a\0b", "?&#%"]
    put(endpoint, *(asked(1.0, id=one) for one in ids))
    collect(now)
    search = find(endpoint, cast, now, question())
    assert (search.state, search.shown) == ("done", 7)

    answer = viewer.get(PAGE, {"search": search.pk})

    text = answer.content.decode()
    assert answer.status_code == 200
    assert "without an id" in text
    assert f"{PAGE}/{'x' * 500}" in text
    assert "<b>'" not in text
    moment = datetime.now(UTC) - timedelta(hours=1)
    at_us = int(moment.timestamp() * 1e6)
    segment(endpoint.revisions.get(number=1).pk, [record(at_us, **asked(5.0, id="x" * 500))])
    Collector(now=lambda: moment).tick()
    whole = viewer.get(f"{PAGE}/{'x' * 500}").content.decode()
    assert "What was asked" in whole
    # Its beginning is another id.
    assert "The log has no such request" in viewer.get(f"{PAGE}/{'x' * 400}").content.decode()


def test_a_body_as_deep_as_the_log_keeps_is_shown(
    endpoint: Endpoint, now: datetime, viewer: Client
) -> None:
    moment = datetime.now(UTC) - timedelta(hours=1)
    at_us = int(moment.timestamp() * 1e6)
    for name, levels in (("kept", 240), ("cut", 900)):
        body = orjson.loads(b"[" * levels + b"1" + b"]" * levels)
        changes = asked(1.0, id=name, request={"inputs": body}, response={"predictions": body})
        segment(endpoint.revisions.get(number=1).pk, [record(at_us, **changes)])
    Collector(now=lambda: moment).tick()

    for name in ("kept", "cut"):
        answer = viewer.get(f"{PAGE}/{name}")
        assert answer.status_code == 200
        assert "What was asked" in answer.content.decode()


def test_columns_with_quotes_are_shown_sorted_and_downloaded(
    endpoint: Endpoint, cast: Cast, now: datetime, viewer: Client, api: Api
) -> None:
    odd = "a\"; drop table best; -- ' <i>"
    split = {"columns": [odd], "data": [[2.0]]}
    put(
        endpoint,
        asked(0, id="two", request={"dataframe_split": split}),
        asked(0, id="one", request={"dataframe_split": split | {"data": [[1.0]]}}),
    )
    collect(now)
    search = find(endpoint, cast, now, question((f"in.{odd}", "le", 2)))
    assert search.shown == 2

    query = f"search={search.pk}&show={quote('in.' + odd)}&sort={quote('in.' + odd)}"
    text = viewer.get(f"{PAGE}?{query}").content.decode()
    assert "in.a&quot;; drop table best; -- &#x27; &lt;i&gt;" in text
    assert "<i>" not in text.replace("<i></i>", "")
    assert text.index(f"{PAGE}/one") < text.index(f"{PAGE}/two")
    _, found = api.get(f"searches/{search.pk}", sort=f"-in.{odd}")
    assert [row["id"] for row in found["rows"]] == ["two", "one"]
    _, content = api.download(f"searches/{search.pk}/download", **{"as": "csv"})
    assert b'in.a""; drop table best; --' in content


def test_a_result_that_the_disk_lost_is_gone(
    logged: Endpoint, cast: Cast, now: datetime, viewer: Client, api: Api
) -> None:
    search = find(logged, cast, now, question())
    (results.folder() / search.result_path).write_bytes(b"PAR1 no such thing")

    assert viewer.get(PAGE, {"search": search.pk}).status_code == 200
    assert api.get(f"searches/{search.pk}")[1]["rows"] == []
    status, said = api.get(f"searches/{search.pk}/download", **{"as": "csv"})
    assert (status, said["code"]) == (409, "no_result")


def test_a_disk_without_room_is_said_and_left_clean(
    logged: Endpoint, cast: Cast, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST_BYTES", 2_000)

    search = find(logged, cast, now, question())

    assert (search.state, search.reason, search.result_path) == ("failed", runner.NO_ROOM, "")
    assert list(results.folder().iterdir()) == []


def test_more_than_fits_says_how_to_see_it(
    logged: Endpoint, cast: Cast, now: datetime, viewer: Client
) -> None:
    newest = find(logged, cast, now, question(limit=2))
    sample = find(logged, cast, now, question(limit=2, order="sample"))

    text = viewer.get(PAGE, {"search": newest.pk}).content.decode()
    assert "The newest 2 are here. Ask for up to 100 k rows" in text
    assert "1,000 if you do not say; at most 100,000" in text
    assert "A sample of 2 rows is here" in viewer.get(PAGE, {"search": sample.pk}).content.decode()


def test_the_same_question_is_one_search_until_it_ended(
    endpoint: Endpoint, cast: Cast, viewer: Client
) -> None:
    window = {"since": "2030-01-01T00:00:00", "until": "2030-01-01T01:00:00"}
    first = viewer.post(PAGE, window).headers["Location"]
    second = viewer.post(PAGE, window).headers["Location"]

    assert first == second
    search = Search.objects.get()
    assert parse_qs(urlsplit(first).query)["search"] == [str(search.pk)]
    services.cancel(row=search, actor=cast.viewer, now=timezone.now())
    assert viewer.post(PAGE, window).headers["Location"] != first
