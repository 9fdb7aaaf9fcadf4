"""The same row in the words of each protocol."""

import json
from typing import Any

import pytest

from benchmarks.serving import questions
from benchmarks.serving.questions import Questions

ROWS = [[1.5, -2.0], [3.0, 4.25]]
COLUMNS = ["a", "b"]


def body(asked: Questions, number: int) -> Any:
    head, _, text = asked.requests[number].partition("\r\n\r\n")
    assert head.startswith("POST /at HTTP/1.1\r\n")
    assert head.endswith(f"\r\nContent-Length: {len(text)}")
    return json.loads(text)


@pytest.mark.parametrize(
    ("asked", "expected", "answer"),
    [
        (
            questions.v2_matrix("/at", ROWS),
            {
                "inputs": [
                    {"name": "input", "shape": [1, 2], "datatype": "FP64", "data": [3.0, 4.25]}
                ]
            },
            ("outputs", 0, "data", 0),
        ),
        (
            questions.v2_columns("/at", ROWS, COLUMNS),
            {
                "parameters": {"content_type": "pd"},
                "inputs": [
                    {"name": "a", "shape": [1, 1], "datatype": "FP64", "data": [3.0]},
                    {"name": "b", "shape": [1, 1], "datatype": "FP64", "data": [4.25]},
                ],
            },
            ("outputs", 0, "data", 0),
        ),
        (questions.v1_instances("/at", ROWS), {"instances": [[3.0, 4.25]]}, ("predictions", 0)),
        (
            questions.scoring_split("/at", ROWS, COLUMNS),
            {"dataframe_split": {"columns": ["a", "b"], "data": [[3.0, 4.25]]}},
            ("predictions", 0),
        ),
        (
            questions.scoring_inputs("/at", ROWS, COLUMNS),
            {"inputs": {"a": [3.0], "b": [4.25]}},
            ("predictions", 0),
        ),
        (questions.array("/at", ROWS, (0,)), {"rows": [[3.0, 4.25]]}, (0,)),
    ],
    ids=lambda value: value.protocol if isinstance(value, Questions) else "",
)
def test_each_row_is_a_whole_request(
    asked: Questions, expected: Any, answer: tuple[str | int, ...]
) -> None:
    assert len(asked.requests) == len(ROWS)
    assert body(asked, 1) == expected
    assert asked.answer == answer
