"""How recorded bodies are read, when they can be sent again, and when two answers are the same."""

from typing import Any

import pytest

from apps.explorer import answers
from apps.explorer.answers import Table

TENSOR = {"name": "distance", "datatype": "FP64", "shape": [2], "data": [1.5, 2.0]}
MATRIX = {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [1, 2, 3, 4]}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1, None], [2, "x"]]}},
            Table(["a", "b"], [[1, None], [2, "x"]]),
        ),
        ({"dataframe_records": [{"a": 1}, {"b": 2}]}, Table(["a", "b"], [[1, None], [None, 2]])),
        ({"instances": [[1, 2], [3, 4]]}, Table(["input 0", "input 1"], [[1, 2], [3, 4]])),
        ({"instances": [1, 2]}, Table(["input"], [[1], [2]])),
        ({"inputs": {"a": [1, 2], "b": [3]}}, Table(["a", "b"], [[1, 3], [2, None]])),
        ({"inputs": [TENSOR]}, Table(["distance"], [[1.5], [2.0]])),
        ({"inputs": [MATRIX]}, Table(["x[0]", "x[1]"], [[1, 2], [3, 4]])),
        ({"raw": "distance=1"}, Table()),
        ([1, 2], Table()),
        (None, Table()),
        ({"dataframe_split": {"columns": 3, "data": "x"}}, Table()),
        ({"inputs": [{"name": 1, "data": 5, "shape": "wide"}]}, Table(["1"], [[5]])),
    ],
)
def test_requests_are_read_as_tables(request_: Any, expected: Table) -> None:
    assert answers.inputs(request_) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ({"predictions": [0.25, 0.5]}, Table(["output"], [[0.25], [0.5]])),
        ({"predictions": [{"p": 0.1}]}, Table(["p"], [[0.1]])),
        ({"outputs": [MATRIX]}, Table(["x[0]", "x[1]"], [[1, 2], [3, 4]])),
        ({"outputs": [[0.25]]}, Table(["output"], [[0.25]])),
        ({"error": "no"}, Table()),
    ],
)
def test_answers_are_read_as_tables(response: Any, expected: Table) -> None:
    assert answers.outputs(response) == expected


def test_a_request_of_many_rows_is_cut() -> None:
    table = answers.inputs({"instances": list(range(1000))})

    assert (len(table.rows), table.left_out) == (200, 800)


@pytest.mark.parametrize(
    ("before", "after", "equal", "largest", "words"),
    [
        ({"predictions": [0.25]}, {"predictions": [0.25]}, True, None, ""),
        ({"predictions": [1.0]}, {"predictions": [1]}, True, None, ""),
        ({"predictions": [1.0]}, {"predictions": [1.0 + 5e-10]}, True, None, ""),
        ({"predictions": [1.0]}, {"predictions": [1.5]}, False, 0.5, "[0]: 1.0 and 1.5"),
        ({"predictions": [0.0]}, {"predictions": [1e-12]}, False, 1e-12, "[0]: 0.0 and 1e-12"),
        ({"predictions": [1]}, {"predictions": [True]}, False, None, "[0]: 1 and True"),
        ({"predictions": ["a"]}, {"predictions": ["b"]}, False, None, "[0]: 'a' and 'b'"),
        ({"predictions": [1]}, {"predictions": [1, 2]}, False, None, "It has 1 and 2 values"),
        (
            {"predictions": [{"p": 1}]},
            {"predictions": [{"q": 1}]},
            False,
            None,
            "[0].p is in one answer only",
        ),
        # Who answered is no difference.
        (
            {"model_version": "1", "outputs": [TENSOR]},
            {"model_version": "2", "outputs": [TENSOR]},
            True,
            None,
            "",
        ),
        (
            {"outputs": [TENSOR]},
            {"outputs": [TENSOR | {"data": [1.5, 5.0]}]},
            False,
            3.0,
            "distance[1][1]: 2.0 and 5.0",
        ),
    ],
)
def test_answers_are_compared(
    before: Any, after: Any, equal: bool, largest: float | None, words: str
) -> None:
    found = answers.compare(before, after)

    assert (found.equal, found.largest, found.words) == (equal, largest, words)


@pytest.mark.parametrize(
    ("request_", "format_", "redacted", "why"),
    [
        ({"inputs": [TENSOR]}, "v2", [], ""),
        ({"instances": [[1]]}, "v1", ["age"], ""),
        ({"raw": "x"}, "mlflow", [], "Its body was no JSON object"),
        ({"instances": [{"age": "[redacted]"}]}, "v1", [], "It holds redacted values"),
        ("[redacted]", "v1", [], "Its body was no JSON object"),
        ({"inputs": [TENSOR | {"data": [1.5, None]}]}, "v2", [], ""),
        ({"inputs": [TENSOR | {"data": [1.5, None]}]}, "v2", ["age"], "It may hold redacted"),
        ({"inputs": [TENSOR], "omitted_bytes": 9}, "v2", [], "Its tensors were too large"),
        ({"inputs": [TENSOR]}, "grpc", [], "The format grpc is not known"),
    ],
)
def test_what_cannot_be_sent_again_is_told(
    request_: Any, format_: str, redacted: list[str], why: str
) -> None:
    told = answers.why_not(request_, format_, redacted)

    assert told.startswith(why)
    assert bool(told) == bool(why)


def test_values_that_differ_from_the_first_answer_are_marked() -> None:
    first, other = Table(["p"], [[1.0], [2.0]]), Table(["p"], [[1.0], [2.5], [3.0]])

    assert answers.marked([first, other]) == [
        [[(1.0, False)], [(2.0, False)]],
        [[(1.0, False)], [(2.5, True)], [(3.0, True)]],
    ]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_as_deep_as_json_goes_is_compared_and_shown() -> None:
    """A log holds 254 levels; an answer of now is read with a thousand."""
    found = answers.compare({"predictions": [1.0]}, {"predictions": [deep(1000)]})
    assert (found.equal, found.largest) == (False, None)
    assert found.words == "[0]: 1.0 and [[[[[...]]]]]"
    assert answers.compare({"predictions": deep(254)}, {"predictions": deep(254)}).equal
    shorter = answers.compare({"predictions": deep(254)}, {"predictions": deep(1000)})
    assert not shorter.equal
    assert answers.outputs({"predictions": deep(254)}).columns == ["output"]


def test_numbers_at_the_ends_of_what_there_is() -> None:
    nan = float("nan")
    assert answers.compare({"predictions": [nan]}, {"predictions": [nan]}).equal
    assert not answers.compare({"predictions": [nan]}, {"predictions": [1.0]}).equal
    # Further apart than any number: a difference that JSON could not write.
    far = answers.compare({"predictions": [1.7e308]}, {"predictions": [-1.7e308]})
    assert (far.equal, far.largest) == (False, None)
