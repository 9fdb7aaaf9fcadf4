"""Rounds over real sums: what fires, what joins, what ends, and what people are told."""

from datetime import datetime, timedelta

import pytest
from django.test import Client

from apps.audit.models import Event
from apps.incidents import runner
from apps.incidents.models import Alert, Incident, Round, Watch
from apps.incidents.selectors import shown
from apps.incidents.services import handling
from apps.notifications.models import Delivery
from apps.serving.models import Revision
from tests.factories.builds import BuildFactory
from tests.factories.registry import VersionFactory
from tests.factories.serving import RevisionFactory
from tests.incidents.stage import ERRORS, Stage, stage
from tests.people import Cast, bearer


@pytest.fixture
def built(cast: Cast, now: datetime) -> Stage:
    return stage(cast, now)


def told() -> list[tuple[str, str]]:
    rows = Delivery.objects.order_by("pk").values_list("user__username", "kind")
    return list(rows)


def test_it_opens_after_two_of_three_and_ends_by_itself(built: Stage, cast: Cast) -> None:
    assert built.minute() == []
    assert built.minute(errors=20) == []
    (incident,) = built.minute(errors=20)

    assert (incident.number, incident.title) == (1, "Errors 10 % of v3")
    assert (incident.state, incident.severity, incident.served) == ("open", "warning", built.stable)
    alert = Alert.objects.get()
    assert alert.words == "Errors: 10 % of 200 requests in 1 min, limit 1 %"
    assert alert.evidence["count"] == 20
    assert alert.closed_at is None

    assert built.minute()[0].state == "open"
    (incident,) = built.minute()
    assert (incident.state, incident.resolved_by) == ("resolved", None)
    assert incident.resolved_at == built.now + timedelta(seconds=30)
    alert.refresh_from_db()
    assert alert.closed_at == incident.resolved_at
    assert alert.ended == "Errors: 0 % of 200 requests in 1 min, limit 1 %"
    events = Event.objects.filter(object_type="incident").order_by("pk")
    assert [event.verb for event in events] == ["incident.opened", "incident.resolved"]
    people = ["otto", "dora", "ada"]  # who runs it, and who registered the version
    assert sorted(told()) == sorted(
        [(who, kind) for who in people for kind in ("incident.opened", "incident.resolved")]
    )


def test_a_second_round_of_the_same_windows_does_nothing(built: Stage) -> None:
    built.minute(errors=20)
    built.minute(errors=20)
    Round.objects.update(due_at=built.now)
    assert built.round() == 1
    watch = Watch.objects.get()
    assert (Alert.objects.count(), len(watch.history)) == (1, 2)
    assert len(told()) == 3


def test_only_what_is_due_is_read_and_only_by_one(built: Stage) -> None:
    built.minute()
    assert built.round() == 0
    row = Round.objects.get()
    assert row.due_at == built.now + timedelta(seconds=60)
    built.now += timedelta(minutes=1)
    later = built.now + timedelta(seconds=30)
    assert row.claim(later)
    assert built.round() == 0  # another worker is on it
    built.now += timedelta(minutes=3)
    assert built.round() == 1  # which died
    row.finish(built.now, due_at=built.now)  # or only slept: its lease is another's by now
    row.refresh_from_db()
    assert row.due_at > built.now


def test_too_few_requests_neither_fire_nor_clear(built: Stage) -> None:
    built.minute(errors=20)
    built.minute(errors=20)
    for _ in range(3):
        (incident,) = built.minute(requests=50)
        assert incident.state == "open"
    watch = Watch.objects.get()
    assert watch.reading["words"] == "Not enough data: 50 requests in 1 min, it needs 100"
    assert watch.reading["verdict"] == "unknown"
    assert watch.last_enough_at == built.now - timedelta(minutes=3)
    assert watch.smallest == 0.03
    assert (watch.state, len(watch.history)) == ("firing", 2)


def test_an_endpoint_that_nobody_asked_opens_nothing(built: Stage) -> None:
    assert built.minute(requests=0) == []
    assert built.minute(requests=0) == []
    assert Watch.objects.get().state == "waiting"


def test_an_idle_endpoint_is_read_seldom_and_its_first_request_seen_soon(built: Stage) -> None:
    """A round of five minutes told of a first broken hour's errors five minutes late."""
    built.minute(requests=0)
    read_at = Watch.objects.get().evaluated_at
    assert Round.objects.get().due_at == built.now + timedelta(seconds=60)

    built.minute(requests=0)
    assert Watch.objects.get().evaluated_at == read_at  # only asked whether somebody came
    built.minute(errors=20)
    built.minute(errors=20)
    assert [incident.title for incident in Incident.objects.all()] == ["Errors 10 % of v3"]


def test_two_monitors_with_one_cause_are_one_incident(built: Stage) -> None:
    critical = {**ERRORS, "name": "outage", "at_least": 0.3, "severity": "critical"}
    built.watch({**ERRORS, "for": {"times": 1, "of": 1}}, critical)
    (incident,) = built.minute(errors=100)
    assert (incident.severity, incident.title) == ("warning", "Errors 50 % of v3")
    (incident,) = built.minute(errors=100)
    assert incident.severity == "critical"
    assert incident.alerts.count() == 2
    kinds = [kind for _, kind in told()]
    assert sorted(set(kinds)) == ["incident.escalated", "incident.opened"]
    assert len(kinds) == 6


def test_after_an_hour_another_alert_is_another_incident(built: Stage) -> None:
    late = {"name": "busy", "metric": "traffic", "window": 60, "at_least": 10}
    one = {**ERRORS, "for": {"times": 1, "of": 1}}
    built.watch(one, late)
    built.minute(errors=20)
    built.now += timedelta(minutes=61)
    incidents = built.minute(errors=20, requests=1000)
    assert [incident.title for incident in incidents] == ["Errors 10 % of v3", "Traffic 16.7/s"]
    assert incidents[1].served is None


def test_a_revision_without_traffic_is_watched_no_more(built: Stage) -> None:
    built.minute(errors=20)
    built.minute(errors=20)
    version = VersionFactory.create(model=built.endpoint.model, number=4)
    newer = RevisionFactory.create(
        endpoint=built.endpoint, number=2, build=BuildFactory.create(version=version)
    )
    built.endpoint.stable = newer
    built.endpoint.traffic_wanted = {str(newer.pk): 1000}
    built.endpoint.save()
    (incident,) = built.minute(revision=newer)
    assert incident.state == "resolved"
    assert Alert.objects.get().ended == "This revision no longer gets traffic"


def test_a_rule_that_is_gone_is_watched_no_more(built: Stage) -> None:
    built.minute(errors=20)
    built.minute(errors=20)
    built.watch({"name": "busy", "metric": "traffic", "window": 60, "at_least": 1000})
    (incident,) = built.minute(errors=20)
    assert incident.state == "resolved"
    assert Alert.objects.get().ended == "The policy no longer has this monitor"


def test_what_a_monitor_looks_at_no_longer_ends_once_it_could_be_judged(built: Stage) -> None:
    """The rule keeps its name and becomes one of the endpoint as a whole."""
    built.minute(errors=20)
    built.minute(errors=20)
    lost = {"name": "errors", "metric": "quality:f1", "drop": 0.1, "slice": "nowhere"}
    built.watch({**lost, "window": 60})
    assert built.minute(errors=20)[0].state == "open"  # nobody can read it: nothing is over
    built.watch({"name": "errors", "metric": "traffic", "window": 60, "at_least": 1000})
    (incident,) = built.minute(errors=20)
    assert (incident.state, incident.resolved_by) == ("resolved", None)
    assert Alert.objects.get().ended == "This monitor no longer looks at this revision"


def test_both_sides_of_a_split_are_told_apart(built: Stage) -> None:
    version = VersionFactory.create(model=built.endpoint.model, number=4)
    newer: Revision = RevisionFactory.create(
        endpoint=built.endpoint, number=2, build=BuildFactory.create(version=version)
    )
    built.endpoint.traffic_wanted = {str(built.stable.pk): 900, str(newer.pk): 100}
    built.endpoint.save()
    built.watch({**ERRORS, "for": {"times": 1, "of": 1}})
    built.answer(built.now, requests=1000)
    (incident,) = built.minute(errors=50, revision=newer)
    assert (incident.title, incident.served) == ("Errors 25 % of v4", newer)


def test_what_a_person_resolved_fires_again_only_after_it_was_right(
    built: Stage, cast: Cast
) -> None:
    built.minute(errors=20)
    (incident,) = built.minute(errors=20)
    now = built.now
    handling.resolve(incident=incident, actor=cast.operator, reason="Known", now=now)
    for _ in range(3):
        assert len(built.minute(errors=20)) == 1
    built.minute()
    built.minute()
    built.minute(errors=20)
    assert len(built.minute(errors=20)) == 2
    assert [one.state for one in Incident.objects.order_by("pk")] == ["resolved", "open"]


def test_a_muted_incident_mails_nobody_and_a_muted_monitor_opens_none(
    built: Stage, cast: Cast
) -> None:
    built.minute(errors=20)
    (incident,) = built.minute(errors=20)
    until = built.now + timedelta(hours=1)
    handling.mute(incident=incident, until=until, actor=cast.operator, now=built.now)
    built.minute()
    (incident,) = built.minute()
    assert incident.state == "resolved"
    assert {kind for _, kind in told()} == {"incident.opened"}

    watch = Watch.objects.get()
    handling.mute_watch(watch=watch, until=until, actor=cast.operator, now=built.now)
    for _ in range(4):
        assert len(built.minute(errors=20)) == 1
    built.now = until
    built.minute(errors=20)
    assert len(built.minute(errors=20)) == 2


def test_a_rule_muted_by_the_policy_reads_on(built: Stage) -> None:
    built.watch({**ERRORS, "mute": True})
    for _ in range(4):
        assert built.minute(errors=20) == []
    assert Watch.objects.get().reading["verdict"] == "wrong"


def test_one_monitor_that_cannot_be_read_holds_up_no_other(built: Stage) -> None:
    lost = {"name": "part", "metric": "quality:f1", "drop": 0.1, "slice": "nowhere"}
    built.watch({**ERRORS, "for": {"times": 1, "of": 1}}, lost)
    (incident,) = built.minute(errors=20)
    assert incident.state == "open"
    words = Watch.objects.get(rule="part").reading["words"]
    assert words == (
        "It could not be read: LookupError: there is no slice 'nowhere' on flight-delay in"
        " production"
    )


def test_one_endpoint_that_cannot_be_read_holds_up_no_other(
    built: Stage, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patched:
        patched.setattr(runner, "read", broken)
        built.minute(errors=20)
        since = built.now + timedelta(seconds=30)
        built.minute(errors=20)
        built.minute(errors=20)
    row = Round.objects.get()
    assert (row.error, row.broken_since) == ("RuntimeError: no", since)
    assert row.due_at == built.now + timedelta(seconds=90)
    address = f"/endpoints/production/{built.endpoint.name}/incidents"
    client = Client()
    client.force_login(cast.viewer)
    page = client.get(address).content.decode()
    assert "The monitors cannot be read since" in page
    assert "RuntimeError: no" in page
    here = f"/api/v1/endpoints/{built.endpoint.pk}/monitors"
    (monitor,) = Client().get(here, headers=bearer(cast.viewer)).json()
    assert (monitor["error"], monitor["error_since"]) == (
        "RuntimeError: no",
        since.isoformat().replace("+00:00", "Z"),
    )
    built.minute()
    built.minute()
    row.refresh_from_db()
    assert (row.error, row.broken_since) == ("", None)
    assert "cannot be read since" not in client.get(address).content.decode()


def test_a_monitor_that_can_be_read_no_more_says_so_on_its_page(built: Stage) -> None:
    built.minute()
    built.watch({"name": "errors", "metric": "quality:f1", "drop": 0.1, "slice": "nowhere"})
    built.minute()
    lines = shown.monitors(built.endpoint, built.now)
    assert any(line.words.startswith("It could not be read: LookupError") for line in lines)


@pytest.mark.parametrize(
    ("times", "ms", "state"), [(2, 30.0, "quiet"), (2, 40.0, "firing"), (5, 40.0, "quiet")]
)
def test_latency_is_held_against_the_day_before(
    built: Stage, times: float, ms: float, state: str
) -> None:
    built.watch({"name": "slow", "metric": "latency_p95", "window": 60, "times_previous": times,
                 "plus_ms": 20})  # fmt: skip
    built.answer(built.now - timedelta(days=1, minutes=-30), ms=12.0)
    built.minute(ms=ms)
    assert Watch.objects.get().state == state


def test_silence_is_held_against_what_is_usual(built: Stage) -> None:
    built.watch({"name": "freshness", "metric": "freshness", "window": "7 d"})
    for hour in range(26, 0, -1):  # an hour apart, a day and a bit
        built.answer(built.now - timedelta(hours=hour), requests=10)
    assert built.minute(requests=0) == []
    watch = Watch.objects.get()
    assert watch.reading["words"] == (
        "The last request is 1 h 1 min old, usual gap 30 s, limit 1 h 50 min"
    )
    built.now += timedelta(minutes=50)
    (incident,) = built.minute(requests=0)
    assert incident.title == "No request for 1 h 52 min"
    built.answer(built.now)
    assert built.minute()[0].state == "resolved"


def test_a_digest_a_day(built: Stage, cast: Cast, now: datetime) -> None:
    built.minute(errors=20)
    built.minute(errors=20)
    Delivery.objects.all().delete()
    morning = datetime(2030, 1, 8, 8, 0, tzinfo=now.tzinfo)
    assert runner.digest(now=morning - timedelta(seconds=1)) == 0
    assert runner.digest(now=morning) == 3
    assert runner.digest(now=morning + timedelta(minutes=1)) == 0
    mail = Delivery.objects.get(user=cast.operator)
    assert (mail.kind, mail.subject) == ("incident.digest", "1 open incident, 0 ended within a day")
    assert "Open: Errors 10 % of v3 in flight-delay (production), since 2030-01-07" in mail.text


def test_no_digest_where_there_is_nothing(built: Stage, now: datetime) -> None:
    assert runner.digest(now=datetime(2030, 1, 8, 8, 0, tzinfo=now.tzinfo)) == 0
    assert Delivery.objects.count() == 0
