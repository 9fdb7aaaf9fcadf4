"""A numeric model behind the real server: the three protocols, refusals, headers, capture."""

from __future__ import annotations

import json
import socket
import uuid
from typing import Any

import pytest

from tests.model_server import models
from tests.model_server.running import Running

V2 = "/v2/models/flight-delay/infer"
V1 = "/v1/models/flight-delay:predict"
MLFLOW = "/invocations"
ROWS = [[1400.0, 17], [200.5, 6], [2475.0, 22]]


def expected() -> list[int]:
    frame = models.flights()[["distance", "hour"]].iloc[:3].copy()
    frame.loc[:, "distance"] = [row[0] for row in ROWS]
    frame["hour"] = [int(row[1]) for row in ROWS]
    return [int(value) for value in models.numeric_model().predict(frame)]


def tensors(**changes: Any) -> dict[str, Any]:
    distance = {"name": "distance", "shape": [3], "datatype": "FP64", "data": [r[0] for r in ROWS]}
    hour = {"name": "hour", "shape": [3, 1], "datatype": "INT64", "data": [r[1] for r in ROWS]}
    return {"id": "mine", "inputs": [{**distance, **changes}, hour]}


def test_v2_answers_named_tensors(numeric: Running) -> None:
    answer = numeric.post(V2, tensors())

    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "flight-delay",
        "model_version": "3",
        "id": "mine",
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": [3], "data": expected()}],
    }


@pytest.mark.parametrize("data", [ROWS, [value for row in ROWS for value in row]])
def test_v2_answers_one_matrix(numeric: Running, data: list[Any]) -> None:
    matrix = {"name": "input-0", "shape": [3, 2], "datatype": "FP64", "data": data}

    answer = numeric.post(V2, {"inputs": [matrix]})

    assert answer.json()["outputs"][0]["data"] == expected()


def records() -> list[dict[str, Any]]:
    return [{"hour": row[1], "distance": row[0]} for row in ROWS]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (V1, {"instances": ROWS}),
        (V1, {"instances": records()}),
        (MLFLOW, {"dataframe_split": {"columns": ["distance", "hour"], "data": ROWS}}),
        (MLFLOW, {"dataframe_records": records()}),
        (MLFLOW, {"instances": ROWS}),
        (MLFLOW, {"inputs": ROWS}),
        (MLFLOW, {"inputs": {"hour": [17, 6, 22], "distance": [1400.0, 200.5, 2475.0]}}),
    ],
)
def test_v1_and_mlflow_answer_every_form(numeric: Running, path: str, body: Any) -> None:
    answer = numeric.post(path, body)

    assert (answer.status_code, answer.json()) == (200, {"predictions": expected()})


def test_every_answer_says_who_gave_it_and_echoes_the_id(numeric: Running) -> None:
    for answer in (
        numeric.post(V2, tensors(), x_request_id="abc-1"),
        numeric.post(V2, b"{", x_request_id="abc-1"),
        numeric.client.get("/nowhere", headers={"x-request-id": "abc-1"}),
    ):
        assert answer.headers["x-request-id"] == "abc-1"
        assert answer.headers["x-model-version"] == "3"
        assert answer.headers["x-revision"] == "41"


@pytest.mark.parametrize("given", [{}, {"x_request_id": ""}, {"x_request_id": "x" * 257}])
def test_a_request_without_a_usable_id_gets_one(numeric: Running, given: dict[str, str]) -> None:
    found = numeric.post(V2, tensors(), **given).headers["x-request-id"]

    assert uuid.UUID(found).version == 4


def test_health_and_metadata(numeric: Running) -> None:
    ready = numeric.client.get("/ready").json()
    assert ready == {
        "ready": True,
        "digest": "sha256:whole",
        "version": "3",
        "revision": "41",
        "endpoint": "flight-delay",
        "in_flight": 0,
    }
    assert numeric.client.get("/v2/health/live").json() == {"live": True}
    assert numeric.client.get("/v2/health/ready").json()["ready"] is True
    assert numeric.client.get("/v2/models/flight-delay/ready").json()["ready"] is True
    assert numeric.client.get("/v2").json()["name"] == "model_server"
    assert numeric.client.get("/v2/models/flight-delay").json() == {
        "name": "flight-delay",
        "versions": ["3"],
        "platform": "mlflow-sklearn",
        "inputs": [
            {"name": "distance", "datatype": "FP64", "shape": [-1]},
            {"name": "hour", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1]}],
    }


def split(columns: list[str], *rows: list[Any]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows)}}


BOTH = ["distance", "hour"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is not valid JSON: "),
        (b'{"dataframe_split": ', "the body is not valid JSON: "),
        (b'{"inputs": [[NaN, 1]]}', "the body is not valid JSON: "),
        (b'{"inputs": [[1e999, 1]]}', "the body is not valid JSON: "),
        (b"\xff\xfe", "the body is not valid JSON: "),
        (b"[" * 100_000, "the body is not valid JSON: "),
        (b"[]", "the body must be a JSON object"),
        ({}, "the body must hold exactly one of dataframe_split, "),
        ({"inputs": [], "instances": []}, "the body must hold exactly one of dataframe_split, "),
        ({"inputs": []}, "the request has no rows"),
        ({"inputs": [[1.0]]}, "row 0 must be a list of 2 values"),
        ({"dataframe_split": 3}, "dataframe_split must be an object with "),
        (split(["hour", "hour"], [1, 2]), "column 'hour' is named more than once"),
        (split(BOTH, [1.0]), "row 0 must be a list of 2 values, got [1.0]"),
        (split(["distance"], [1.0]), "column 'hour' is missing"),
        (split(BOTH, ["x", 1]), "column 'distance' must be double, got string 'x' in row 0"),
        (split(BOTH, [1.0, 1], [1.0, None]), "column 'hour' must be long, got null in row 1"),
        (split(BOTH, [1.0, 1.5]), "column 'hour' must be long, got double 1.5 in row 0"),
        ({"dataframe_records": [3]}, "dataframe_records row 0 must be an object, got 3"),
        ({"inputs": {"hour": [1], "distance": []}}, "inputs must hold lists of one length"),
    ],
)
def test_bad_bodies_are_refused_in_words(numeric: Running, body: Any, words: str) -> None:
    answer = numeric.post(MLFLOW, body)

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert answer.json()["message"].startswith(words)
    assert numeric.client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": {}}, "the body must hold a list of 'inputs'"),
        ({"inputs": [1]}, "inputs[0] must be an object"),
        (tensors(name=None), "inputs[0] must have a 'name'"),
        (tensors(shape=[-3]), "tensor 'distance' must have a 'shape' of non-negative integers"),
        (tensors(shape=[4]), "tensor 'distance' has shape [4] but 3 values"),
        (tensors(datatype="FP8"), "tensor 'distance' has no known 'datatype': 'FP8'"),
        (tensors(data=["a", 1, 2]), "tensor 'distance' is FP64 but holds 'a' at 0"),
        (tensors(data="abc"), "tensor 'distance' must have a list of 'data'"),
        (tensors(name="hour"), "tensor 'hour' is named more than once"),
        (tensors(name="far"), "column 'distance' is missing"),
        (
            tensors(shape=[2], data=[1.0, 2.0]),
            "tensor 'hour' has 3 rows, the first has 2",
        ),
    ],
)
def test_bad_tensors_are_refused_in_words(numeric: Running, body: Any, words: str) -> None:
    answer = numeric.post(V2, body)

    assert (answer.status_code, answer.json()) == (400, {"error": words})


def test_v1_refuses_with_its_own_error_shape(numeric: Running) -> None:
    answer = numeric.post(V1, {"rows": []})

    assert (answer.status_code, answer.json()) == (400, {"error": "the body must hold 'instances'"})


def test_paths_and_methods_that_are_not_served(numeric: Running) -> None:
    assert numeric.post("/v2/models/other/infer", tensors()).status_code == 404
    assert numeric.client.get("/invocations").status_code == 405
    assert numeric.client.post("/ready").status_code == 405


def test_a_declared_body_over_the_limit_is_refused_when_it_was_sent(numeric: Running) -> None:
    answer = numeric.post(V2, b" " * (16 * 1024 * 1024 + 1), x_request_id="too-big-1")

    assert answer.status_code == 413
    assert answer.json() == {"error": "the body is over the limit of 16777216 bytes"}
    record = numeric.captured("too-big-1")
    raw = record["request"]["raw"]
    assert (record["status"], raw.strip()) == (413, "")
    assert 0 < len(raw) <= 65_536


def test_a_chunked_body_over_the_limit_is_refused(numeric: Running) -> None:
    part = b" " * (1024 * 1024)
    answer = numeric.client.post(
        V2, content=(part for _ in range(17)), headers={"x-request-id": "too-big-2"}
    )

    assert answer.status_code == 413
    record = numeric.captured("too-big-2")
    assert record["status"] == 413
    assert 0 < len(record["request"]["raw"]) <= 65_536
    assert record["error"] == "TooLarge: the body is over the limit of 16777216 bytes"


def test_a_caller_who_leaves_midway_does_no_harm(numeric: Running) -> None:
    with numeric.connect() as raw:
        head = (
            f"POST {V2} HTTP/1.1\r\nhost: m\r\nx-request-id: gone-1\r\ncontent-length: 99\r\n\r\n"
        )
        raw.sendall(head.encode() + b'{"in')
        raw.shutdown(socket.SHUT_RDWR)

    record = numeric.captured("gone-1")
    assert (record["status"], record["error"]) == (499, "ClientGone: left before its body")
    assert numeric.post(V2, tensors()).status_code == 200


def test_null_is_not_a_number_and_the_model_says_so(numeric: Running) -> None:
    answer = numeric.post(MLFLOW, split(BOTH, [None, 1]))

    assert answer.status_code == 500
    assert answer.json()["error_code"] == "INTERNAL_ERROR"
    assert answer.json()["message"].startswith("the model failed: ValueError: Input X contains NaN")


def test_requests_are_captured_as_they_came_and_as_they_were_answered(numeric: Running) -> None:
    pretty = json.dumps(tensors(), indent=2).encode()
    answer = numeric.post(V2, pretty, x_request_id="seen-1", x_caller="demo", x_shadow="1")
    numeric.post(MLFLOW, b"{'a'}\n", x_request_id="seen-2")
    numeric.post(MLFLOW, split(["hour"], [1]), x_request_id="seen-3")

    first, second, third = (numeric.captured(f"seen-{n}") for n in (1, 2, 3))
    assert first["request"] == tensors()
    assert first["response"] == answer.json()
    assert (first["status"], first["format"], first["error"]) == (200, "v2", "")
    assert (first["caller"], first["shadow"]) == ("demo", True)
    assert 0 < first["us"] < 10_000_000
    assert (second["status"], second["format"], second["request"]) == (
        400,
        "mlflow",
        {"raw": "{'a'}\n"},
    )
    assert (second["caller"], second["shadow"]) == ("", False)
    assert third["error"] == "BadRequest: column 'hour' is missing" or third["error"] == (
        "BadRequest: column 'distance' is missing"
    )
    assert third["response"]["error_code"] == "BAD_REQUEST"


def test_stats_count_requests_and_unknown_columns_but_not_health(numeric: Running) -> None:
    before = numeric.client.get("/stats").json()
    numeric.post(MLFLOW, split([*BOTH, "tailnum"], [1.0, 1, "N1"]))
    after = numeric.client.get("/stats").json()

    assert after["served"] - before["served"] == 1
    assert after["unknown_columns"] - before["unknown_columns"] == 1
    assert (after["in_flight"], after["dropped"]) == (0, 0)
