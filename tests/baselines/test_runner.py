"""Baselines frozen from real rows, with the answers of real bundles in their own environments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from apps.audit.models import Event
from apps.baselines import reference as reading
from apps.baselines import selectors
from apps.baselines.layout import COUNTERS
from apps.baselines.models import Baseline
from apps.registry.models import Version
from tests.baselines.conftest import Freeze, Give, Make, reference
from tests.builds import artifacts

pytestmark = pytest.mark.django_db(transaction=True)


def lines(baseline: Baseline) -> list[str]:
    assert baseline.job is not None
    return list(baseline.job.lines.values_list("text", flat=True))


def test_a_real_model_and_its_reference(
    built: Make, give: Give, freeze: Freeze, version: Version
) -> None:
    built()
    dataset = give(reference())

    baseline = freeze()

    assert (baseline.state, baseline.reason) == ("ready", "")
    assert (baseline.number, baseline.origin, baseline.dataset) == (1, "reference", dataset)
    assert (baseline.rows, baseline.time_from) == (6000, datetime(2013, 7, 1, tzinfo=UTC))
    assert baseline.time_to == datetime(2013, 7, 5, 3, 59, tzinfo=UTC)
    assert baseline.meaning == {
        "task": "binary", "form": "probabilities", "classes": ["0", "1"], "positive": 1,
    }  # fmt: skip
    assert selectors.in_force(version) == baseline
    frozen = selectors.shape(baseline)
    # Both probabilities say what the score says.
    assert [column.name for column in frozen.layout.columns] == ["in.distance", "in.hour", "score"]
    for start, stop in frozen.layout.slices.values():
        assert frozen.counts[start:stop].sum() == 6000
        assert not frozen.counts[stop : stop + len(COUNTERS)].any()
    assert set(frozen.natural) == set(frozen.layout.slices)
    assert all(0 <= column["js"] < 0.12 for column in frozen.natural.values()), frozen.natural
    # The model looks at the first column only.
    assert baseline.importance == {"in.distance": 1.0, "in.hour": 0.0}
    assert set(baseline.quality) == {
        "accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier",
    }  # fmt: skip
    frame = reference()
    right = (frame["distance"] >= 0) == frame["late"].astype(bool)
    assert baseline.quality["accuracy"] == pytest.approx(float(right.mean()))
    shares = [share for share in baseline.calibration["shares"] if share is not None]
    assert len(baseline.calibration["shares"]) == 50
    assert baseline.calibration["rows"] == 6000
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))
    event = Event.objects.get(verb="baseline.frozen")
    assert (event.object_id, event.evidence["rows"], event.model_name) == (
        baseline.pk, 6000, "flight-delay",
    )  # fmt: skip
    assert "Read 6,000 of 6,000 rows of reference" in lines(baseline)


def test_the_same_rows_give_the_same_baseline(built: Make, give: Give, freeze: Freeze) -> None:
    built()
    give(reference(2000))

    first, second = freeze(), freeze()

    assert (first.number, second.number) == (1, 2)
    assert bytes(first.counts) == bytes(second.counts)
    for field in ("layout", "natural", "importance", "calibration", "quality"):
        assert getattr(first, field) == getattr(second, field)


def test_a_model_that_answers_nothing_is_compared_by_its_inputs(
    built: Make, give: Give, freeze: Freeze
) -> None:
    built(model=artifacts.Unwilling())
    give(reference(1000))

    baseline = freeze()

    assert baseline.state == "ready"
    assert baseline.reason.startswith(
        "Without answers, so neither score nor quality: flight-delay v1 did not answer the data set"
    )
    assert "carrier was never seen" in baseline.reason
    assert [c["name"] for c in baseline.layout["columns"]] == ["in.distance", "in.hour"]
    assert (baseline.meaning, baseline.quality, baseline.calibration) == ({}, {}, {})


def test_a_column_that_the_data_set_lacks(built: Make, give: Give, freeze: Freeze) -> None:
    built()
    give(reference(1000).drop(columns="hour"))

    baseline = freeze()

    assert baseline.state == "ready"
    assert baseline.reason.startswith("The data set has no column hour: not compared. Without")
    assert [c["name"] for c in baseline.layout["columns"]] == ["in.distance"]


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (
            pd.DataFrame({"width": [1.0], "late": [1], "at": [None]}),
            "The data set reference has none of the columns that flight-delay v1 takes (distance, "
            "hour); it has width, late, at. Register one whose columns are named like the model's "
            "inputs",
        ),
        (
            pd.DataFrame({"distance": ["far"], "hour": [["noon"]], "late": [1], "at": [None]}),
            "No column of reference (reference) is of the type that flight-delay v1 takes: "
            "distance (large_string), hour (list<element: string>). Register one whose columns "
            "fit the model's signature",
        ),
    ],
)
def test_rows_of_something_else_fail_with_words(
    built: Make, give: Give, freeze: Freeze, frame: pd.DataFrame, words: str
) -> None:
    built()
    give(frame)

    baseline = freeze()

    assert (baseline.state, baseline.reason) == ("failed", words)
    event = Event.objects.get(verb="baseline.failed")
    assert (event.object_id, event.reason) == (baseline.pk, words)


def test_a_file_that_is_gone(built: Make, give: Give, freeze: Freeze) -> None:
    built()
    dataset = give(reference(10))
    dataset.path = "/nowhere.parquet"
    dataset.save()

    baseline = freeze()

    assert baseline.state == "failed"
    assert baseline.reason == "The data set reference has lost its file; register it again"


def odd_columns(count: int = 12_000) -> dict[str, Any]:
    numbers = np.arange(count)
    return {
        "distance": np.where(numbers % 2, 1e300, -1e300),
        "hour": np.full(count, 7.0),
        "empty": pd.Series([None] * count, dtype="float64"),
        "nothing": pd.Series([None] * count, dtype="object"),
        "code": [f"c{number % 10_000}" for number in numbers],
        "words": [f"{number}" + "x" * (1_000_000 if number < 3 else 0) for number in numbers],
        "is_new": numbers % 3 == 0,
        "infinite": np.where(numbers % 4 == 0, np.inf, numbers),
        "day": pd.Timestamp("2013-07-01") + pd.to_timedelta(numbers % 30, unit="D"),
        "late": numbers % 2,
        "at": pd.Timestamp("2013-07-01", tz="UTC") + pd.to_timedelta(numbers, unit="s"),
    }


def test_odd_columns_all_end_in_a_baseline(built: Make, give: Give, freeze: Freeze) -> None:
    types = {
        "empty": "double", "nothing": "string", "code": "string", "words": "string",
        "is_new": "boolean", "infinite": "double", "day": "datetime",
    }  # fmt: skip
    built(columns=("distance", "hour", *types), types=types)
    give(pd.DataFrame(odd_columns()))

    baseline = freeze()

    assert baseline.state == "ready", baseline.reason
    frozen = selectors.shape(baseline)
    found = {column.name: column for column in selectors.columns_of(baseline)}
    assert len(found) == 9
    assert found["in.empty"].counters["missing"] == 12_000
    assert found["in.nothing"].counters["missing"] == 12_000
    assert found["in.infinite"].counters["non_finite"] == 3000
    assert found["in.hour"].bins["7"] == 12_000
    assert list(found["in.distance"].bins.values())[:2] == [6000, 6000]
    assert found["in.is_new"].bins["false"] == 8000
    assert sum(found["in.code"].bins.values()) == 12_000
    assert found["in.code"].bins["other"] == 12_000 - 49 * 2
    assert found["in.day"].bins == {"any time": 12_000}
    assert sum(found["in.words"].bins.values()) == 12_000
    assert frozen.layout.size < 500


@pytest.mark.parametrize(
    ("by", "time_column", "words"),
    [
        (["late"], "", "(the label, score, distance are sorted or grouped)"),
        (["hour"], "", "(hour is sorted or grouped)"),
        (["hour"], "carrier", "(hour is sorted or grouped)"),  # of one value: no time
        (["hour"], "at", ""),
        ([], "", ""),
    ],
)
def test_rows_that_are_sorted_by_something_else_than_time(
    built: Make, give: Give, freeze: Freeze, by: list[str], time_column: str, words: str
) -> None:
    built()
    frame = reference(5_000).sample(frac=1, random_state=1)
    give(frame.sort_values(by, kind="stable") if by else frame, time_column=time_column)

    baseline = freeze()

    assert baseline.reason == (
        f"Its rows are not in the order of time {words}: natural variation is not known. Name a "
        "time column to have it"
        if words
        else ""
    )
    natural = selectors.shape(baseline).natural
    assert set(natural) == {"in.distance", "in.hour", "score"}
    known = {"unseen"} if words else {"js", "missing", "unseen"}
    assert [set(column) for column in natural.values()] == [known] * 3


def test_of_many_rows_evenly_spread_ones_are_read(
    built: Make, give: Give, freeze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_ROWS", 500)
    built()
    give(reference(2000))

    baseline = freeze()

    assert (baseline.rows, baseline.reason) == (500, "500 evenly spread rows of 2,000")


def test_rows_that_hold_too_much(
    built: Make, give: Give, freeze: Freeze, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 10_000)
    built()
    give(reference(2000))

    baseline = freeze()

    assert baseline.state == "failed"
    assert baseline.reason == (
        "The rows of the data set reference hold more than 9.31323e-06 GiB in the model's columns; "
        "register one with fewer rows or shorter texts"
    )


def test_without_labels_weights_are_by_how_far_answers_move(
    built: Make, give: Give, freeze: Freeze
) -> None:
    built()
    give(reference(1000).drop(columns="late"), label_column="")

    baseline = freeze()

    assert baseline.reason == "No label column is named, so quality is neither known nor estimated"
    assert baseline.importance == {"in.distance": 1.0, "in.hour": 0.0}
    assert (baseline.quality, baseline.calibration) == ({}, {})
