"""What an incident's chart shows: the rows that its alert was of, and what was wrong with them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client
from pytest_django import Settings

from apps.baselines.models import Baseline
from apps.incidents import figures
from apps.incidents.models import Alert, Incident
from apps.notifications.models import Delivery
from apps.quality.services import feedback, joining
from tests.factories.incidents import AlertFactory, IncidentFactory, WatchFactory
from tests.factories.monitoring import SliceFactory
from tests.incidents.stage import Stage, stage
from tests.monitoring import making as stacks
from tests.monitoring.tallied import flights, freeze, tally
from tests.people import Cast
from tests.quality import making

ONCE = {"times": 1, "of": 1}
MISSING = {"name": "missing", "metric": "missing", "window": "1 h", "enough": 500, "for": ONCE}
DRIFT = {**MISSING, "name": "drift", "metric": "drift"}


@pytest.fixture
def built(cast: Cast, now: datetime) -> Stage:
    return stage(cast, now, MISSING)


@pytest.fixture
def baseline(built: Stage, now: datetime) -> Baseline:
    return freeze(built.stable.build, flights(1, 20_000), now)


def drawn(built: Stage) -> dict[str, Any]:
    incident = Incident.objects.get()
    chart = figures.of(incident, list(incident.alerts.all()), built.now)
    assert chart is not None
    return chart


def shares(chart: dict[str, Any], side: int) -> dict[str, float]:
    return {row[0]: row[side] for row in chart["table"]["rows"]}


def test_missing_values_are_drawn_and_not_the_others(built: Stage, baseline: Baseline) -> None:
    """Two of five were missing, and the picture was of two equal distributions of the others."""
    rows = flights(2, 5_000, missing=0.4)
    tally(built.stable, baseline, built.now, rows)
    built.minute(requests=0)
    chart = drawn(built)
    missing = rows["in.dep_delay"].null_count / 5_000
    reference, window = chart["figure"]["data"]
    assert (reference["name"], window["name"]) == ("Reference", "Window")
    assert dict(zip(window["x"], window["y"], strict=True))["missing"] == missing
    assert shares(chart, 1)["missing"] == 0
    assert shares(chart, 2)["missing"] == missing
    assert shares(chart, 2)["not finite"] == 0
    assert "never seen" not in shares(chart, 2)  # a number has no such signal
    assert chart["words"] == "dep_delay of 5,000 rows in 1 h until 2030-01-07 12:01:00 UTC"


@pytest.mark.parametrize(("window", "missing"), [("1 h", 0.5), ("6 h", 0.25)])
def test_the_window_is_that_of_the_rule(
    built: Stage, baseline: Baseline, window: str, missing: float
) -> None:
    built.watch({**MISSING, "window": window})
    before = flights(2, 2_000)
    tally(built.stable, baseline, built.now - timedelta(hours=3), before)
    rows = flights(3, 2_000, missing=0.5)
    tally(built.stable, baseline, built.now, rows)
    built.minute(requests=0)
    assert shares(drawn(built), 2)["missing"] == pytest.approx(missing, abs=0.02)


def test_a_window_that_was_widened_is_drawn_so(built: Stage, baseline: Baseline) -> None:
    built.stable.created_at = built.now - timedelta(days=2)
    built.stable.save()
    for hours in (0, 5):
        at = built.now - timedelta(hours=hours)
        tally(built.stable, baseline, at, flights(hours, 400, missing=0.5))
    built.minute(requests=0)
    words = drawn(built)["words"]
    assert words.startswith("dep_delay of 800 rows in ")
    assert words.endswith(", longer than asked for, to have rows enough")


@pytest.mark.parametrize("rule", [MISSING, DRIFT])
def test_a_slice_against_the_window_before(
    built: Stage, baseline: Baseline, rule: dict[str, Any]
) -> None:
    part = SliceFactory.create(
        endpoint=built.endpoint, name="short", created_at=built.now - timedelta(days=1)
    )
    built.watch({**rule, "slice": "short", "against": "previous"})
    hour = timedelta(hours=1)
    calm, odd = flights(2, 2_000, shift=1, missing=0.1), flights(3, 2_000, missing=0.6)
    tally(built.stable, baseline, built.now - hour, calm, part=part)
    tally(built.stable, baseline, built.now, odd, part=part)
    tally(built.stable, baseline, built.now, flights(4, 9_000))
    built.minute(requests=0)
    evidence = Alert.objects.get().evidence
    assert (evidence["slice"], evidence["against"], evidence["window_seconds"]) == (
        "short", "previous", 3600,
    )  # fmt: skip
    chart = drawn(built)
    assert chart["table"]["columns"][1:] == ["Window before", "Window"]
    assert chart["words"].endswith(
        "of 2,000 rows in 1 h until 2030-01-07 12:01:00 UTC, slice short"
    )
    if rule is MISSING:
        told = (shares(chart, 1)["missing"], shares(chart, 2)["missing"])
        nulls = [rows["in.dep_delay"].null_count / 2_000 for rows in (calm, odd)]
        assert told == tuple(nulls)
    part.delete()
    incident = Incident.objects.get()
    assert figures.of(incident, list(incident.alerts.all()), built.now) is None


# ---- quality --------------------------------------------------------------------------------


@pytest.fixture
def var(settings: Settings, tmp_path: Path) -> Path:
    settings.STACK = stacks.stack_at(tmp_path / "var")
    return tmp_path / "var"


def labelled(built: Stage, cast: Cast, labels: Sequence[int], scores: Sequence[float]) -> None:
    """Predictions of the hour before, each with its label."""
    was = {"accuracy": 0.95, "roc_auc": 0.95}
    making.baseline(built.stable.version, making.SCORE, quality=was)
    ids = [f"r{place}" for place in range(len(labels))]
    making.row_file(built.stable, ids, {"out.0": np.array(scores)})
    batch = [
        {"request_id": one, "label": int(label), "observed_at": "2030-01-07T11:59:00Z"}
        for one, label in zip(ids, labels, strict=True)
    ]
    feedback.send(sender=cast.owner, batch=batch, now=built.now)
    joining.sweep(now=built.now)


@pytest.mark.parametrize("metric", ["quality:main", "quality:accuracy"])
def test_quality_is_drawn_in_the_mail_and_on_the_page(
    built: Stage, cast: Cast, var: Path, metric: str
) -> None:
    """The page said that nothing was measured, and the mail had no picture."""
    chance = np.random.default_rng(4)
    labelled(built, cast, chance.integers(0, 2, 400).tolist(), chance.random(400).tolist())
    rule = {"name": "quality", "metric": metric, "window": "1 d", "drop": 0.05}
    built.watch({**rule, "enough": 200})
    (incident,) = built.minute()
    (alert,) = incident.alerts.all()
    picture = Delivery.objects.filter(kind="incident.opened").first()
    assert picture is not None
    assert picture.picture is not None
    assert bytes(picture.picture).startswith(b"\x89PNG\r\n")
    chart = drawn(built)
    line = chart["figure"]["data"][-1]
    assert (line["name"], chart["figure"]["layout"]["shapes"][0]["y0"]) == ("v3", 0.95)
    assert line["y"] == [pytest.approx(alert.watch.reading["value"])]
    assert [row[-1] for row in chart["table"]["rows"]] == [400]

    client = Client()
    client.force_login(cast.viewer)
    page = client.get(f"/incidents/{incident.pk}").content.decode()
    assert f'hx-get="/incidents/{incident.pk}/chart/table"' in page
    table = client.get(f"/incidents/{incident.pk}/chart/table").content.decode()
    assert "by when it was predicted, with its reference" in table
    assert '<td class="num">400</td>' in table


def test_labels_that_do_not_come_are_drawn(built: Stage, cast: Cast, var: Path) -> None:
    scores = np.random.default_rng(5).random(100)
    labelled(built, cast, (scores > 0.5).astype(int).tolist(), scores.tolist())
    none = [f"none{place}" for place in range(300)]
    making.row_file(built.stable, none, {"out.0": np.full(300, 0.4)})
    baseline = Baseline.objects.get()
    making.tally(built.stable, baseline, [(20, 0, 400)])
    built.watch({"name": "labels", "metric": "labels", "window": "1 d", "at_most": 0.5})
    (incident,) = built.minute()
    assert incident.title == "Labels for 25 %"
    chart = drawn(built)
    (line,) = chart["figure"]["data"]
    assert [value for value in line["y"] if value is not None] == [0.25]
    assert chart["table"]["unit"] == "share of predictions"


def test_an_estimate_is_drawn_and_marked_as_one(built: Stage) -> None:
    """From scores alone: the reference's labels told how often each comes true."""
    calibration = {"shares": [0.5] * 50, "rows": 900}
    frozen = making.baseline(built.stable.version, making.SCORE, calibration=calibration)
    making.tally(built.stable, frozen, [(10, 0, 300), (40, 1, 300)])
    rule = {"name": "guess", "metric": "estimated:accuracy", "window": "1 d", "at_most": 0.9}
    built.watch(rule)
    built.minute(requests=0)
    (line,) = drawn(built)["figure"]["data"]
    assert line["y"] == [pytest.approx(0.5)]
    assert line["line"]["dash"] == "dash"
    assert line["name"] == "v3 estimate; blind to concept drift"


# ---- without a picture ----------------------------------------------------------------------


def test_what_cannot_be_drawn_says_why(built: Stage, cast: Cast) -> None:
    incident = IncidentFactory.create(endpoint=built.endpoint, title="Telemetry lost 3 records")
    watch = WatchFactory.create(endpoint=built.endpoint, rule="lost", metric="capture_dropped")
    alert = AlertFactory.create(incident=incident, watch=watch)
    assert figures.of(incident, [alert], built.now) is None
    client = Client()
    client.force_login(cast.viewer)
    page = client.get(f"/incidents/{incident.pk}").content.decode()
    assert "nobody can draw what was lost" in page
    assert "chart-incident" not in page
    table = client.get(f"/incidents/{incident.pk}/chart/table").content.decode()
    assert "nobody can draw what was lost" in table
