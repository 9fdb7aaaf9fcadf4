"""Incidents and monitors over HTTP."""

import struct
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import User
from apps.incidents.models import Incident, Watch
from apps.monitoring import usage, windows
from apps.monitoring.models import ReplicaUse
from tests.factories.incidents import AlertFactory, IncidentFactory, WatchFactory
from tests.incidents.stage import NAME, Stage, stage
from tests.people import Cast, bearer


@pytest.fixture
def built(cast: Cast, now: datetime) -> Stage:
    return stage(cast, now)


@pytest.fixture
def incident(built: Stage) -> Incident:
    found = IncidentFactory.create(endpoint=built.endpoint, served=built.stable)
    AlertFactory.create(incident=found)
    return found


def get(user: User, path: str) -> tuple[int, Any]:
    answer = Client().get(f"/api/v1/{path}", headers=bearer(user))
    return answer.status_code, answer.json()


def post(user: User, path: str, given: dict[str, Any]) -> tuple[int, Any]:
    answer = Client().post(
        f"/api/v1/{path}", given, content_type="application/json", headers=bearer(user)
    )
    return answer.status_code, answer.json()


def test_an_incident_whole(incident: Incident, cast: Cast) -> None:
    status, seen = get(cast.viewer, f"incidents/{incident.pk}")
    assert status == 200
    told = seen["incident"]
    assert {name: told[name] for name in ("model", "environment", "version", "title", "severity",
                                          "state", "assignee", "resolved_by", "revision")} == {
        "model": NAME, "environment": "production", "version": 3, "title": "Errors 4.1 %",
        "severity": "warning", "state": "open", "assignee": None, "resolved_by": None,
        "revision": 0,
    }  # fmt: skip
    (alert,) = seen["alerts"]
    assert (alert["monitor"], alert["column"], alert["version"], alert["closed_at"]) == (
        "errors",
        "",
        3,
        None,
    )
    assert (seen["notes"], seen["changes"]) == ([], [])


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 2),
        ("?state=open", 1),
        ("?state=unresolved", 1),
        ("?state=resolved", 1),
        ("?severity=critical", 0),
        (f"?model={NAME}", 2),
        ("?model=other", 0),
        ("?environment=production", 2),
        ("?assignee=ada", 1),
    ],
)
def test_the_list_is_filtered(
    incident: Incident, built: Stage, cast: Cast, query: str, count: int
) -> None:
    IncidentFactory.create(endpoint=built.endpoint, state="resolved", assignee=cast.owner)
    status, seen = get(cast.viewer, f"incidents{query}")
    assert (status, len(seen["results"])) == (200, count)


def test_every_verb(incident: Incident, cast: Cast) -> None:
    here = f"incidents/{incident.pk}"
    until = (timezone.now() + timedelta(hours=1)).isoformat()

    def state(verb: str, **given: Any) -> tuple[int, str]:
        status, seen = post(cast.operator, f"{here}/{verb}", given)
        return status, seen["incident"]["state"] if status == 200 else seen["code"]

    assert state("acknowledge", revision=0) == (200, "acknowledged")
    assert state("acknowledge", revision=0) == (409, "incident_changed")
    assert state("assign", username="ada") == (200, "acknowledged")
    assert state("assign", username="nobody") == (409, "cannot_handle")
    assert state("assign", username=None) == (200, "acknowledged")
    assert state("mute", until=until) == (200, "acknowledged")
    assert state("mute") == (400, "invalid")
    assert state("resolve", reason="Known") == (200, "resolved")
    assert state("resolve") == (409, "incident_resolved")
    assert state("reopen") == (200, "open")
    status, note = post(cast.operator, f"{here}/notes", {"text": "Found it"})
    assert (status, note["author"], note["text"]) == (201, "otto", "Found it")


def test_who_may(incident: Incident, cast: Cast) -> None:
    for user, expected in ((cast.viewer, 403), (cast.stranger, 404), (cast.owner, 200)):
        assert post(user, f"incidents/{incident.pk}/acknowledge", {})[0] == expected
    assert get(cast.stranger, f"incidents/{incident.pk}")[0] == 404
    assert get(cast.stranger, "incidents")[1]["results"] == []


def test_the_blind_spot_meter(built: Stage, cast: Cast) -> None:
    here = f"endpoints/{built.endpoint.pk}/monitors"
    (unread,) = get(cast.viewer, here)[1]
    assert (unread["state"], unread["is_blind"], unread["last_enough_at"]) == (
        "waiting",
        True,
        None,
    )
    built.minute()
    built.minute(requests=40)
    (monitor,) = get(cast.viewer, here)[1]
    assert monitor == {
        "name": "errors", "metric": "errors", "version": 3, "window_seconds": 60,
        "severity": "warning", "state": "quiet",
        "words": "Not enough data: 40 requests in 1 min, it needs 100", "value": None,
        "is_blind": True, "is_muted": False, "last_enough_at": "2030-01-07T12:01:00Z",
        "smallest": 0.03, "smallest_words": "3 % errors",
        "evaluated_at": "2030-01-07T12:02:30Z", "error": "", "error_since": None,
    }  # fmt: skip


def test_a_monitor_is_muted(built: Stage, cast: Cast) -> None:
    built.minute()
    here = f"endpoints/{built.endpoint.pk}/monitors"
    until = (timezone.now() + timedelta(hours=1)).isoformat()
    status, (monitor,) = post(cast.operator, f"{here}/errors/mute", {"until": until})
    assert (status, monitor["is_muted"]) == (200, True)
    assert post(cast.operator, f"{here}/none/mute", {"until": until})[0] == 404
    assert post(cast.viewer, f"{here}/errors/mute", {"until": None})[0] == 403
    status, (monitor,) = post(cast.operator, f"{here}/errors/mute", {"until": None})
    assert (status, monitor["is_muted"], Watch.objects.get().muted_until) == (200, False, None)


def test_its_chart(built: Stage, cast: Cast) -> None:
    built.minute(errors=20)
    (incident,) = built.minute(errors=20)
    here = f"incidents/{incident.pk}/chart"
    status, chart = get(cast.viewer, here)
    assert status == 200
    (trace,) = chart["figure"]["data"]
    assert trace["name"] == "v3"
    assert [value for value in trace["y"] if value is not None] == [pytest.approx(10)]
    assert chart["figure"]["layout"]["yaxis"]["title"]["text"] == "% of all"
    assert [shape["y0"] for shape in chart["figure"]["layout"]["shapes"]] == [0, 1]  # the limit
    table = chart["table"]
    assert (table["unit"], table["columns"]) == ("% of all", ["at", "v3"])
    assert [row[1] for row in table["rows"] if row[1] is not None] == [pytest.approx(10)]
    assert get(cast.viewer, f"{here}?only=figure") == (200, chart["figure"])
    assert get(cast.viewer, f"{here}?width=1")[0] == 400
    assert get(cast.stranger, here)[0] == 404


def test_its_chart_as_a_picture(built: Stage, cast: Cast) -> None:
    built.minute(errors=20)
    (incident,) = built.minute(errors=20)
    address = f"/api/v1/incidents/{incident.pk}/chart?format=png&width=400&height=200"
    answer = Client().get(address, headers=bearer(cast.viewer))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.content.startswith(b"\x89PNG\r\n")
    assert struct.unpack(">II", answer.content[16:24]) == (400, 200)


def test_lost_telemetry_has_no_picture_and_says_so(built: Stage, cast: Cast) -> None:
    """Requests per second were drawn, which tell nothing of it."""
    built.watch({"name": "telemetry", "metric": "capture_dropped", "window": 60, "at_least": 1})
    incident = IncidentFactory.create(endpoint=built.endpoint, title="Telemetry lost 3 records")
    watch = WatchFactory.create(endpoint=built.endpoint, rule="telemetry", metric="capture_dropped")
    AlertFactory.create(incident=incident, watch=watch)
    here = f"incidents/{incident.pk}/chart"
    words = (
        "Records that were not kept have no chart: nobody can draw what was lost."
        " How many they were stands below."
    )
    _, chart = get(cast.viewer, here)
    assert (chart["figure"]["data"], chart["table"]["rows"], chart["note"]) == ([], [], words)
    status, told = get(cast.viewer, f"{here}?format=png")
    assert (status, told["code"], told["message"]) == (409, "no_picture", words)


def test_saturation_is_drawn_as_such(built: Stage, cast: Cast) -> None:
    incident = IncidentFactory.create(
        endpoint=built.endpoint, served=built.stable, opened_at=built.now, resolved_at=built.now
    )
    watch = WatchFactory.create(endpoint=built.endpoint, rule="full", metric="saturation")
    AlertFactory.create(incident=incident, watch=watch)
    at = built.now - timedelta(minutes=10)
    for width in usage.KEPT:
        ReplicaUse.objects.create(
            revision=built.stable, index=1, at=windows.down(at, width), width_seconds=width,
            in_flight_looks=2, in_flight_sum=6, most_in_flight=3, in_flight_limit=4,
        )  # fmt: skip
    _, chart = get(cast.viewer, f"incidents/{incident.pk}/chart")
    named = {trace["name"]: trace["y"] for trace in chart["figure"]["data"]}
    assert [value for value in named["v3 in flight"] if value is not None] == [0.75]
    assert chart["table"]["unit"] == "share of the limit"
