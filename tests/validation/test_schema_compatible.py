"""What callers send today against what the candidate needs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from apps.builds.models import Build
from apps.registry.models import Dataset, Model, Version
from apps.validation.gates import Outcome, Seen
from apps.validation.gates.schema_compatible import gate
from apps.validation.holdout import Holdout
from apps.validation.lifecycle import Verdict

DISTANCE = {"name": "distance", "type": "double", "required": True}
CARRIER = {"name": "carrier", "type": "string", "required": True}


def build(number: int, inputs: list[dict[str, Any]], outputs: Any = None) -> Build:
    version = Version(model=Model(name="m"), number=number)
    return Build(version=version, signature={"inputs": inputs, "outputs": outputs})


def check(
    candidate: Build, *, stable: Build | None = None, table: pa.Table | None = None
) -> Outcome:
    rows = None
    if table is not None:
        rows = Holdout(Dataset(name="h", label_column="late"), table, table.num_rows, 0)
    seen = Seen("staging", candidate, stable, rows, "", None, None, "", lambda: None)
    return gate.check({"gate": "schema_compatible"}, seen)


def test_fewer_columns_and_wider_types_pass() -> None:
    hour = {"name": "hour", "type": "long"}
    stable = build(1, [{**DISTANCE, "type": "long"}, CARRIER, hour])

    outcome = check(build(2, [DISTANCE, CARRIER]), stable=stable)

    assert outcome.verdict == Verdict.PASS
    assert outcome.summary == ("All 2 columns that it takes are there in m v1, of fitting types")
    assert outcome.evidence["no_longer_used"] == ["hour"]
    one = check(build(2, [DISTANCE]), stable=stable)
    assert one.summary == "The column that it takes is there in m v1, of a fitting type"


@pytest.mark.parametrize(
    ("candidate", "stable", "said"),
    [
        ([DISTANCE, CARRIER], [DISTANCE], "m v2 needs carrier (string), which m v1 does not have"),
        (
            [{**DISTANCE, "type": "long"}],
            [DISTANCE],
            "m v2 takes distance as long where m v1 has double",
        ),
        (
            [DISTANCE],
            [{**DISTANCE, "required": False}],
            "m v2 needs distance (double), which m v1 does not have",
        ),
        (
            [{**CARRIER, "type": "long", "required": False}],
            [CARRIER],
            "m v2 takes carrier as long where m v1 has string",
        ),
    ],
    ids=["a new column", "a narrower type", "optional before", "optional, of another type"],
)
def test_whatever_callers_would_have_to_change_fails(
    candidate: list[dict[str, Any]], stable: list[dict[str, Any]], said: str
) -> None:
    outcome = check(build(2, candidate), stable=build(1, stable))

    assert (outcome.verdict, outcome.summary) == (Verdict.FAIL, said)


def test_a_new_column_that_may_be_left_out_passes() -> None:
    new = {**CARRIER, "required": False}

    assert check(build(2, [DISTANCE, new]), stable=build(1, [DISTANCE])).verdict == Verdict.PASS


def test_answers_of_another_shape_fail() -> None:
    proba = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
    classes = [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]

    outcome = check(build(2, [DISTANCE], classes), stable=build(1, [DISTANCE], proba))

    assert outcome.verdict == Verdict.FAIL
    assert outcome.summary == "m v2 answers one value a row, before [2] values a row"


def test_the_holdout_says_what_callers_send_where_nothing_serves() -> None:
    table = pa.table({"distance": [1], "carrier": ["AA"], "late": [1]})

    assert check(build(1, [DISTANCE, CARRIER]), table=table).verdict == Verdict.PASS
    late = check(build(1, [DISTANCE, {"name": "late", "type": "long"}]), table=table)
    assert late.verdict == Verdict.FAIL
    assert late.summary == "m v1 needs late (long), which the data set h does not have"


def test_nothing_to_compare_with_is_skipped_and_no_signature_is_unclear() -> None:
    assert check(build(1, [DISTANCE])).verdict == Verdict.SKIPPED
    outcome = check(build(2, []), stable=build(1, [DISTANCE]))
    assert outcome.verdict == Verdict.UNCLEAR
    assert outcome.summary.startswith("m v2 declares no columns (log it with a signature)")
