"""What was seen is held against the aims, and what was not seen is no success."""

import json
from typing import Any

import pytest

from benchmarks.monitoring import carloan, report, running
from benchmarks.monitoring.aims import (
    HUNDRED_MILLION,
    MILLION,
    OURS,
    WEEK,
    YEAR,
    CarLoan,
    Drift,
    Figures,
    Judged,
    Timed,
    judge,
)
from benchmarks.monitoring.truth import CHANGED, ROWS, UNCHANGED
from benchmarks.serving.aims import Verdict


def judged(case: str, rows: int = 1_000, tool: str = OURS, **seen: Any) -> Judged:
    plain = {"windows": 1_000, "found": 0, "alarms": 0, "by_feature": {}, "seconds": 1.0}
    return Judged(tool, case, rows, **{**plain, **seen})


def good() -> Figures:
    figures = Figures(peers=["evidently"])
    figures.judged = [judged(UNCHANGED.name, rows, alarms=1) for rows in ROWS]
    figures.judged += [judged(case.name, windows=200, found=190) for case in CHANGED]
    figures.car_loan = [CarLoan(OURS, 25, 25, 0, 55)]
    figures.timed = [
        Timed(MILLION, [9.0, 10.0, 11.0], 70),
        Timed(HUNDRED_MILLION, [14.0, 15.0, 16.0], 9_000),
        Timed(WEEK, [40.0], 800),
        Timed(YEAR, [100.0], 365),
    ]
    figures.drift = [
        Drift(OURS, 1_000_020, 0.010, 0.0, 150.0),
        Drift("evidently", 1_000_020, 90.0, 2.0, 2_400.0),
    ]
    figures.ingested = {"v2": 61_000.0, "split": 50_000.0}
    return figures


def the(figures: Figures, words: str) -> Verdict:
    [found] = [verdict for verdict in judge(figures) if words in verdict.aim]
    return found


def test_all_aims_hold_at_their_limits() -> None:
    assert [verdict.aim for verdict in judge(good()) if not verdict.holds] == []


def test_nothing_measured_holds_nowhere() -> None:
    verdicts = judge(Figures(peers=["evidently"], missing={"truth": "left out by --only"}))
    assert {verdict.holds for verdict in verdicts} == {None}
    assert verdicts[0].seen == "left out by --only"
    assert verdicts[0].peers == "evidently missing"


@pytest.mark.parametrize("rows", ROWS)
def test_more_alarms_than_one_window_in_a_thousand_are_too_many(rows: int) -> None:
    figures = good()
    figures.judged = [judged(UNCHANGED.name, rows, alarms=2)]
    verdict = the(figures, f"{rows:,} rows, nothing changed")
    assert (verdict.seen, verdict.holds) == ("0.20 % (2 of 1000)", False)


@pytest.mark.parametrize("case", CHANGED, ids=lambda case: case.name)
def test_a_change_must_be_found_in_most_windows(case: Any) -> None:
    figures = good()
    figures.judged = [
        judged(case.name, windows=200, found=189),
        judged(case.name, tool="evidently", windows=20, found=3),
    ]
    verdict = the(figures, case.words)
    assert verdict.seen == "94.5 % (189 of 200)"
    assert verdict.peers == "evidently 15.0 % (3 of 20)"
    assert verdict.holds is False


def test_the_slow_answers_are_judged() -> None:
    figures = good()
    figures.timed[2] = Timed(WEEK, [*[10.0] * 9, 50.0], 800)
    assert the(figures, WEEK).holds is False


def test_a_hundred_times_the_predictions_take_no_longer() -> None:
    figures = good()
    assert the(figures, "takes as long").seen == "1.50x"
    figures.timed[1] = Timed(HUNDRED_MILLION, [15.1], 9_000)
    assert the(figures, "takes as long").holds is False


def test_without_a_peer_nothing_is_compared() -> None:
    figures = good()
    verdict = the(figures, "quicker and in less memory")
    assert verdict.peers == "evidently 9,000x (90.0 s) 2,400 MiB"
    assert verdict.holds is True
    del figures.drift[1]
    assert the(figures, "quicker and in less memory").holds is None


def test_the_slowest_shape_of_ingest_counts() -> None:
    figures = good()
    figures.ingested["csv"] = 49_999.0
    assert the(figures, "ingest").holds is False


def test_the_car_loan_windows_are_held_against_what_changed() -> None:
    right: list[list[str]] = [[]] * 5 + [list(carloan.CHANGED)] * 5
    assert carloan.judged(OURS, right) == CarLoan(OURS, 25, 25, 0, 55, [])
    wrong = [["car_value"], *right[1:9], ["driver_tenure"]]
    assert carloan.judged(OURS, wrong) == CarLoan(
        OURS, 20, 25, 2, 55, ["window 1: car_value", "window 10: driver_tenure"]
    )


def test_features_that_fired_wrongly_are_named() -> None:
    figures = Figures(peers=["evidently"])
    figures.judged = [
        judged(UNCHANGED.name, alarms=3, windows=1_000, by_feature={"eight": 1, "beta": 2}),
        judged("shift", windows=40, found=39),
    ]
    assert [line.split() for line in report.details(figures).splitlines()[1:]] == [
        ["unchanged", "1000", "ours", "1000", "-", "0.30", "%", "beta", "2,", "eight", "1"],
        ["shift", "1000", "ours", "40", "97.5", "%", "0.0", "%"],
    ]


def test_all_of_it_is_written_as_json() -> None:
    figures = good()
    shift = CHANGED[0]
    figures.judged.append(
        running.told(OURS, shift, 1_000, [[shift.feature], [shift.feature, "flat"], []], 1.0)
    )

    document = json.loads(report.document(figures, judge(figures), {"cpu": "one"}, 61.26))

    assert document["took_seconds"] == 61.3
    assert document["figures"]["judged"][-1] == {
        "tool": OURS, "case": shift.name, "rows": 1_000, "windows": 3, "found": 2, "alarms": 1,
        "by_feature": {"flat": 1}, "seconds": 1.0,
    }  # fmt: skip
