"""The log's page: its form, a search's rows, one request whole."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client

from apps.accounts.models import User
from apps.explorer.models import Search
from apps.monitoring.collector import Collector
from apps.monitoring.selectors import requests
from apps.quality.models import Labelled
from apps.serving.models import Endpoint
from tests.explorer.conftest import asked, collect, find, put, question, run
from tests.monitoring.making import START_US, record, segment
from tests.people import Cast

PAGE = "/endpoints/production/flights/log"
pytestmark = pytest.mark.django_db(transaction=True)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def viewer(cast: Cast) -> Client:
    return client_of(cast.viewer)


def test_an_empty_log_says_what_to_do(endpoint: Endpoint, viewer: Client) -> None:
    text = viewer.get(PAGE).content.decode()

    assert "Nothing was logged yet" in text
    assert "every request that was counted is in it" in text


def test_a_form_becomes_a_search_whose_address_can_be_shared(
    endpoint: Endpoint, now: datetime, viewer: Client, cast: Cast
) -> None:
    put(endpoint, *(asked(float(number), id=f"r{number}") for number in range(120)))
    collect(now)
    form = {
        "since": "2030-01-01T00:00:00", "until": "2030-01-01T01:00:00", "status": "2xx",
        "column": ["in.distance", "in.origin", ""], "op": ["ge", "in", "eq"],
        "value": ["60", "JFK, LGA", ""],
    }  # fmt: skip

    sent = viewer.post(PAGE, form)
    assert sent.status_code == 302
    address = sent.headers["Location"]
    query = parse_qs(urlsplit(address).query)
    assert (query["column"], query["value"]) == (["in.distance", "in.origin"], ["60.0", "JFK, LGA"])
    assert query["since"] == ["2030-01-01T00:00:00"]
    waiting = viewer.get(address).content.decode()
    assert "Waiting for a worker" in waiting
    search = Search.objects.get()
    assert f'data-live="search:{search.pk}"' in waiting
    assert search.job is not None
    run(search.job.pk)

    colleague = client_of(cast.approver)
    text = colleague.get(address).content.decode()
    assert "60 rows found" in text
    assert 'value="JFK, LGA"' in text
    assert '<option value="in" selected>' in text
    assert f"{PAGE}/r119" in text
    assert f"{PAGE}/r69" not in text  # on the second page
    second = colleague.get(f"{address.removesuffix('#found')}&page=2&sort=in.distance")
    assert f"{PAGE}/r119" in second.content.decode()
    part = viewer.get(address, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="found"')
    assert "<html" not in part
    shown = colleague.get(f"{PAGE}?search={search.pk}&show=in.origin").content.decode()
    assert ">in.origin</a>" in shown
    assert ">out.0</a>" not in shown


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"since": "never"}, "Enter a valid date/time"),
        ({"since": "2030-01-02", "until": "2030-01-01"}, "The beginning must lie before the end"),
        ({"column": "in.x", "op": "eq", "value": "1"}, "The log has no column"),
        ({"column": "in.distance", "op": "gt", "value": "far"}, "in.distance is a number, not"),
        ({"column": "in.distance", "op": "drop", "value": "1"}, "There is no"),
        ({"status": "9xx"}, "Enter a valid value"),
        ({"revision": "77"}, "Select a valid choice"),
        ({"limit": "1000000"}, "less than or equal to 100000"),
        ({"request_id": "x" * 501}, "at most 500 characters"),
    ],
)
def test_what_is_wrong_stands_beside_the_form(
    form: dict[str, str], words: str, endpoint: Endpoint, now: datetime, viewer: Client
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    window = {"since": "2030-01-01T00:00:00", "until": "2030-01-01T01:00:00"}

    answer = viewer.post(PAGE, window | form)

    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert not Search.objects.exists()


def test_a_search_that_is_not_here_is_left_out(endpoint: Endpoint, viewer: Client) -> None:
    for asked_for in ("99", "x", "9" * 30, "-1", "²"):
        assert viewer.get(PAGE, {"search": asked_for}).status_code == 200


def test_one_request_whole(endpoint: Endpoint, now: datetime, viewer: Client) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    odd = "a/b <c>?d=1#e%2F"
    put(endpoint, asked(None, id=odd, caller="airline"))
    put(endpoint, asked(None, id=odd, shadow=True, response={"predictions": [0.75]}), number=2)
    Labelled.objects.create(
        revision=stable, request_id=odd, row=0, shadow=False, at=now, label="late",
        observed_at=now, predicted=0.0, actual=1.0,
    )  # fmt: skip
    moment = datetime.now(UTC) - timedelta(hours=1)
    # Only of the last month is something found, so that these are of today.
    for revision, answer in ((stable, 0.25), (candidate, 0.75)):
        at_us = int(moment.timestamp() * 1e6)
        changes = asked(None, id=odd, response={"predictions": [answer]})
        segment(revision.pk, [record(at_us, **changes, shadow=revision == candidate)])
    Collector(now=lambda: moment).tick()

    from django.urls import reverse

    address = reverse("endpoint-request", args=["production", "flights", odd])
    assert address == f"{PAGE}/a/b%20%3Cc%3E%3Fd=1%23e%252F"
    text = viewer.get(address).content.decode()
    assert "a/b &lt;c&gt;?d=1#e%2F" in text
    assert ">distance</th>" in text
    assert "missing</span>" in text
    assert "a copy that reached nobody" in text
    assert "<mark>0.75</mark>" in text
    assert "[0]: 0.25 and 0.75" in text
    assert ">late</td>" in text
    assert " style=" not in text
    known = viewer.get(f"{address}?at={int(moment.timestamp())}").content.decode()
    assert "<mark>0.75</mark>" in known
    assert viewer.get(f"{address}?at=soon").status_code == 200
    path = f"/api/v1/endpoints/{endpoint.pk}/telemetry/log"
    told = viewer.get(path, {"request_id": odd, "at": moment.isoformat()}).json()
    assert told["results"][0]["differs"] == ""
    assert {row["differs"] for row in told["results"] if row["response"]["predictions"] == [0.75]}
    assert "" not in {row["differs"] for row in told["results"] if row["shadow"]}
    assert [(one["row"], one["label"]) for one in told["labels"]] == [(0, "late")]
    assert told["not_before"] is None


def test_a_page_that_could_not_look_at_all_files_says_so(
    endpoint: Endpoint, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that the log has no such request."""
    back = datetime(2030, 1, 1, tzinfo=UTC)
    looked = requests.Found([], not_before=back)
    monkeypatch.setattr(requests, "look_for", lambda *asked, **more: looked)
    text = viewer.get(f"{PAGE}/some%20id").content.decode()
    assert "Not found yet" in text
    assert "no such request" not in text
    assert f'{PAGE}?request_id=some%20id"' in text
    told = viewer.get(
        f"/api/v1/endpoints/{endpoint.pk}/telemetry/log", {"request_id": "some id"}
    ).json()
    assert told == {"results": [], "labels": [], "not_before": "2030-01-01T00:00:00Z"}


def test_an_unknown_id_says_where_to_look(endpoint: Endpoint, viewer: Client) -> None:
    for request_id in ("nothing", "x" * 600, "' or 1=1 --"):
        answer = viewer.get(f"{PAGE}/{request_id}")
        assert answer.status_code == 200
        assert "The log has no such request" in answer.content.decode()


def test_a_viewer_cancels_their_own_search_only(
    endpoint: Endpoint, now: datetime, viewer: Client, cast: Cast
) -> None:
    put(endpoint, asked(1.0))
    collect(now)
    ended = find(endpoint, cast, now, question())
    assert viewer.post(f"/searches/{ended.pk}/cancel").status_code == 409
    viewer.post(PAGE, {"status": "5xx"})
    mine = Search.objects.first()
    assert mine is not None
    assert client_of(cast.approver).post(f"/searches/{mine.pk}/cancel").status_code == 403

    assert viewer.post(f"/searches/{mine.pk}/cancel").status_code == 302

    mine.refresh_from_db()
    assert mine.state == "cancelled"
    text = viewer.get(f"{PAGE}?search={mine.pk}").content.decode()
    assert "The search was cancelled" in text
    assert START_US
