"""Labels over HTTP, and quality by API and page."""

import json
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.lifecycle import Scope
from apps.baselines.layout import Column, Kind, Role
from apps.monitoring.models import Slice
from apps.quality.models import Feedback, Labelled
from apps.quality.services import feedback, joining
from apps.serving.models import Endpoint, Revision
from tests.people import Cast, bearer
from tests.quality import making
from tests.quality.making import SCORE, START, VALUE

pytestmark = pytest.mark.django_db
AT = {"request_id": "a", "label": 1}
SPAN = "since=2030-01-07T10:00:00Z&until=2030-01-07T13:00:00Z"


def post(client: Client, headers: dict[str, str], body: Any, **more: str) -> Any:
    return client.post(
        "/api/v1/feedback", json.dumps(body), "application/json", headers=headers | more
    )


@pytest.fixture
def labelled(cast: Cast, endpoint: Endpoint, revision: Revision, now: datetime) -> Endpoint:
    """200 predictions of the stable revision, 150 of which have a label; half are of a slice."""
    making.baseline(revision.version, SCORE, quality={"accuracy": 0.9, "roc_auc": 0.95})
    condition = [{"column": "in.kind", "op": "eq", "value": "far"}]
    Slice.objects.create(endpoint=endpoint, name="far ones", condition=condition, created_at=START)
    rng = np.random.default_rng(3)
    score = rng.uniform(size=200)
    making.row_file(
        revision,
        [f"r{i}" for i in range(200)],
        {
            "out.0": score,
            "in.kind": ["far" if i % 2 else "near" for i in range(200)],
            "in.distance": np.arange(200.0),
        },
    )
    batch = [
        {"request_id": f"r{i}", "label": int(score[i] > 0.5), "observed_at": "2030-01-07T11:59:00Z"}
        for i in range(150)
    ]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)
    return endpoint


def test_labels_are_taken_in_and_counted(cast: Cast, endpoint: Endpoint, client: Client) -> None:
    signed = bearer(cast.owner)
    first = [
        {"request_id": "a", "label": True, "observed_at": "2026-01-01T12:00:00Z"},
        {"request_id": "b", "label": [1.5, "two"], "endpoint": "production/flights"},
    ]
    answer = post(client, signed, first)
    assert answer.status_code == 202
    nothing = {"repeated": 0, "corrected": 0, "older": 0, "refused": []}
    assert answer.json() == {"accepted": 3} | nothing

    again = post(client, signed, {"items": [
        first[0],
        {"request_id": "a", "label": False, "observed_at": "2026-01-01T11:00:00Z"},
        {"request_id": "a", "label": False, "observed_at": "2026-01-01T13:00:00Z"},
        {"request_id": "b", "row": 1, "label": "two", "endpoint": "production/flights"},
    ]}).json()  # fmt: skip
    assert again == nothing | {"accepted": 0, "repeated": 2, "corrected": 1, "older": 1}
    kept = Feedback.objects.order_by("request_id", "row")
    assert list(kept.values_list("request_id", "row", "label", "endpoint")) == [
        ("a", 0, False, None), ("b", 0, 1.5, endpoint.pk), ("b", 1, "two", endpoint.pk),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ("a", "invalid_item"),
        ({"label": 1}, "invalid_request_id"),
        ({"request_id": "", "label": 1}, "invalid_request_id"),
        ({"request_id": 5, "label": 1}, "invalid_request_id"),
        ({"request_id": "a\0", "label": 1}, "invalid_request_id"),
        ({"request_id": "a"}, "invalid_label"),
        ({"request_id": "a", "label": None}, "invalid_label"),
        ({"request_id": "a", "label": {"b": 1}}, "invalid_label"),
        ({"request_id": "a", "label": [[1]]}, "invalid_label"),
        ({"request_id": "a", "label": "x" * 201}, "invalid_label"),
        ({"request_id": "a", "label": "\ud800"}, "invalid_label"),
        ({"request_id": "a", "label": 10**400}, "invalid_label"),
        ({"request_id": "a", "label": 1, "row": -1}, "invalid_row"),
        ({"request_id": "a", "label": 1, "row": True}, "invalid_row"),
        ({"request_id": "a", "label": 1, "observed_at": "soon"}, "invalid_observed_at"),
        (
            {"request_id": "a", "label": 1, "observed_at": "2099-13-01T00:00Z"},
            "invalid_observed_at",
        ),
        (
            {"request_id": "a", "label": 1, "observed_at": "2099-01-01T00:00Z"},
            "invalid_observed_at",
        ),
        ({"request_id": "a", "label": 1, "endpoint": "production/none"}, "not_found"),
    ],
)
def test_what_cannot_be_read_is_told_and_the_rest_is_kept(
    cast: Cast, endpoint: Endpoint, client: Client, item: Any, code: str
) -> None:
    answer = post(client, bearer(cast.owner), [{"request_id": "good", "label": "x"}, item]).json()

    assert (answer["accepted"], len(answer["refused"])) == (1, 1)
    assert (answer["refused"][0]["index"], answer["refused"][0]["code"]) == (1, code)
    assert Feedback.objects.get().request_id == "good"


def test_numbers_that_json_has_no_word_for_are_refused(
    cast: Cast, endpoint: Endpoint, client: Client
) -> None:
    for label in ("NaN", "Infinity", "1e999"):
        body = f'[{{"request_id": "a", "label": {label}}}]'
        answer = client.post(
            "/api/v1/feedback", body, "application/json", headers=bearer(cast.owner)
        )
        assert answer.status_code == 400 or answer.json()["refused"][0]["code"] == "invalid_label"
    assert not Feedback.objects.exists()


def test_a_batch_is_a_list_of_so_many_at_most(cast: Cast, client: Client) -> None:
    signed = bearer(cast.owner)
    one = {"request_id": "a", "label": 1}
    bodies: list[Any] = [{}, [], "x", 5, {"items": {}}, [one] * 10_001]
    for body in bodies:
        assert post(client, signed, body).status_code == 400
    assert not Feedback.objects.exists()
    assert post(client, signed, [one] * 10_000).json()["repeated"] == 9_999


def test_who_may_send(cast: Cast, endpoint: Endpoint, client: Client) -> None:
    one = [{"request_id": "a", "label": 1, "endpoint": "production/flights"}]
    for user in (cast.viewer, cast.approver):
        assert post(client, bearer(user), one).status_code == 403
    assert post(client, bearer(cast.owner, Scope.READ), one).status_code == 403
    refused = post(client, bearer(cast.stranger), one).json()["refused"]
    assert [(one["index"], one["code"]) for one in refused] == [(0, "not_found")]
    assert not Feedback.objects.exists()
    for user in (cast.owner, cast.operator, cast.admin):
        assert post(client, bearer(user), one).json()["accepted"] == 1


def test_a_call_sent_again_gets_the_first_answer(cast: Cast, client: Client) -> None:
    signed = bearer(cast.owner)
    one = [{"request_id": "a", "label": 1}]
    first = post(client, signed, one, **{"Idempotency-Key": "k"})
    again = post(client, signed, one, **{"Idempotency-Key": "k"})

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"


def test_ten_thousand_labels_take_few_queries(
    cast: Cast, endpoint: Endpoint, now: datetime, django_assert_max_num_queries: Any
) -> None:
    batch = [
        {"request_id": f"r{i}", "label": 1, "endpoint": "production/flights"} for i in range(10_000)
    ]
    with django_assert_max_num_queries(9):
        assert feedback.send(sender=cast.owner, batch=batch, now=now).accepted == 10_000


def test_quality_over_http(cast: Cast, labelled: Endpoint, client: Client) -> None:
    url = f"/api/v1/endpoints/{labelled.pk}/quality"
    answer = client.get(f"{url}?{SPAN}", headers=bearer(cast.viewer)).json()

    assert (answer["task"], answer["labels"]) == ("binary", 150)
    figures = {one["name"]: one for one in answer["metrics"]}
    assert figures["accuracy"]["value"] == 1.0
    assert figures["accuracy"]["low"] == pytest.approx(0.975, abs=5e-4)
    assert figures["accuracy"]["reference"] == 0.9
    assert figures["roc_auc"]["value"] == pytest.approx(1.0, abs=0.01)
    assert answer["confusion"]["names"] == ["0", "1"]
    wrong = [answer["confusion"]["rows"][i]["counts"][1 - i] for i in range(2)]
    assert wrong == [0, 0]
    # Predicted each second from 11:00:00, observed at 11:59:00: the middle one is the 75th.
    assert answer["median_delay_seconds"] == 59 * 60 - 74.5
    assert answer["uncounted"] == []
    assert sum(one["n"] for one in answer["calibration"]) == 150


def test_quality_of_a_slice_and_of_a_revision(
    cast: Cast, labelled: Endpoint, client: Client
) -> None:
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{labelled.pk}/quality?{SPAN}"
    part = Slice.objects.get()

    assert client.get(f"{url}&slice={part.pk}", headers=signed).json()["labels"] == 75
    assert client.get(f"{url}&revision=1", headers=signed).json()["labels"] == 150
    nothing = client.get(f"{url}&revision=2", headers=signed).json()
    assert (nothing["labels"], nothing["reason"]) == (0, "No label has come")
    assert client.get(f"{url}&revision=9", headers=signed).status_code == 404
    assert client.get(f"{url}&slice={part.pk + 1}", headers=signed).status_code == 404


def test_quality_over_time(cast: Cast, labelled: Endpoint, client: Client) -> None:
    url = f"/api/v1/endpoints/{labelled.pk}/quality/series?{SPAN}&step=60&metric=accuracy"
    answer = client.get(url, headers=bearer(cast.viewer)).json()

    band_low, band_high, line = answer["figure"]["data"]
    assert line["name"] == "v1"
    # 60 labels in each of the first two minutes, 30 in the third.
    assert line["y"] == [1.0, 1.0, 1.0]
    assert band_low["y"][2] == pytest.approx(0.8865, abs=5e-5)
    assert band_high["y"] == [1.0, 1.0, 1.0]
    assert [row[-1] for row in answer["table"]["rows"]] == [60, 60, 30]
    assert answer["figure"]["layout"]["shapes"][0]["y0"] == 0.9

    short = client.get(url.replace("step=60", "step=61"), headers=bearer(cast.viewer))
    assert short.status_code == 400


def test_quality_by_a_column(cast: Cast, labelled: Endpoint, client: Client) -> None:
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{labelled.pk}/quality/by"
    answer = client.get(f"{url}/in.kind?{SPAN}", headers=signed).json()
    assert [(one["value"], one["labels"]) for one in answer["groups"]] == [
        ("far", 75),
        ("near", 75),
    ]
    assert answer["groups"][0]["metrics"][0]["value"] == 1.0

    answer = client.get(f"{url}/in.distance?{SPAN}", headers=signed).json()
    assert [(one["value"], one["labels"]) for one in answer["groups"]] == [
        ("below 29.8", 30), ("29.8 to 59.6", 30), ("59.6 to 89.4", 30), ("89.4 to 119.2", 30),
        ("119.2 and above", 30),
    ]  # fmt: skip

    refused = client.get(f"{url}/in.nothing?{SPAN}", headers=signed)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_such_column")


def test_quality_is_estimated_where_no_label_came(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    shares = [i / 49 for i in range(50)]
    frozen = making.baseline(revision.version, SCORE, calibration={"shares": shares, "rows": 900})
    making.tally(revision, frozen, [(0, 0, 300), (49, 1, 100)])
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{endpoint.pk}/quality"

    answer = client.get(f"{url}?{SPAN}", headers=signed).json()
    assert (answer["labels"], answer["predictions"]) == (0, 400)
    assert answer["estimated"]["is_estimate"] is True
    figures = {one["name"]: one["value"] for one in answer["estimated"]["metrics"]}
    assert figures == {"accuracy": 1, "roc_auc": 1, "precision": 1, "recall": 1, "f1": 1}

    chart = client.get(f"{url}/series?{SPAN}&step=3600&metric=recall", headers=signed).json()
    [line] = chart["figure"]["data"]
    assert (line["name"], line["line"]["dash"]) == (
        "v1 estimate; blind to concept drift", "dash",
    )  # fmt: skip
    assert (line["x"], line["y"]) == (["2030-01-07T11:00:00+00:00"], [1.0])


def test_of_a_model_without_scores_nothing_is_estimated(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    making.baseline(revision.version, making.VALUE)
    url = f"/api/v1/endpoints/{endpoint.pk}/quality?{SPAN}"

    answer = client.get(url, headers=bearer(cast.viewer)).json()["estimated"]
    assert answer["reason"] == "The model gives no probability of a positive class"
    assert answer["metrics"] == []


def page(client: Client, cast: Cast, **query: str) -> str:
    client.force_login(cast.viewer)
    answer = client.get("/endpoints/production/flights/quality", query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_labels_the_page_says_how_to_send_one(
    cast: Cast, endpoint: Endpoint, client: Client
) -> None:
    text = page(client, cast)

    assert "No label has come yet" in text
    assert "curl -X POST http://testserver/api/v1/feedback" in text
    assert "production/flights" in text


def test_the_page_shows_what_labels_say(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    kind = Column("in.kind", Role.INPUT, Kind.CATEGORICAL, values=("near",))
    making.baseline(revision.version, SCORE, kind, quality={"accuracy": 0.9})
    now = timezone.now()
    ids = [f"r{i}" for i in range(40)]
    columns: dict[str, Any] = {"out.0": np.linspace(0.01, 0.99, 40), "in.kind": ["<near>"] * 40}
    making.row_file(revision, ids, columns, at=now - timedelta(hours=1))
    batch = [{"request_id": one, "label": int(i >= 20)} for i, one in enumerate(ids)]
    feedback.send(sender=cast.owner, batch=[*batch, {"request_id": "lost", "label": 1}], now=now)
    joining.sweep(now=now)

    text = page(client, cast, window="1d", metric="accuracy", revision="77", column="in.kind")

    assert "Labels came for <strong>40</strong>" in text
    assert "reference 90" in text
    assert 'aria-label="Quality of the last 24 hours"' in text
    assert "its prediction is not in the log yet" in text
    assert "&lt;near&gt;" in text
    assert "<near>" not in text
    assert 'id="chart-calibration"' in text


def test_a_stranger_sees_nothing(cast: Cast, endpoint: Endpoint, client: Client) -> None:
    client.force_login(cast.stranger)
    assert client.get("/endpoints/production/flights/quality").status_code == 404


def test_labels_out_of_all_measure_are_told_beside_the_others(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    """They were in no figure, on no page and in no answer."""
    kind = Column("in.kind", Role.INPUT, Kind.CATEGORICAL, values=("near",))
    known = {"label_mean": 10.0, "label_std": 4.0}
    making.baseline(revision.version, VALUE, kind, quality=known)
    now = timezone.now()
    columns: dict[str, Any] = {"out.0": np.full(40, 10.0), "in.kind": ["near"] * 40}
    making.row_file(revision, [f"r{i}" for i in range(40)], columns, at=now - timedelta(hours=1))
    batch = [{"request_id": f"r{i}", "label": 11 if i else 1e300} for i in range(40)]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)

    url = f"/api/v1/endpoints/{endpoint.pk}/quality"
    answer = client.get(url, headers=bearer(cast.viewer)).json()
    assert (answer["labels"], answer["extreme"], answer["left_out"]) == (39, 1, 0)
    found = client.get(f"{url}/by/in.kind", headers=bearer(cast.viewer)).json()
    assert (found["labels"], found["extreme"], found["groups"][0]["labels"]) == (40, 1, 39)
    text = page(client, cast, window="1d", column="in.kind")
    assert "1 more label is in no figure" in text
    assert "40 labels, 1 of them too far from all others to count." in text


def test_charts_of_quality_are_pictures_too(cast: Cast, labelled: Endpoint, client: Client) -> None:
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{labelled.pk}/quality"

    for kind in ("series", "calibration"):
        answer = client.get(f"{url}/{kind}?{SPAN}&format=png&width=300&height=200", headers=signed)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png"), kind
        assert answer.content.startswith(b"\x89PNG")
        size = [int.from_bytes(answer.content[at : at + 4], "big") for at in (16, 20)]
        assert size == [300, 200]
    wrong = client.get(f"{url}/series?{SPAN}&format=png&step=61", headers=signed)
    assert (wrong.status_code, wrong.headers["Content-Type"]) == (400, "application/json")


def test_calibration_over_http(cast: Cast, labelled: Endpoint, client: Client) -> None:
    url = f"/api/v1/endpoints/{labelled.pk}/quality/calibration?{SPAN}"
    chart = client.get(url, headers=bearer(cast.viewer)).json()

    should, line = chart["figure"]["data"]
    assert (should["name"], line["name"]) == ("as it should be", "labels")
    assert sum(row[-1] for row in chart["table"]["rows"]) == 150
    assert [row[1] for row in chart["table"]["rows"]] == line["y"]
    nothing = client.get(f"{url}&revision=2&only=figure", headers=bearer(cast.viewer)).json()
    assert nothing["data"] == []


def test_an_open_page_asks_its_charts_for_now(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    """Their end was the moment when the page was opened, so that nothing new came in."""
    making.baseline(revision.version, SCORE)
    now = timezone.now()
    ids = [f"r{i}" for i in range(40)]
    making.row_file(revision, ids, {"out.0": np.linspace(0, 1, 40)}, at=now - timedelta(hours=1))
    batch = [{"request_id": one, "label": int(i >= 20)} for i, one in enumerate(ids)]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)

    text = page(client, cast, window="1d", revision="1")
    asked = f"/api/v1/endpoints/{endpoint.pk}/quality/"
    query = "only=figure&amp;window=1d&amp;revision=1"
    assert f'data-chart-url="{asked}series?{query}&amp;metric=accuracy&amp;step=3600"' in text
    assert f'data-chart-url="{asked}calibration?{query}"' in text
    chart = client.get(f"{asked}series?window=1d&step=3600", headers=bearer(cast.viewer)).json()
    assert sum(row[-1] for row in chart["table"]["rows"]) == 40


def test_a_page_without_labels_is_loaded_again_when_they_come(
    cast: Cast, labelled: Endpoint, client: Client
) -> None:
    def asks(target: str) -> tuple[int, str | None]:
        headers = {"HX-Request": "true", "HX-Target": target}
        client.force_login(cast.viewer)
        answer = client.get("/endpoints/production/flights/quality", headers=headers)
        return answer.status_code, answer.headers.get("HX-Refresh")

    assert asks("until-labels") == (200, "true")
    assert asks("until-counting") == (204, None)
    Slice.objects.create(endpoint=labelled, name="new", condition=[], created_at=START)
    assert asks("until-counting") == (200, "true")
    Labelled.objects.all().delete()
    assert asks("until-labels") == (204, None)
    assert 'id="until-labels" data-live="endpoint:' in page(client, cast)
