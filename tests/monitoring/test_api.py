"""Charts, drift, slices, summary and single requests over HTTP, for who may see the endpoint."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from apps.monitoring.collector import Collector
from apps.monitoring.models import Rollup, Slice
from apps.serving.models import Endpoint
from tests.factories.monitoring import RollupFactory
from tests.monitoring import making
from tests.monitoring.making import START_US, access_log, append, line, record, segment
from tests.monitoring.tallied import flights, freeze, tally
from tests.people import Cast, bearer

SINCE = "2030-01-01T00:00:00Z"
UNTIL = "2030-01-01T00:01:00Z"
pytestmark = pytest.mark.django_db


@pytest.fixture
def served(cast: Cast, now: datetime, var: object) -> Endpoint:
    """An endpoint that answered three callers and one shadow."""
    endpoint = making.endpoint(cast.team, now)
    stable, candidate = endpoint.revisions.order_by("number")
    append(
        access_log(),
        line(START_US, stable, us=1000)
        + line(START_US, stable, code=500)
        + line(START_US + 30_000_000, candidate, us=3000),
    )
    segment(stable.pk, [record(START_US, id="asked")], tail=b'{"dropped":4,"ts":1}\n')
    segment(candidate.pk, [record(START_US + 1, id="asked", shadow=True)])
    Collector(now=lambda: datetime.fromtimestamp(START_US / 1e6, UTC)).tick()
    return endpoint


def test_it_answers_charts_summary_and_log(cast: Cast, served: Endpoint, client: Client) -> None:
    signed = bearer(cast.viewer)
    stable, candidate = served.revisions.order_by("number")

    def get(path: str, **query: object) -> tuple[int, dict]:  # type: ignore[type-arg]
        asked = f"/api/v1/endpoints/{served.pk}/{path}?{urlencode(query)}"
        answer = client.get(asked, headers=signed)
        return answer.status_code, answer.json()

    window = {"since": SINCE, "until": UNTIL}
    status, chart = get("charts/traffic", **window, step=30)
    assert status == 200
    times = ["2030-01-01T00:00:00+00:00", "2030-01-01T00:00:30+00:00"]
    first, second = chart["figure"]["data"]
    assert (first["name"], second["name"]) == ("v1", "v2")
    assert first["line"]["color"] == "var(--series-0)"
    assert second["line"]["color"] == "var(--series-1)"
    assert first["x"] == second["x"] == times
    assert (first["y"], second["y"]) == ([2 / 30, 0.0], [0.0, 1 / 30])
    assert chart["table"] == {
        "unit": "requests / s",
        "columns": ["at", "v1", "v2"],
        "rows": [[times[0], 2 / 30, 0.0], [times[1], 0.0, 1 / 30]],
    }
    assert get("charts/traffic", **window, step=30, only="figure") == (200, chart["figure"])

    status, chart = get("charts/errors", **window, step=30)
    assert [trace["name"] for trace in chart["figure"]["data"]] == ["v1 5xx", "v2 5xx"]
    assert chart["figure"]["data"][0]["y"] == [1 / 30, 0.0]

    status, chart = get("charts/latency", **window)
    assert chart["table"]["columns"][1:6] == ["v1 p50", "v1 p90", "v1 p95", "v1 p99", "v1 p99.9"]
    assert len(chart["table"]["rows"]) == 6
    assert chart["table"]["rows"][1][1] is None

    status, summary = get("telemetry/summary", **window)
    rows = {row["revision"]: row for row in summary["revisions"]}
    assert (rows[stable.pk]["requests"], rows[stable.pk]["error_rate"]) == (2, 0.5)
    assert rows[stable.pk]["rate"] == 2 / 60
    assert rows[candidate.pk]["p99_ms"] == pytest.approx(3.0, rel=0.011)
    assert (summary["dropped"], summary["set_aside"], summary["left_out"]) == (4, 0, 0)
    status, summary = get("telemetry/summary", **window, origin="server")
    assert {row["version"]: row["requests"] for row in summary["revisions"]} == {1: 1}
    status, summary = get("telemetry/summary", **window, origin="shadow")
    assert {row["version"]: row["requests"] for row in summary["revisions"]} == {2: 1}

    status, found = get("telemetry/log", request_id="asked", days=31)
    assert [(row["version"], row["shadow"]) for row in found["results"]] == [(1, False), (2, True)]
    assert found["results"][0]["request"] == {"inputs": [{"name": "distance", "data": [1.5]}]}
    assert [row["differs"] for row in found["results"]] == ["", found["results"][1]["differs"]]
    assert get("telemetry/log", request_id="other") == (
        200, {"results": [], "labels": [], "not_before": None},
    )  # fmt: skip

    for path, query in (
        ("charts/traffic", {**window, "step": 15}),
        ("charts/traffic", {"since": UNTIL, "until": SINCE}),
        ("charts/traffic", {"since": "2028-01-01T00:00:00Z", "until": SINCE}),
        ("telemetry/summary", {"origin": "elsewhere"}),
        ("telemetry/log", {}),
    ):
        status, said = get(path, **query)
        assert (status, said["code"]) == (400, "invalid"), path
    assert get("charts/nothing")[0] == 404


@pytest.mark.parametrize("kind", ["traffic", "errors", "latency", "gateway"])
def test_charts_of_an_endpoint_without_a_revision_are_empty(
    cast: Cast, now: datetime, client: Client, kind: str
) -> None:
    endpoint = making.endpoint(cast.team, now, revisions=1)
    endpoint.stable = None
    endpoint.save()
    endpoint.revisions.all().delete()  # its only deployment was refused
    found = ask(client, cast, endpoint, f"charts/{kind}", since=SINCE, until=UNTIL)
    assert found.status_code == 200
    assert found.json()["table"]["rows"] == []


def test_strangers_see_nothing(cast: Cast, served: Endpoint, client: Client) -> None:
    paths = ("charts/traffic", "telemetry/summary", "telemetry/log?request_id=asked")
    for path in paths:
        url = f"/api/v1/endpoints/{served.pk}/{path}"
        assert client.get(url, headers=bearer(cast.stranger)).status_code == 404
        assert client.get(url).status_code == 401


def test_the_default_window_is_the_last_hour_without_the_running_bucket(
    cast: Cast, served: Endpoint, client: Client
) -> None:
    served.revisions.first()
    recent = datetime.now(UTC) - timedelta(minutes=30)
    append(access_log(), line(int(recent.timestamp() * 1e6), served.stable))
    Collector().count_gateway()
    answer = client.get(
        f"/api/v1/endpoints/{served.pk}/charts/traffic", headers=bearer(cast.viewer)
    ).json()
    rows = answer["table"]["rows"]
    assert answer["table"]["columns"] == ["at", "v1"]
    assert len(rows) in (120, 121)
    assert sum(row[1] for row in rows) == pytest.approx(1 / 30)
    assert datetime.fromisoformat(rows[-1][0]) <= datetime.now(UTC) - timedelta(seconds=35)


# ---- columns ---------------------------------------------------------------------------------

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
DAY = {"since": (NOON - timedelta(hours=22)).isoformat(),
       "until": (NOON + timedelta(hours=2)).isoformat()}  # fmt: skip


@pytest.fixture
def compared(cast: Cast, now: datetime, var: object) -> Endpoint:
    """An endpoint whose distances moved, an hour after rows that looked like the reference."""
    endpoint = making.endpoint(cast.team, now)
    revision = endpoint.stable
    assert revision is not None
    baseline = freeze(revision.build, flights(1, 20_000), now)
    tally(revision, baseline, NOON - timedelta(hours=1), flights(2, 2_000))
    tally(revision, baseline, NOON, flights(3, 3_000, shift=0.8, missing=0.1))
    return endpoint


def ask(client: Client, cast: Cast, endpoint: Endpoint, path: str, **query: object) -> Any:
    address = f"/api/v1/endpoints/{endpoint.pk}/{path}?{urlencode(query)}"
    return client.get(address, headers=bearer(cast.viewer))


def test_drift_ranks_the_columns(cast: Cast, compared: Endpoint, client: Client) -> None:
    found = ask(client, cast, compared, "drift", **DAY).json()
    assert (found["revision"], found["version"], found["rows"]) == (1, 1, 5_000)
    assert (found["against"], found["widened"]) == ("baseline", False)
    states = {one["name"]: one["state"] for one in found["columns"]}
    assert states == {
        "in.distance": "drifted", "in.dep_delay": "quiet", "in.origin": "quiet", "in.hour": "quiet",
        "out.0": "quiet",
    }  # fmt: skip
    assert found["columns"][0]["name"] == "in.distance"
    assert found["columns"][0]["js"] == pytest.approx(0.1969, abs=1e-4)
    [delay] = [one for one in found["columns"] if one["name"] == "in.dep_delay"]
    assert delay["missing"]["state"] == "drifted"
    assert delay["missing"]["reference"] == 0
    late = {"since": NOON.isoformat(), "until": (NOON + timedelta(hours=1)).isoformat()}
    found = ask(client, cast, compared, "drift", **late, compare="previous").json()
    assert (found["rows"], found["against"]) == (3_000, "previous")
    assert found["columns"][0]["reference_rows"] == 2_000


def test_charts_of_columns(cast: Cast, compared: Endpoint, client: Client) -> None:
    chart = ask(client, cast, compared, "charts/drift", **DAY).json()
    assert len(chart["table"]["rows"]) == 2
    assert chart["table"]["columns"][1] == "distance"
    before, after = (row[1] for row in chart["table"]["rows"])
    assert before < 0.05 < 0.2 < after
    one = ask(client, cast, compared, "charts/drift", **DAY, column="in.hour").json()
    assert one["table"]["columns"] == ["at", "hour"]

    chart = ask(client, cast, compared, "charts/missing", **DAY).json()
    assert chart["table"]["columns"] == ["at", "dep_delay"]
    assert chart["table"]["rows"][0][1] == 0
    assert chart["table"]["rows"][1][1] == pytest.approx(0.1, abs=0.02)

    given = {**DAY, "column": "in.origin"}
    chart = ask(client, cast, compared, "charts/distribution", **given).json()
    assert chart["table"]["columns"] == ["values", "reference", "v1 now"]
    assert [row[0] for row in chart["table"]["rows"]] == ["JFK", "LGA", "EWR", "other", "unseen"]
    assert sum(row[2] for row in chart["table"]["rows"]) == pytest.approx(1)
    refused = ask(client, cast, compared, "charts/distribution", **DAY, column="in.nothing")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_column")


def test_without_a_baseline_it_says_so(cast: Cast, served: Endpoint, client: Client) -> None:
    for path in ("drift", "charts/drift", "charts/missing"):
        refused = ask(client, cast, served, path)
        assert (refused.status_code, refused.json()["code"]) == (409, "no_baseline"), path


def test_a_chart_is_a_picture_too(cast: Cast, served: Endpoint, client: Client) -> None:
    window = {"since": SINCE, "until": UNTIL}
    answer = ask(client, cast, served, "charts/traffic", **window, format="png", width=400)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(answer.content[16:20]) == 400
    wanted = {**bearer(cast.viewer), "Accept": "image/png"}
    address = f"/api/v1/endpoints/{served.pk}/charts/latency?{urlencode(window)}"
    assert client.get(address, headers=wanted).headers["Content-Type"] == "image/png"
    wrong = client.get(f"{address}&step=7", headers=wanted)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid")


def test_percentiles_and_revisions_are_chosen(cast: Cast, served: Endpoint, client: Client) -> None:
    window = {"since": SINCE, "until": UNTIL}
    chart = ask(client, cast, served, "charts/latency", **window, percentiles="p50,p99.9").json()
    assert chart["table"]["columns"] == ["at", "v1 p50", "v1 p99.9", "v2 p50", "v2 p99.9"]
    chart = ask(client, cast, served, "charts/traffic", **window, revision=2, compare=2).json()
    assert chart["table"]["columns"] == ["at", "v2"]
    chart = ask(client, cast, served, "charts/traffic", **window, compare="1,2").json()
    assert chart["table"]["columns"] == ["at", "v1", "v2"]
    chart = ask(client, cast, served, "charts/traffic", **window, origin="shadow").json()
    assert chart["table"]["columns"] == ["at", "v2"]
    chart = ask(client, cast, served, "charts/gateway", **window).json()
    assert chart["table"]["columns"][:3] == ["at", "v1 gateway p50", "v1 model p50"]
    for query in ({"percentiles": "p42"}, {"revision": 9}, {"compare": "x"}, {"slice": 9}):
        answer = ask(client, cast, served, "charts/traffic", **window, **query)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), query


def test_a_year_is_read_from_days(cast: Cast, now: datetime, var: object, client: Client) -> None:
    endpoint = making.endpoint(cast.team, now)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in (10, 200, 364):
        RollupFactory.create(revision=endpoint.stable, at=today - timedelta(days=days))
    rows = ask(client, cast, endpoint, "charts/traffic", window="1y").json()["table"]["rows"]
    assert len(rows) == 365
    assert [row[1] * 86_400 for row in rows if row[1]] == pytest.approx([500, 500, 500])
    assert Rollup.objects.filter(width_seconds=86_400).count() == 3


def test_slices_are_made_listed_and_retired(cast: Cast, compared: Endpoint, client: Client) -> None:
    address = f"/api/v1/endpoints/{compared.pk}/slices"
    body = {"name": "JFK", "condition": [{"column": "in.origin", "op": "eq", "value": "JFK"}]}

    def post(user: Any, given: Any) -> Any:
        return client.post(address, given, "application/json", headers=bearer(user))

    assert post(cast.viewer, body).status_code == 403
    made = post(cast.owner, body)
    assert made.status_code == 201
    assert made.json() | {"id": 0, "created_at": ""} == body | {
        "id": 0, "created_at": "", "retired_at": None,
    }  # fmt: skip
    again = post(cast.owner, body)
    assert (again.status_code, again.json()["code"]) == (409, "name_taken")
    wrong = post(cast.owner, {"name": "x", "condition": [{"column": "in.x", "op": "is_null"}]})
    assert (wrong.status_code, wrong.json()["code"]) == (409, "bad_condition")
    listed = client.get(address, headers=bearer(cast.viewer)).json()
    assert [one["name"] for one in listed] == ["JFK"]

    part = Slice.objects.get()
    assert compared.stable is not None
    baseline = compared.stable.version.baselines.get()
    jfk = flights(5, 600, airports=(1.0, 0.0, 0.0))
    tally(compared.stable, baseline, NOON, jfk, part=part, ms=30, figures={"server_errors": 6})
    found = ask(client, cast, compared, "drift", **DAY, slice=part.pk).json()
    assert (found["rows"], found["columns"][0]["name"]) == (600, "in.origin")
    chart = ask(client, cast, compared, "charts/latency", **DAY, slice=part.pk).json()
    [p50] = [row[1] for row in chart["table"]["rows"] if row[1]]
    assert p50 == pytest.approx(30, rel=0.011)

    one = f"{address}/{part.pk}"
    assert client.delete(one, headers=bearer(cast.viewer)).status_code == 403
    assert client.delete(one, headers=bearer(cast.owner)).status_code == 204
    assert client.get(address, headers=bearer(cast.viewer)).json() == []


@pytest.mark.parametrize("until", ["1969-06-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("kind", ["traffic", "drift"])
def test_a_time_of_which_nothing_can_be_kept_is_refused_in_words(
    client: Client, cast: Cast, compared: Endpoint, kind: str, until: str
) -> None:
    found = ask(client, cast, compared, f"charts/{kind}", until=until)
    assert (found.status_code, found.json().get("code")) == (400, "invalid")
