"""Drift and data quality over real tallies: one incident, its columns ranked, one picture."""

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from django.test import Client

from apps.baselines import packing
from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.core.templatetags.formats import format_percent
from apps.incidents.models import Alert, Incident, Round, Watch
from apps.incidents.selectors import shown
from apps.incidents.services import handling
from apps.monitoring.models import Tally
from apps.notifications.models import Delivery
from tests.factories.serving import RevisionFactory
from tests.incidents.stage import Stage, stage
from tests.monitoring.tallied import flights, freeze, tally
from tests.people import Cast, bearer

ONCE = {"times": 1, "of": 1}
DRIFT = {"name": "drift", "metric": "drift", "window": "1 h", "enough": 500, "for": ONCE}
MISSING = {**DRIFT, "name": "missing", "metric": "missing"}
UNSEEN = {**DRIFT, "name": "unseen", "metric": "unseen"}


@pytest.fixture
def built(cast: Cast, now: datetime) -> Stage:
    return stage(cast, now, DRIFT, MISSING, UNSEEN)


@pytest.fixture
def baseline(built: Stage, now: datetime) -> Baseline:
    return freeze(built.stable.build, flights(1, 20_000), now)


def test_drifted_columns_are_one_incident_and_one_mail_each(
    built: Stage, baseline: Baseline, cast: Cast
) -> None:
    rows = flights(2, 2_000, shift=1.0, airports=(0.7, 0.2, 0.1), missing=0.2)
    tally(built.stable, baseline, built.now, rows)
    (incident,) = built.minute(requests=0)

    assert (incident.severity, incident.served) == ("critical", built.stable)
    assert incident.title == "Drift: distance, origin of v3; Missing values: dep_delay of v3"
    found = Alert.objects.filter(incident=incident, closed_at=None)
    kinds = [(one.watch.rule, one.watch.subject) for one in found.select_related("watch")]
    assert sorted(kinds) == [("drift", "distance"), ("drift", "origin"), ("missing", "dep_delay")]
    mails = Delivery.objects.order_by("pk")
    assert [mail.kind for mail in mails] == ["incident.opened"] * 3
    mail = mails[0]
    assert mail.subject == f"Critical: {incident.title} in flight-delay (production)"
    assert mail.picture is not None
    assert bytes(mail.picture).startswith(b"\x89PNG\r\n")
    share = format_percent(rows["in.dep_delay"].null_count / 2_000)
    assert f"dep_delay: {share} missing over 2,000 rows, 0 % in the reference" in mail.text

    here = f"/api/v1/incidents/{incident.pk}/chart"
    chart = Client().get(here, headers=bearer(cast.viewer)).json()
    reference, window = chart["figure"]["data"]
    assert (reference["name"], window["name"]) == ("Reference", "Window")
    assert chart["figure"]["layout"]["xaxis"]["title"]["text"] == "distance"
    assert sum(window["y"]) == pytest.approx(1)
    assert chart["table"]["columns"] == ["values", "Reference", "Window"]


def test_rows_like_the_reference_open_nothing(built: Stage, baseline: Baseline) -> None:
    tally(built.stable, baseline, built.now, flights(2, 2_000))
    assert built.minute(requests=0) == []
    watch = Watch.objects.get(rule="drift")
    assert (watch.subject, watch.state, watch.last_enough_at) == ("", "quiet", built.now)
    assert watch.reading["words"].startswith("5 columns are right; the most is ")
    assert watch.smallest is not None


def test_too_few_rows_say_so(built: Stage, baseline: Baseline) -> None:
    tally(built.stable, baseline, built.now, flights(2, 40, shift=3.0))
    assert built.minute(requests=0) == []
    words = {watch.rule: watch.reading["words"] for watch in Watch.objects.all()}
    few = "Not enough data: 40 rows in 1 h, it needs 500"
    assert words == {"drift": few, "missing": few, "unseen": few}


def test_a_reference_of_few_rows_is_no_proof_that_all_is_right(built: Stage, now: datetime) -> None:
    """Two rows of five were missing, and the monitor told that all columns were right."""
    few = freeze(built.stable.build, flights(1, 300), now)
    tally(built.stable, few, built.now, flights(2, 5_000, missing=0.4))
    assert built.minute(requests=0) == []
    words = "Nothing to compare with: the reference has 300 rows, 500 needed"
    seen = {
        watch.rule: (watch.reading["words"], watch.state, watch.last_enough_at)
        for watch in Watch.objects.all()
    }
    assert seen == dict.fromkeys(("drift", "missing", "unseen"), (words, "waiting", None))


def test_without_a_baseline_it_says_so(built: Stage) -> None:
    assert built.minute(requests=0) == []
    words = {watch.rule: watch.reading["words"] for watch in Watch.objects.all()}
    assert words == dict.fromkeys(words, "v3 has no baseline to compare with")
    assert len(words) == 3


def test_a_column_that_is_right_again_ends_it(built: Stage, baseline: Baseline) -> None:
    tally(built.stable, baseline, built.now, flights(2, 1_000, new=0.1))
    (incident,) = built.minute(requests=0)
    assert incident.title == "Drift: origin of v3; Unseen values: origin of v3"
    built.now += timedelta(hours=1)
    tally(built.stable, baseline, built.now, flights(3, 1_000))
    built.minute(requests=0)
    incident = Incident.objects.get()
    assert (incident.state, incident.resolved_by) == ("resolved", None)


def muted(built: Stage, cast: Cast, rule: str) -> datetime:
    until = built.now + timedelta(hours=3)
    watch = Watch.objects.get(rule=rule, subject="")
    handling.mute_watch(watch=watch, until=until, actor=cast.operator, now=built.now)
    return until


def test_a_muted_monitor_mutes_columns_that_were_never_wrong_before(
    built: Stage, baseline: Baseline, cast: Cast
) -> None:
    built.watch(MISSING)
    tally(built.stable, baseline, built.now, flights(2, 1_000))
    assert built.minute(requests=0) == []
    until = muted(built, cast, "missing")
    built.now += timedelta(hours=1)
    tally(built.stable, baseline, built.now, flights(3, 1_000, missing=0.4))
    assert built.minute(requests=0) == []
    late = Watch.objects.get(rule="missing", subject="dep_delay")
    assert (late.muted_until, late.state) == (until, "quiet")

    whole = Watch.objects.get(rule="missing", subject="")
    handling.mute_watch(watch=whole, until=None, actor=cast.operator, now=built.now)
    tally(built.stable, baseline, built.now, flights(4, 1_000, missing=0.4))
    built.now += timedelta(minutes=5)
    (incident,) = built.minute(requests=0)
    assert incident.title == "Missing values: dep_delay of v3"


def test_a_muted_monitor_mutes_a_revision_that_is_new(
    built: Stage, baseline: Baseline, cast: Cast
) -> None:
    built.watch(MISSING)
    tally(built.stable, baseline, built.now, flights(2, 1_000))
    built.minute(requests=0)
    until = muted(built, cast, "missing")
    newer = RevisionFactory.create(endpoint=built.endpoint, number=2, build=built.stable.build)
    built.endpoint.stable = newer
    built.endpoint.traffic_wanted = {str(newer.pk): 1000}
    built.endpoint.save()
    (monitor,) = shown.monitors(built.endpoint, built.now)
    assert monitor.is_muted  # before its first reading as well
    built.now += timedelta(hours=1)
    tally(newer, baseline, built.now, flights(3, 1_000, missing=0.4))
    assert built.minute(requests=0) == []
    assert {one.muted_until for one in Watch.objects.filter(served=newer)} == {until}
    (monitor,) = shown.monitors(built.endpoint, built.now)
    assert (monitor.is_muted, monitor.state) == (True, "quiet")


def test_a_column_that_was_muted_alone_mutes_no_other(
    built: Stage, baseline: Baseline, cast: Cast
) -> None:
    built.watch(DRIFT)
    tally(built.stable, baseline, built.now, flights(2, 1_000, shift=1.0))
    built.minute(requests=0)
    watch = Watch.objects.get(subject="distance")
    until = built.now + timedelta(hours=3)
    handling.mute_watch(watch=watch, until=until, actor=cast.operator, now=built.now)
    built.now += timedelta(hours=1)
    rows = flights(3, 1_000, shift=1.0, airports=(0.8, 0.1, 0.1))
    tally(built.stable, baseline, built.now, rows)
    built.minute(requests=0)
    opened = Alert.objects.values_list("watch__subject", flat=True)
    assert sorted(opened) == ["distance", "origin"]


def test_a_column_that_the_policy_excludes_is_watched_no_more(
    built: Stage, baseline: Baseline
) -> None:
    """Its alert stayed open for ever: nobody looked at the column any more."""
    built.watch(MISSING)
    tally(built.stable, baseline, built.now, flights(2, 1_000, missing=0.4))
    (incident,) = built.minute(requests=0)
    built.watch({**MISSING, "columns": ["in.distance"]})
    built.now += timedelta(minutes=5)
    (incident,) = built.minute(requests=0)
    assert (incident.state, incident.resolved_by) == ("resolved", None)
    ended = "The policy no longer has this monitor look at this column"
    assert Alert.objects.get().ended == ended


def test_a_column_that_the_next_baseline_lacks_is_watched_no_more(
    built: Stage, baseline: Baseline
) -> None:
    built.watch(MISSING)
    tally(built.stable, baseline, built.now, flights(2, 1_000, missing=0.4))
    (incident,) = built.minute(requests=0)
    built.now += timedelta(hours=2)
    assert built.minute(requests=0)[0].state == "open"  # without rows it cannot know

    without = flights(1, 20_000).drop_columns(["in.dep_delay"])
    later = freeze(built.stable.build, without, built.now)
    tally(built.stable, later, built.now, flights(3, 1_000).drop_columns(["in.dep_delay"]))
    built.now += timedelta(minutes=5)
    (incident,) = built.minute(requests=0)
    assert (incident.state, incident.resolved_by) == ("resolved", None)
    assert Alert.objects.get().ended == (
        "This column is no longer looked at: the policy hides it, or what it would be compared"
        " with does not have it"
    )


def test_a_column_that_the_policy_hides_is_watched_no_more(
    built: Stage, baseline: Baseline
) -> None:
    built.stable.build.signature = {}
    built.stable.build.save()
    built.watch(MISSING)
    tally(built.stable, baseline, built.now, flights(2, 1_000, missing=0.4))
    (incident,) = built.minute(requests=0)
    built.watch(MISSING, serving={"capture": {"redact": ["dep_delay"]}})
    built.now += timedelta(hours=2)
    tally(built.stable, baseline, built.now, flights(3, 1_000))
    column = shape(baseline).layout.by_name["in.dep_delay"]
    start, _ = shape(baseline).layout.slices["in.dep_delay"]
    for row in Tally.objects.filter(at__gte=built.now):  # of what is hidden nothing is counted
        counts = packing.unpack(row.counts)
        counts[start : start + column.size] = 0
        row.counts = packing.pack(counts)
        row.save()
    (incident,) = built.minute(requests=0)
    assert (incident.state, incident.resolved_by) == ("resolved", None)
    assert Alert.objects.get().ended.startswith("This column is no longer looked at")


def test_without_a_baseline_nothing_ends(built: Stage, baseline: Baseline) -> None:
    tally(built.stable, baseline, built.now, flights(2, 1_000, missing=0.4))
    built.minute(requests=0)
    Baseline.objects.update(state="failed")
    built.now += timedelta(minutes=5)
    assert built.minute(requests=0)[0].state == "open"


def test_a_column_with_a_name_too_long_for_a_row_breaks_no_round(
    built: Stage, now: datetime
) -> None:
    """Each round of the endpoint was rolled back, and none of its monitors told anything."""
    names = [f"{'very_' * 60}{end}" for end in ("delay", "distance")]
    long = {"in.dep_delay": f"in.{names[0]}", "in.distance": f"in.{names[1]}"}

    def renamed(seed: int, count: int, **more: Any) -> pa.Table:
        rows = flights(seed, count, **more)
        return rows.rename_columns([long.get(name, name) for name in rows.column_names])

    baseline = freeze(built.stable.build, renamed(1, 20_000), now)
    tally(built.stable, baseline, built.now, renamed(2, 1_000, shift=1.0, missing=0.4))
    (incident,) = built.minute(requests=0)
    assert Round.objects.get().error == ""
    subjects = list(Watch.objects.exclude(subject="").values_list("subject", flat=True))
    assert len(set(subjects)) == 2
    assert all(one.startswith("very_very_") and len(one) < 200 for one in subjects)
    assert incident.alerts.count() == 2
    built.now += timedelta(hours=1)
    tally(built.stable, baseline, built.now, renamed(3, 1_000))
    (incident,) = built.minute(requests=0)
    assert incident.state == "resolved"


def test_when_a_mute_ends_alert_watch_and_mail_agree(
    built: Stage, baseline: Baseline, cast: Cast
) -> None:
    """A mild window made the watch critical, its alert a warning, and told nobody."""
    built.watch({**MISSING, "for": {"times": 2, "of": 3}})

    def look(seed: int, rows: int, missing: float) -> None:
        tally(built.stable, baseline, built.now, flights(seed, rows, missing=missing))
        built.now += timedelta(minutes=5)
        built.minute(requests=0)

    look(2, 1_000, 0.1)
    look(3, 1_000, 0.1)
    watch = Watch.objects.get(subject="dep_delay")
    given: dict[str, Any] = {"watch": watch, "actor": cast.operator}
    handling.mute_watch(until=built.now + timedelta(hours=9), now=built.now, **given)
    look(4, 1_000, 0.9)
    look(5, 1_000, 0.9)
    handling.mute_watch(until=None, now=built.now, **given)

    def severities() -> tuple[str, str, str, int]:
        watch.refresh_from_db()
        alert, incident = Alert.objects.get(), Incident.objects.get()
        told = Delivery.objects.filter(kind="incident.escalated").count()
        return watch.severity, alert.severity, incident.severity, told

    look(6, 10_000, 0.0)  # 14 % of the hour
    assert severities() == ("warning", "warning", "warning", 0)
    look(7, 10_000, 0.9)
    assert severities() == ("critical", "critical", "critical", 3)
