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
    smallest: float | None = 0.02


QUIET = Share(0.0, 0.0, "quiet")
FEW = Share(0.4, 0.0, "not_enough_data", None)
NONE = Share(None, None, "quiet", None)


@dataclass(frozen=True)
class Column:
    label: str
    state: str = "quiet"
    js: float | None = 0.01
    rows: int = 1000
    values: int = 1000
    reference_rows: int = 20_000
    reference_values: int = 20_000
    rank: float | None = 0.01
    threshold: float = 0.08
    smallest: float | None = 0.08
    psi: float | None = 0.0
    ks: float | None = 0.0
    p: float | None = 0.5
    importance: float | None = None
    missing: Share = QUIET
    non_finite: Share = QUIET
    unseen: Share = QUIET
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
        Column("distance", missing=Share(0.2, 0.01, "drifted", 0.03)),
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
        "Not enough data: 40 rows in 5 min, it needs 500"
    )
    assert columns.whole([], UNTIL, none="Nothing there").words == "Nothing there"


@pytest.mark.parametrize(
    ("metric", "column", "words"),
    [
        ("missing", Column("a", missing=FEW, rows=5_000, reference_rows=300),
         "Nothing to compare with: the reference has 300 rows, 500 needed"),
        ("drift", Column("a", "not_enough_data", 0.3, rows=5_000, reference_rows=1),
         "Nothing to compare with: the reference has 1 row, 500 needed"),
        ("drift", Column("a", "not_enough_data", None, rows=5_000, values=12),
         "Not enough data: a has 12 values in 5,000 rows, it needs 500"),
        ("drift", Column("a", "not_enough_data", 0.3, rows=5_000, reference_values=1),
         "Nothing to compare with: a has 1 value in the reference, 500 needed"),
        ("unseen", Column("a", unseen=FEW, rows=5_000, values=499),
         "Not enough data: a has 499 values in 5,000 rows, it needs 500"),
        ("unseen", Column("a", unseen=Share(None, 0.0, "not_enough_data"), values=0),
         "Not enough data: a has 0 values in 1,000 rows, it needs 500"),
        ("missing", Column("a", missing=FEW, rows=40),
         "Not enough data: 40 rows in 5 min, it needs 500"),
    ],
)  # fmt: skip
def test_what_is_too_few_is_named(metric: str, column: Column, words: str) -> None:
    """A monitor whose reference had 300 rows was right whatever happened."""
    ((_, reading),) = columns.readings(rule(metric, enough=100), [column], UNTIL)
    assert (reading.verdict, reading.words) == (Verdict.UNKNOWN, words)


def test_what_is_too_few_before_is_named_as_well() -> None:
    few = Column("a", missing=FEW, rows=5_000, reference_rows=40)
    ((_, reading),) = columns.readings(rule("missing", against="previous"), [few], UNTIL)
    assert reading.words == "Nothing to compare with: the window before has 40 rows, 500 needed"


def test_a_limit_of_its_own_needs_no_reference() -> None:
    few = Column("a", missing=FEW, rows=5_000, reference_rows=300)
    ((_, reading),) = columns.readings(rule("missing", at_least=0.2), [few], UNTIL)
    assert (reading.verdict, reading.value) == (Verdict.WRONG, 0.4)
    sparse = Column("a", unseen=Share(0.5, 0.0, "quiet"), rows=5_000, values=20)
    ((_, reading),) = columns.readings(rule("unseen", at_least=0.2), [sparse], UNTIL)
    assert reading.words == "Not enough data: a has 20 values in 5,000 rows, it needs 100"
    sparse = Column("a", unseen=Share(0.25, 0.0, "quiet"), rows=5_000, values=100)
    ((_, reading),) = columns.readings(rule("unseen", at_least=0.2), [sparse], UNTIL)
    assert reading.verdict is Verdict.RIGHT  # 25 of 100 values prove no 20 %


@pytest.mark.parametrize("state", ["redacted", "incomparable"])
def test_what_cannot_be_compared_is_not_right(state: str) -> None:
    hidden = Column("a", state, None if state == "redacted" else 0.0, missing=FEW)
    assert columns.readings(rule("drift"), [hidden], UNTIL) == []
    told = columns.readings(rule("missing"), [hidden], UNTIL)
    assert len(told) == (0 if state == "redacted" else 1)  # dates may be missing
    assert columns.readings(rule("unseen"), [Column("a", unseen=NONE)], UNTIL) == []


def test_the_smallest_is_that_of_the_test_itself() -> None:
    seen = Column("a", missing=Share(0.0, 0.01, "quiet", 0.045))
    ((_, one),) = columns.readings(rule("missing"), [seen], UNTIL)
    assert (one.smallest, one.smallest_words) == (0.045, "4.5 % missing")
    none = Column("a", missing=Share(0.0, 0.01, "quiet", None))
    ((_, one),) = columns.readings(rule("missing"), [none], UNTIL)
    assert (one.smallest, one.smallest_words) == (None, "")
    tails = Column("a", below=Share(0, 0.01, "quiet", 0.03), above=Share(0, 0.02, "quiet", 0.06))
    ((_, one),) = columns.readings(rule("out_of_range"), [tails], UNTIL)
    assert one.smallest == pytest.approx(0.07)
    own = Column("a", "drifted", 0.25)
    ((_, one),) = columns.readings(rule("drift", at_least=0.2), [own], UNTIL)
    assert (one.smallest, one.smallest_words) == (0.2, "a distance of 0.200")


@pytest.mark.parametrize(("importance", "rank"), [(None, 0.3), (0.0, 0.0), (0.5, 0.15)])
def test_what_the_model_does_not_use_matters_least(importance: float | None, rank: float) -> None:
    found = Column("a", missing=Share(0.3, 0.0, "drifted"), importance=importance)
    ((_, one),) = columns.readings(rule("missing"), [found], UNTIL)
    assert one.rank == pytest.approx(rank)
