"""Values of named columns are in no record, whatever form a body has; callers get theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.capture import Keeping
from model_server.mlmodel import Column, Param, Signature, Tensor
from model_server.redaction import Redaction
from tests.model_server.asking import MLFLOW, V1, V2, InProcess, of_columns, of_tensors
from tests.model_server.running import serving

SECRET = 918273.5
WORD = "918273.5"
HIDDEN = "[redacted]"
PEOPLE = of_columns(age="double", salary="double", city="string?")
NUMBERS = of_columns(age="double", salary="double")
AGES = of_columns(salary="double")
UNNAMED = of_tensors(Tensor(None, "float64", (-1, 2)))
NAMED = of_tensors(Tensor("salary", "float64", (-1,)), Tensor("age", "float64", (-1,)))


def recorded(asked: InProcess, *names: str, params: tuple[str, ...] = ()) -> dict[str, Any]:
    """It gives the last record as a server that redacts these columns writes it."""
    known = tuple(Param(name, "double") for name in params)
    rules = Redaction(names, asked.app.model.card.signature, known)
    keeping = Keeping(redaction=rules)
    line = keeping.line(asked.kept.records[-1])
    assert line.count(b"\n") == 1
    found: dict[str, Any] = orjson.loads(line)
    return found


def request(signature: Signature | None, path: str, body: Any, *names: str) -> Any:
    """It sends a body and gives what is recorded of it."""
    asked = InProcess(signature)
    asked.post(path, orjson.dumps(body), content_type="application/json")
    return recorded(asked, *(names or ("salary",)))["request"]


def tensor(name: str, data: list[Any], shape: list[int] | None = None, **more: Any) -> Any:
    shape = [len(data)] if shape is None else shape
    return {"name": name, "shape": shape, "datatype": "FP64", "data": data, **more}


SPLIT = {"columns": ["age", "salary"], "data": [[41, SECRET], [42, SECRET]]}


@pytest.mark.parametrize(
    ("path", "body", "kept"),
    [
        (
            V2,
            {"id": "7", "inputs": [tensor("age", [41.0, 2]), tensor("salary", [SECRET, SECRET])]},
            {"id": "7", "inputs": [tensor("age", [41.0, 2]), tensor("salary", [None, None])]},
        ),
        (
            V2,
            {"inputs": [tensor("salary", ["x"], datatype="BYTES"), tensor("age", [[1], [2]])]},
            {"inputs": [tensor("salary", [HIDDEN], datatype="BYTES"), tensor("age", [[1], [2]])]},
        ),
        (
            V2,
            {"inputs": [tensor("x", [41, SECRET, 42, SECRET], [2, 2])]},
            {"inputs": [tensor("x", [41, None, 42, None], [2, 2])]},
        ),
        (
            V2,
            {"inputs": [tensor("x", [[41, SECRET], [42, SECRET]], [2, 2])]},
            {"inputs": [tensor("x", [[41, None], [42, None]], [2, 2])]},
        ),
        (V1, {"instances": [[41, SECRET], [42, 1]]}, {"instances": [[41, HIDDEN], [42, HIDDEN]]}),
        (
            V1,
            {"instances": [{"age": 41, "salary": SECRET}, {"age": 42}]},
            {"instances": [{"age": 41, "salary": HIDDEN}, {"age": 42}]},
        ),
        (
            V1,
            {"inputs": {"age": [41], "salary": [SECRET]}},
            {"inputs": {"age": [41], "salary": [HIDDEN]}},
        ),
        (
            MLFLOW,
            {"dataframe_split": SPLIT},
            {"dataframe_split": {**SPLIT, "data": [[41, HIDDEN], [42, HIDDEN]]}},
        ),
        (
            MLFLOW,
            {"dataframe_records": [{"age": 41, "salary": SECRET}], "params": {"salary": SECRET}},
            {"dataframe_records": [{"age": 41, "salary": HIDDEN}], "params": {"salary": HIDDEN}},
        ),
        (MLFLOW, {"instances": [[41, SECRET]]}, {"instances": [[41, HIDDEN]]}),
        (MLFLOW, {"inputs": [[41, SECRET]]}, {"inputs": [[41, HIDDEN]]}),
        (
            MLFLOW,
            {"inputs": [{"age": 41, "salary": SECRET}]},
            {"inputs": [{"age": 41, "salary": HIDDEN}]},
        ),
        (
            MLFLOW,
            {"inputs": {"age": 41, "salary": SECRET}},
            {"inputs": {"age": 41, "salary": HIDDEN}},
        ),
    ],
)
def test_every_form_of_a_request_loses_the_column_and_nothing_else(
    path: str, body: Any, kept: Any
) -> None:
    assert request(NUMBERS, path, body) == kept


@pytest.mark.parametrize(
    ("signature", "path", "body", "kept"),
    [
        # One column: rows may be plain values, and a tensor may have any name.
        (AGES, MLFLOW, {"inputs": [SECRET, 1]}, {"inputs": [HIDDEN, HIDDEN]}),
        (AGES, V1, {"instances": [[SECRET]]}, {"instances": [[HIDDEN]]}),
        (AGES, V2, {"inputs": [tensor("x", [SECRET])]}, {"inputs": [tensor("x", [None])]}),
        (
            AGES,
            V2,
            {"inputs": [tensor("x", [SECRET], [1, 1])]},
            {"inputs": [tensor("x", [None], [1, 1])]},
        ),
        # Rows of another width than the signature's.
        (NUMBERS, V1, {"instances": [[SECRET], 5, [1, 2, 3]]}, {"instances": [HIDDEN] * 3}),
        (
            NUMBERS,
            V2,
            {"inputs": [tensor("x", [SECRET, 1, 2], [1, 3])]},
            {"inputs": [tensor("x", [None] * 3, [1, 3])]},
        ),
        (
            NUMBERS,
            V2,
            {"inputs": [tensor("x", [SECRET, 1, 2], [2, 2])]},
            {"inputs": [tensor("x", [None] * 3, [2, 2])]},
        ),
        (
            NUMBERS,
            V2,
            {"inputs": [tensor("x", [[SECRET], [1, 2]], [2, 2])]},
            {"inputs": [tensor("x", [HIDDEN, [1, None]], [2, 2])]},
        ),
        (
            NUMBERS,
            MLFLOW,
            {"dataframe_split": {**SPLIT, "data": [[SECRET], [41, SECRET]], "index": [SECRET]}},
            {"dataframe_split": {**SPLIT, "data": [HIDDEN, [41, HIDDEN]], "index": HIDDEN}},
        ),
        (NUMBERS, MLFLOW, {"dataframe_split": [SECRET]}, {"dataframe_split": HIDDEN}),
        (
            NUMBERS,
            MLFLOW,
            {"dataframe_split": {"columns": ["age"], "data": SECRET}},
            {"dataframe_split": {"columns": ["age"], "data": HIDDEN}},
        ),
        (
            NUMBERS,
            MLFLOW,
            {"dataframe_split": {"columns": [["salary"]], "data": [[SECRET]]}},
            {"dataframe_split": HIDDEN},
        ),
        # Without a signature, or with tensors', nothing says what stands where.
        (None, V1, {"instances": [[41, SECRET]]}, {"instances": [HIDDEN]}),
        (
            None,
            V2,
            {"inputs": [tensor("x", [41, SECRET], [1, 2])]},
            {"inputs": [tensor("x", [None, None], [1, 2])]},
        ),
        (None, V2, {"inputs": [tensor("x", [41])]}, {"inputs": [tensor("x", [41])]}),
        (None, V1, {"inputs": {"age": [4]}}, {"inputs": {"age": [4]}}),
        (UNNAMED, V1, {"instances": [[41, SECRET]]}, HIDDEN),
        (UNNAMED, V2, {"inputs": [tensor("x", [41, SECRET], [1, 2])]}, HIDDEN),
        (
            NAMED,
            V2,
            {"inputs": [tensor("age", [41]), tensor("salary", [SECRET])]},
            {"inputs": [tensor("age", [41]), tensor("salary", [None])]},
        ),
        (
            NAMED,
            V1,
            {"inputs": {"age": [41], "salary": [SECRET]}},
            {"inputs": {"age": [41], "salary": [HIDDEN]}},
        ),
        # Bodies of another protocol, or of none, are refused and recorded all the same.
        (
            NUMBERS,
            MLFLOW,
            {"inputs": [tensor("age", [41]), tensor("salary", [SECRET], datatype=None)]},
            {"inputs": [tensor("age", [41]), tensor("salary", [None], datatype=None)]},
        ),
        (NUMBERS, V2, {"instances": [[41, SECRET]]}, {"instances": [[41, HIDDEN]]}),
        (NUMBERS, V2, {"rows": [[41, SECRET]], "id": [SECRET]}, {"rows": HIDDEN, "id": HIDDEN}),
        (NUMBERS, V2, {"inputs": SECRET}, {"inputs": HIDDEN}),
        (NUMBERS, V2, {"inputs": [SECRET, {"data": [SECRET]}]}, {"inputs": [HIDDEN, HIDDEN]}),
        (NUMBERS, V2, {"parameters": [SECRET]}, {"parameters": HIDDEN}),
        (
            NUMBERS,
            V2,
            {"outputs": [SECRET, {"name": "x", "parameters": {"binary_data": False}}]},
            {"outputs": [HIDDEN, {"name": "x", "parameters": {"binary_data": False}}]},
        ),
        (NUMBERS, V2, {"parameters": SECRET}, {"parameters": HIDDEN}),
        (NUMBERS, V1, [[41, SECRET]], HIDDEN),
        (NUMBERS, V1, SECRET, HIDDEN),
        (
            NUMBERS,
            V2,
            {"inputs": [{"name": "age", "contents": {"fp64": [SECRET]}, "data": SECRET}]},
            {"inputs": [{"name": "age", "contents": HIDDEN, "data": HIDDEN}]},
        ),
        (
            NUMBERS,
            V2,
            {"inputs": [tensor("age", [41], parameters={"salary": SECRET, "x": 1})]},
            {"inputs": [tensor("age", [41], parameters={"salary": HIDDEN, "x": 1})]},
        ),
    ],
)
def test_what_no_name_can_be_told_of_goes_too(
    signature: Signature | None, path: str, body: Any, kept: Any
) -> None:
    assert request(signature, path, body) == kept


def test_names_are_matched_exactly_and_at_any_depth() -> None:
    body = {"inputs": [{"age": {"salary": [1], "Salary": 2}, "salary ": 3}]}
    assert request(PEOPLE, MLFLOW, body) == {
        "inputs": [{"age": {"salary": [HIDDEN], "Salary": 2}, "salary ": 3}]
    }
    escaped = InProcess(NUMBERS)
    escaped.post(V1, b'{"instances":[{"age":1,"\\u0073alary":918273.5}]}')
    assert recorded(escaped, "salary")["request"] == {"instances": [{"age": 1, "salary": HIDDEN}]}


def test_names_that_are_parameters_leave_tensors_alone() -> None:
    asked = InProcess(NAMED)
    asked.post(MLFLOW, orjson.dumps({"inputs": {"age": [1], "salary": [2]}, "params": {"who": 5}}))
    line = recorded(asked, "who", params=("who",))
    assert line["request"] == {"inputs": {"age": [1], "salary": [2]}, "params": {"who": HIDDEN}}


def test_a_csv_and_binary_tensors_lose_the_column() -> None:
    asked = InProcess(PEOPLE)
    asked.post(MLFLOW, b"salary,age\n918273.5,41\n", content_type="text/csv")
    assert recorded(asked, "salary")["request"] == {
        "dataframe_split": {"columns": ["salary", "age"], "data": [[HIDDEN, 41.0]]}
    }
    asked.post(MLFLOW, b"salary,age\n918273.5\n", content_type="text/csv")
    assert recorded(asked, "salary")["request"] == {"raw": "[redacted: unreadable]"}
    tail = np.array([41.0, SECRET]).tobytes()
    about = {"name": "x", "datatype": "FP64", "shape": [1, 2]}
    head = orjson.dumps({"inputs": [{**about, "parameters": {"binary_data_size": 16}}]})
    length = {"inference_header_content_length": str(len(head))}
    two = InProcess(NUMBERS)
    assert two.send(V2, head + tail, **length)[0] == 200
    assert recorded(two, "salary")["request"] == {
        "inputs": [{**about, "parameters": {}, "data": [41.0, None]}]
    }
    large = np.full(20_000, SECRET).tobytes()
    about = {"name": "x", "datatype": "FP64", "shape": [10_000, 2]}
    noted = {"inputs": [{**about, "parameters": {"binary_data_size": len(large)}}]}
    head = orjson.dumps(noted)
    length = {"inference_header_content_length": str(len(head))}
    assert two.send(V2, head + large, **length)[0] == 200
    assert recorded(two, "salary")["request"] == {**noted, "omitted_bytes": 160_000}


@pytest.mark.parametrize("body", [b'{"salary": 918273.5', b"salary=918273.5", b"\xff", b""])
def test_what_cannot_be_read_is_not_recorded(body: bytes) -> None:
    asked = InProcess(NUMBERS)
    asked.post(V1, body)
    line = recorded(asked, "salary")
    assert line["request"] == {"raw": "[redacted: unreadable]"}
    assert (line["error"], line["response"]) == (f"BadRequest: {HIDDEN}", {"error": HIDDEN})


@pytest.mark.parametrize("path", [V1, V2, MLFLOW])
def test_a_body_too_deep_to_walk_is_not_recorded(path: str) -> None:
    rules = Redaction(["salary"], NUMBERS)
    body = b'{"inputs":' + b"[" * 1000 + b"918273.5" + b"]" * 1000 + b"}"
    found = rules.request(body, is_json=True, is_v2=path == V2)
    assert WORD.encode() not in found
    answered = rules.response(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}", 200)
    assert answered == b'{"raw":"[redacted: unreadable]"}'


@pytest.mark.parametrize(
    ("signature", "path", "body"),
    [
        (of_columns(salary="long"), V1, {"instances": [[SECRET]]}),
        (of_columns(salary="long"), MLFLOW, {"dataframe_records": [{"salary": WORD}]}),
        (NUMBERS, V1, {"instances": [[SECRET, 1, 2]]}),
        (NUMBERS, MLFLOW, {"dataframe_split": {**SPLIT, "data": [[SECRET]]}}),
        (of_columns(salary="datetime"), V1, {"instances": [[WORD]]}),
    ],
)
def test_a_refusal_that_quotes_a_value_is_told_and_not_recorded(
    signature: Signature, path: str, body: Any
) -> None:
    asked = InProcess(signature)
    status, answer = asked.post(path, orjson.dumps(body))
    assert status == 400
    assert WORD in json.dumps(answer)
    line = recorded(asked, "salary")
    assert line["error"] == f"BadRequest: {HIDDEN}"
    assert WORD not in json.dumps(line)


def test_what_a_model_raises_may_quote_it_too() -> None:
    asked = InProcess(NUMBERS, raises=ValueError("could not convert 918273.5"))
    status, answer = asked.post(V1, orjson.dumps({"instances": [[1, SECRET]]}))
    assert (status, answer) == (
        500,
        {"error": "the model failed: ValueError: could not convert 918273.5"},
    )
    line = recorded(asked, "salary")
    assert (line["status"], line["error"]) == (500, f"ValueError: {HIDDEN}")
    assert line["response"] == {"error": HIDDEN}
    rules = Redaction(["salary"], None)
    assert rules.error("the server behind answered 400: got 918273.5: no") == HIDDEN
    assert rules.error("") == ""


def given(*names: str) -> Signature:
    outputs = [{"name": name, "type": "double"} for name in names]
    return Signature((Column("age", "double", True),), (), [], outputs)


@pytest.mark.parametrize(
    ("outputs", "path", "answers", "kept"),
    [
        ((), V1, [SECRET], {"predictions": [SECRET]}),
        (("score",), V1, [1.5], {"predictions": [1.5]}),
        (("salary",), V1, [SECRET], {"predictions": [HIDDEN]}),
        (("age", "salary"), V1, [[41, SECRET]], {"predictions": [[41, HIDDEN]]}),
        (("age", "salary"), V1, [[1, 2, SECRET]], {"predictions": [HIDDEN]}),
        (
            (),
            MLFLOW,
            [{"salary": SECRET, "age": 41}],
            {"predictions": [{"salary": HIDDEN, "age": 41}]},
        ),
        ((), V1, {"salary": [SECRET]}, {"predictions": {"salary": [HIDDEN]}}),
    ],
)
def test_an_answer_loses_the_column_and_the_caller_gets_it(
    outputs: tuple[str, ...], path: str, answers: Any, kept: Any
) -> None:
    asked = InProcess(given(*outputs), answers=answers)
    status, answer = asked.post(path, b'{"inputs":[[41]]}')
    assert (status, answer) == (200, {"predictions": answers})
    assert recorded(asked, "salary")["response"] == kept


@pytest.mark.parametrize(
    ("outputs", "answers", "data"),
    [
        ((), np.array([SECRET]), [[SECRET]]),
        (("salary",), np.array([SECRET]), [[None]]),
        (("age", "salary"), np.array([[41.0, SECRET]]), [[41.0, None]]),
        ((), {"salary": np.array([SECRET]), "age": np.array([4.0])}, [[None], [4.0]]),
    ],
)
def test_tensors_of_an_answer_too(outputs: tuple[str, ...], answers: Any, data: Any) -> None:
    asked = InProcess(given(*outputs), answers=answers)
    status, _ = asked.post(V2, orjson.dumps({"inputs": [tensor("age", [41.0])]}))
    assert status == 200
    line = recorded(asked, "salary")
    assert [one["data"] for one in line["response"]["outputs"]] == data


def test_a_server_told_to_redact_writes_no_value(numeric_bundle: Path, tmp_path: Path) -> None:
    with serving(numeric_bundle, tmp_path, "--redact=hour", "--redact", "other") as server:
        signature = server.client.get("/v2/models/flight-delay").json()["inputs"]
        names = [one["name"] for one in signature]
        assert "hour" in names
        row = {name: 1000 + place for place, name in enumerate(names)}
        answer = server.post("/invocations", {"dataframe_records": [row]}, x_request_id="asked")
        server.post("/invocations", b'{"hour": 77123', x_request_id="broken")
        line = server.captured("asked")
        broken = server.captured("broken")
    assert answer.status_code == 200, answer.text
    assert line["request"] == {"dataframe_records": [{**row, "hour": HIDDEN}]}
    assert line["response"] == answer.json()
    assert broken["request"] == {"raw": "[redacted: unreadable]"}
