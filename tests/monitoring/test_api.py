"""Charts, summary and single requests over HTTP, for those who may see the endpoint."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from django.test import Client

from apps.monitoring.collector import Collector
from apps.serving.models import Endpoint
from tests.monitoring import making
from tests.monitoring.making import START_US, access_log, append, line, record, segment
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
    assert chart["table"]["columns"][1:4] == ["v1 p50", "v1 p95", "v1 p99"]
    assert len(chart["table"]["rows"]) == 6
    assert chart["table"]["rows"][1][1] is None

    status, summary = get("telemetry/summary", **window)
    rows = {row["revision"]: row for row in summary["revisions"]}
    assert (rows[stable.pk]["requests"], rows[stable.pk]["error_rate"]) == (2, 0.5)
    assert rows[stable.pk]["rate"] == 2 / 60
    assert rows[candidate.pk]["p99_ms"] == pytest.approx(3.0, rel=0.011)
    assert (summary["dropped"], summary["set_aside"]) == (4, 0)
    status, summary = get("telemetry/summary", **window, origin="server")
    assert {row["version"]: row["requests"] for row in summary["revisions"]} == {1: 1}
    status, summary = get("telemetry/summary", **window, origin="shadow")
    assert {row["version"]: row["requests"] for row in summary["revisions"]} == {2: 1}

    status, found = get("telemetry/log", request_id="asked", days=31)
    assert [(row["version"], row["shadow"]) for row in found["results"]] == [(1, False), (2, True)]
    assert found["results"][0]["request"] == {"inputs": [{"name": "distance", "data": [1.5]}]}
    assert get("telemetry/log", request_id="other") == (200, {"results": []})

    for path, query in (
        ("charts/traffic", {**window, "step": 15}),
        ("charts/traffic", {"since": UNTIL, "until": SINCE}),
        ("charts/traffic", {"since": "2029-01-01T00:00:00Z", "until": SINCE}),
        ("telemetry/summary", {"origin": "elsewhere"}),
        ("telemetry/log", {}),
    ):
        status, said = get(path, **query)
        assert (status, said["code"]) == (400, "invalid"), path
    assert get("charts/nothing")[0] == 404


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
