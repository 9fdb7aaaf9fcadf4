"""Drift and data quality over real tallies: one incident, its columns ranked, one picture."""

from datetime import datetime, timedelta

import pytest
from django.test import Client

from apps.baselines.models import Baseline
from apps.core.templatetags.formats import format_percent
from apps.incidents.models import Alert, Incident, Watch
from apps.notifications.models import Delivery
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

    answer = (
        Client().get(f"/api/v1/incidents/{incident.pk}/chart", headers=bearer(cast.viewer)).json()
    )
    assert [trace["name"] for trace in answer["data"]] == ["Reference", "Window"]
    assert answer["layout"]["xaxis"]["title"]["text"] == "distance"
    assert sum(answer["data"][1]["y"]) == pytest.approx(1)


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
