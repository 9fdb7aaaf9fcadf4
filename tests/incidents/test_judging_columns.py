"""What was seen of columns, held against a rule: one reading each, and one of all."""

from dataclasses import dataclass
from typing import Any

import pytest

from apps.incidents import columns
from apps.incidents.lifecycle import Severity, Verdict
from tests.incidents.test_judging import UNTIL, rule


@dataclass(frozen=True)
class Share:
    window: float | None
    reference: float | None
    state: str


QUIET = Share(0.0, 0.0, "quiet")


@dataclass(frozen=True)
class Column:
    label: str
    state: str = "quiet"
    js: float | None = 0.01
    rows: int = 1000
    rank: float | None = 0.01
    threshold: float = 0.08
    smallest: float | None = 0.08
    psi: float | None = 0.0
    ks: float | None = 0.0
    p: float | None = 0.5
    importance: float | None = None
    missing: Share = QUIET
    wrong: Share = QUIET
    below: Share = QUIET
    above: Share = QUIET

    @property
    def name(self) -> str:
        return f"in.{self.label}"


def test_drift_of_columns() -> None:
    found = [
        Column("distance", "critical", 0.31, rank=0.2),
        Column("carrier", "drifted", 0.09),
        Column("origin"),
        Column("dest", "not_enough_data", None, 40),
    ]
    readings = columns.readings(rule("drift", enough=500), found, UNTIL)
    assert [(name, one.verdict, one.severity) for name, one in readings] == [
        ("distance", Verdict.WRONG, Severity.CRITICAL),
        ("carrier", Verdict.WRONG, Severity.WARNING),
        ("origin", Verdict.RIGHT, Severity.WARNING),
        ("dest", Verdict.UNKNOWN, Severity.WARNING),
    ]
    assert readings[0][1].words == "distance: distance 0.310 over 1,000 rows, limit 0.080"
    whole = columns.whole(readings, UNTIL, none="")
    assert (whole.verdict, whole.words) == (Verdict.WRONG, "2 of 3 columns: distance, carrier")
    assert (whole.smallest, whole.smallest_words) == (0.08, "a distance of 0.080")


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"at_least": 0.2}, ["distance"]),
        ({"columns": ["carrier"]}, ["carrier"]),
        ({"columns": ["in.distance"]}, ["distance"]),
    ],
)
def test_a_rule_of_ones_own_for_drift(more: dict[str, Any], names: list[str]) -> None:
    found = [Column("distance", "drifted", 0.25), Column("carrier", "drifted", 0.19)]
    readings = columns.readings(rule("drift", **more), found, UNTIL)
    assert [name for name, one in readings if one.verdict is Verdict.WRONG] == names


def test_data_quality_of_columns() -> None:
    found = [
        Column("distance", missing=Share(0.2, 0.01, "drifted")),
        Column("carrier", below=Share(0.01, 0.0, "drifted"), above=Share(0.02, 0.0, "quiet")),
    ]
    (name, missing), (_, right) = columns.readings(rule("missing"), found, UNTIL)
    assert (name, missing.verdict, missing.value) == ("distance", Verdict.WRONG, 0.2)
    assert missing.words == "distance: 20 % missing over 1,000 rows, 1 % in the reference"
    assert right.verdict is Verdict.RIGHT
    assert missing.smallest == pytest.approx(0.03)
    assert right.smallest_words == "2 % missing"
    _, (_, out) = columns.readings(rule("out_of_range"), found, UNTIL)
    assert (out.verdict, out.value) == (Verdict.WRONG, 0.03)
    own = columns.readings(rule("missing", at_least=0.25), found, UNTIL)
    assert [one.verdict for _, one in own] == [Verdict.RIGHT, Verdict.RIGHT]


def test_without_data_the_whole_says_why() -> None:
    few = columns.readings(rule("drift"), [Column("a", "not_enough_data", None, 40)], UNTIL)
    assert columns.whole(few, UNTIL, none="").words == (
        "Not enough data: 40 rows in 5 min, it needs 100"
    )
    assert columns.whole([], UNTIL, none="Nothing there").words == "Nothing there"
