import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from apps.baselines.meaning import Form, Meaning, Task, infer, label_of, output_names, read

BINARY, MULTICLASS = Task.BINARY, Task.MULTICLASS
TWO = ("no", "yes")


def outputs(*columns: list[Any]) -> pa.Table:
    return pa.table({f"out.{place}": pa.array(values) for place, values in enumerate(columns)})


@pytest.mark.parametrize(
    ("columns", "labels", "positive_class", "meaning"),
    [
        # a column a class
        ([[0.25, 0.5], [0.75, 0.5]], ["yes", "no"], "",
         Meaning(BINARY, Form.PROBABILITIES, TWO, 1)),
        ([[0.25, 0.5], [0.75, 0.5]], ["yes", "no"], "no",
         Meaning(BINARY, Form.PROBABILITIES, TWO, 0)),
        ([[0.25, 0.5], [0.75, 0.5]], ["yes", "no"], "perhaps",
         Meaning(BINARY, Form.PROBABILITIES, TWO, -1)),
        ([[0.25, 0.5], [0.75, 0.5]], None, "",
         Meaning(BINARY, Form.PROBABILITIES, ("0", "1"), 1)),
        ([[0.5, 0.25], [0.25, 0.25], [0.25, 0.5]], [10.0, 2.0], "",
         Meaning(MULTICLASS, Form.PROBABILITIES, ("0", "1", "2"), -1)),
        ([[0.5, 0.25], [0.25, 0.25], [0.25, 0.5]], [10, 2, 1], "2",
         Meaning(MULTICLASS, Form.PROBABILITIES, ("1", "2", "10"), 1)),
        ([[0.5, 0.5], [0.5, 0.75]], ["yes", "no"], "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[1.5, 2.5], [0.5, 0.75]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([["a"], ["b"]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        # one column of a score
        ([[0.25, 0.5]], [True, False], "", Meaning(BINARY, Form.SCORE, ("false", "true"), 1)),
        ([[0.25, 0.5]], [1.0, 0.0], "", Meaning(BINARY, Form.SCORE, ("0", "1"), 1)),
        ([[0.25, 0.5]], [0, 0], "", Meaning(BINARY, Form.SCORE, ("0", "1"), 1)),
        ([[0.25, 0.5]], ["yes", "no"], "no", Meaning(BINARY, Form.SCORE, TWO, 0)),
        ([[0.25, 0.5]], None, "1", Meaning(BINARY, Form.SCORE, ("0", "1"), 1)),
        ([[0.25, 0.5]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[-3.5, 2.0]], ["yes", "no"], "", Meaning(BINARY, Form.VALUE, TWO, 1)),
        # one column of classes
        ([["yes", "no", "yes"]], ["yes", "no", None], "", Meaning(BINARY, Form.CLASS, TWO, 1)),
        ([["a", "c", "b"]], ["b", "a", "a"], "", Meaning(MULTICLASS, Form.CLASS, ("a", "b", "c"))),
        ([["yes", "no"]], None, "yes", Meaning(BINARY, Form.CLASS, TWO, 1)),
        ([[1, 0, 1]], [0, 1, 1], "", Meaning(BINARY, Form.CLASS, ("0", "1"), 1)),
        ([[True, False]], [0, 1], "", Meaning(BINARY, Form.CLASS, ("0", "1"), 1)),
        ([[1, 0]], None, "", Meaning(BINARY, Form.CLASS, ("0", "1"), 1)),
        ([[1, 3]], [3, 2, 1], "", Meaning(MULTICLASS, Form.CLASS, ("1", "2", "3"))),
        # a number
        ([[3.5, 4.25]], [3.25, 4.0], "", Meaning(Task.REGRESSION, Form.VALUE)),
        ([[3.5, 4.25]], [3, 4, 5], "", Meaning(Task.REGRESSION, Form.VALUE)),
        ([[3.0, 4.0]], list(range(2000)), "", Meaning(Task.REGRESSION, Form.VALUE)),
        ([[3.5, 4.25]], None, "", Meaning(Task.REGRESSION, Form.VALUE)),
        ([[3, 4]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[3.5, 4.25]], ["a", "b", "c"], "", Meaning(Task.UNKNOWN, Form.VALUE)),
        # nothing to go by
        ([], ["a"], "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[None, None]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[float("nan"), float("inf")]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
        ([[str(i) for i in range(1001)]], None, "", Meaning(Task.UNKNOWN, Form.VALUE)),
    ],
)  # fmt: skip
def test_what_outputs_mean(
    columns: list[list[Any]], labels: list[Any] | None, positive_class: str, meaning: Meaning
) -> None:
    table = outputs(*columns)
    told = None if labels is None else pa.array(labels)
    assert infer(table, told, positive_class) == meaning
    assert Meaning.from_json(json.loads(json.dumps(meaning.as_json()))) == meaning


def test_labels_of_a_table_are_taken_as_an_array_of_chunks() -> None:
    labels = pa.chunked_array([["yes"], ["no", "no"]]).dictionary_encode()
    found = infer(outputs([0.25, 0.5, 1.0]), labels, "")
    assert found == Meaning(BINARY, Form.SCORE, TWO, 1)


def test_probabilities_are_read() -> None:
    meaning = Meaning(BINARY, Form.PROBABILITIES, TWO, 0)
    nan = float("nan")
    found = read(meaning, outputs([0.25, 0.75, nan, 1.5, None], [0.75, 0.25, 0.5, -0.5, 0.5]))
    assert found.score is not None
    assert np.array_equal(found.score, [0.25, 0.75, nan, nan, nan], equal_nan=True)
    assert found.predicted.tolist() == [1, 0, -1, -1, -1]


def test_a_vector_that_is_too_short_has_no_class() -> None:
    found = read(Meaning(BINARY, Form.PROBABILITIES, TWO, 1), outputs([0.25]))
    assert found.score is not None
    assert np.isnan(found.score).tolist() == [True]
    assert found.predicted.tolist() == [-1]


@pytest.mark.parametrize(("positive", "score"), [(1, [0.25, 0.5, 1.0]), (0, [0.75, 0.5, 0.0])])
def test_one_score_speaks_of_the_last_class(positive: int, score: list[float]) -> None:
    found = read(Meaning(BINARY, Form.SCORE, TWO, positive), outputs([0.25, 0.5, 1.0, 1.7, None]))
    assert found.score is not None
    assert found.score[:3].tolist() == score
    assert np.isnan(found.score[3:]).all()
    assert found.predicted.tolist() == [0, 1, 1, -1, -1]


def test_a_score_of_a_class_that_is_not_known_is_none() -> None:
    found = read(Meaning(BINARY, Form.SCORE, TWO, -1), outputs([0.25]))
    assert found.score is None
    assert found.predicted.tolist() == [0]


def test_a_margin_is_no_probability() -> None:
    found = read(Meaning(BINARY, Form.VALUE, TWO, 1), outputs([-2.0, 0.0, 3.0, float("inf")]))
    assert found.score is None
    assert found.predicted.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("values", "predicted"),
    [
        (pa.array(["1", "0", "2", None]), [1, 0, -1, -1]),
        (pa.array([1.0, 0.0, 0.5, float("nan")]), [1, 0, -1, -1]),
        (pa.array([True, False, None, True]), [1, 0, -1, 1]),
        (pa.array(["1", "0", "1", "0"]).dictionary_encode(), [1, 0, 1, 0]),
        (pa.array([[1], [0], [1], [0]]), [-1, -1, -1, -1]),
        (pa.nulls(4), [-1, -1, -1, -1]),
    ],
)
def test_classes_are_read_however_they_are_written(values: pa.Array, predicted: list[int]) -> None:
    found = read(Meaning(BINARY, Form.CLASS, ("0", "1"), 1), pa.table({"out.0": values}))
    assert found.score is None
    assert found.predicted.tolist() == predicted


def test_numbers_are_read() -> None:
    found = read(Meaning(Task.REGRESSION, Form.VALUE), outputs([1.5, 1e300, float("inf"), None]))
    assert found.score is None
    assert np.array_equal(found.predicted, [1.5, 1e300, np.nan, np.nan], equal_nan=True)


def test_no_rows_and_no_outputs_are_read_as_none() -> None:
    for meaning in (
        Meaning(BINARY, Form.PROBABILITIES, TWO, 1), Meaning(BINARY, Form.SCORE, TWO, 1),
        Meaning(BINARY, Form.CLASS, TWO, 1), Meaning(Task.REGRESSION, Form.VALUE),
    ):  # fmt: skip
        assert read(meaning, outputs([1.0, 0.5]).slice(2)).predicted.tolist() == []
        found = read(meaning, pa.table({"in.x": [1.0]}))
        assert found.predicted.tolist() == [-1] or np.isnan(found.predicted).tolist() == [True]


@pytest.mark.parametrize(
    ("meaning", "value", "found"),
    [
        (Meaning(BINARY, Form.CLASS, TWO, 1), "yes", 1),
        (Meaning(BINARY, Form.CLASS, TWO, 1), " no ", 0),
        (Meaning(BINARY, Form.CLASS, TWO, 1), "maybe", None),
        (Meaning(BINARY, Form.CLASS, TWO, 1), ["yes"], None),
        (Meaning(BINARY, Form.CLASS, TWO, 1), None, None),
        (Meaning(BINARY, Form.CLASS, ("0", "1"), 1), True, 1),
        (Meaning(BINARY, Form.CLASS, ("0", "1"), 1), 1.0, 1),
        (Meaning(BINARY, Form.CLASS, ("0", "1"), 1), "false", 0),
        (Meaning(BINARY, Form.CLASS, ("false", "true"), 1), 1, 1),
        (Meaning(Task.REGRESSION, Form.VALUE), 3, 3.0),
        (Meaning(Task.REGRESSION, Form.VALUE), "3", None),
        (Meaning(Task.REGRESSION, Form.VALUE), True, None),
        (Meaning(Task.REGRESSION, Form.VALUE), float("nan"), None),
        (Meaning(Task.REGRESSION, Form.VALUE), 10**400, None),
        (Meaning(Task.UNKNOWN, Form.VALUE), 3, None),
    ],
)
def test_labels_are_brought_into_the_predictions_form(
    meaning: Meaning, value: Any, found: float | None
) -> None:
    assert label_of(meaning, value) == found


def test_outputs_stand_in_the_order_of_their_places() -> None:
    table = pa.table({name: [1.0] for name in ("out.10", "in.a", "out.2", "out.0")})
    assert output_names(table) == ["out.0", "out.2", "out.10"]
