"""V2's tensors in binary: what comes, what is refused, what is answered and what is recorded."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import orjson
import pytest

from model_server.mlmodel import Tensor
from tests.model_server.asking import V2, InProcess, of_columns, of_tensors

DISTANCES = of_columns(distance="double", hour="long")


def element(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


def tensor(kind: str, content: bytes, shape: list[int], **changes: Any) -> tuple[Any, bytes]:
    about = {"name": "x", "datatype": kind, "shape": shape}
    return {**about, "parameters": {"binary_data_size": len(content)}, **changes}, content


def packed(*tensors: tuple[Any, bytes], **more: Any) -> tuple[bytes, dict[str, str]]:
    head = orjson.dumps({"inputs": [about for about, _ in tensors], **more})
    content = head + b"".join(content for _, content in tensors)
    return content, {"inference_header_content_length": str(len(head))}


def asked_for(asked: InProcess, *tensors: tuple[Any, bytes], **more: Any) -> tuple[int, Any]:
    content, headers = packed(*tensors, **more)
    return asked.post(V2, content, **headers)


@pytest.mark.parametrize(
    ("kind", "dtype", "values"),
    [
        ("BOOL", "?", [True, False, True]),
        *((f"INT{8 * n}", f"<i{n}", [-1, 0, 2 ** (8 * n - 1) - 1]) for n in (1, 2, 4, 8)),
        *((f"UINT{8 * n}", f"<u{n}", [0, 1, 2 ** (8 * n) - 1]) for n in (1, 2, 4, 8)),
        *((f"FP{8 * n}", f"<f{n}", [-0.5, 0.0, 1024.0]) for n in (2, 4, 8)),
    ],
)
def test_every_datatype_reaches_the_model_as_it_was(
    kind: str, dtype: str, values: list[Any]
) -> None:
    array = np.array(values, dtype=dtype)
    asked = InProcess(of_tensors(Tensor("x", str(array.dtype), (-1,))))

    assert asked_for(asked, tensor(kind, array.tobytes(), [3]))[0] == 200

    assert asked.seen["x"].dtype == array.dtype
    assert asked.seen["x"].tolist() == values
    about = {"name": "x", "datatype": kind, "shape": [3], "parameters": {}, "data": values}
    assert asked.record["request"] == {"inputs": [about]}


def test_numbers_go_to_a_model_of_tensors_without_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = InProcess(of_tensors(Tensor(None, "float32", (-1, 2, 2))))
    array = np.arange(80_000, dtype=np.float32).reshape(20_000, 2, 2)
    seen: list[Any] = []
    prepare = asked.app.model.prepare

    def noting(payload: Any) -> Any:
        seen.append(payload.values)
        return prepare(payload)

    monkeypatch.setattr(asked.app.model, "prepare", noting)

    assert asked_for(asked, tensor("FP32", array.tobytes(), [20_000, 2, 2]))[0] == 200

    assert isinstance(seen[0], np.ndarray)
    assert np.array_equal(asked.seen, array)
    assert asked.record["request"] == {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": [20_000, 2, 2],
                "parameters": {"binary_data_size": 320_000},
            }
        ],
        "omitted_bytes": 320_000,
    }


def test_binary_and_json_tensors_may_stand_beside_each_other() -> None:
    asked = InProcess(DISTANCES)
    distance = tensor("FP32", np.array([1.5, 2.5], "<f4").tobytes(), [2, 1], name="distance")
    hour = ({"name": "hour", "datatype": "INT64", "shape": [2], "data": [7, 8]}, b"")

    assert asked_for(asked, hour, distance)[0] == 200

    assert asked.seen.tolist() == [[1.5, 7.0], [2.5, 8.0]]


def test_one_matrix_follows_the_signature() -> None:
    asked = InProcess(DISTANCES)
    matrix = np.array([[1.0, 7.0], [2.0, 8.0]])

    assert asked_for(asked, tensor("FP64", matrix.tobytes(), [2, 2]))[0] == 200

    assert asked.seen.tolist() == matrix.tolist()


def test_texts_and_raw_bytes() -> None:
    asked = InProcess(of_columns(carrier="string", raw="binary"))
    carrier = tensor("BYTES", element("Ü\n".encode()) + element(b""), [2], name="carrier")
    raw = tensor("BYTES", element(b"\xff\x00") + element(b"\n"), [2], name="raw")

    assert asked_for(asked, carrier, raw)[0] == 200

    assert asked.seen["carrier"].tolist() == ["Ü\n", ""]
    assert asked.seen["raw"].tolist() == [b"\xff\x00", b"\n"]
    inputs = asked.record["request"]["inputs"]
    assert [tensor["data"] for tensor in inputs] == [["Ü\n", ""], ["/wA=", "Cg=="]]


def test_what_is_recorded_can_be_asked_again_in_json() -> None:
    first, again = InProcess(DISTANCES), InProcess(DISTANCES)
    matrix = np.array([[1.0, 7.0], [np.nan, 8.0]])
    asked_for(first, tensor("FP64", matrix.tobytes(), [2, 2]), id="mine")

    again.post(V2, orjson.dumps(first.record["request"]))

    assert np.array_equal(again.seen, first.seen, equal_nan=True)


FP64 = np.array([1.0, 2.0]).tobytes()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (
            tensor("FP64", FP64, [3]),
            "tensor 'x' is FP64 of shape [3] and so must have 24 bytes, it has 16",
        ),
        (
            tensor("FP64", FP64, [10**18, 10**18]),
            "tensor 'x' is FP64 of shape [1000000000000000000, 1000000000000000000]",
        ),
        (tensor("FP64", b"", [0, 10**9]), "tensor 'x' has shape [0, 1000000000] and so no values"),
        (tensor("BF16", b"\0\0", [1]), "tensor 'x' is BF16, which numpy does not have: send FP32"),
        (tensor("FP8", b"\0", [1]), "tensor 'x' has no known 'datatype': 'FP8'"),
        (tensor("BOOL", b"\1\2", [2]), "tensor 'x' is BOOL but holds the byte 2 at 1"),
        (tensor("FP64", FP64, [2], data=[1, 2]), "tensor 'x' has both 'data' and binary_data_size"),
        (
            tensor("FP64", FP64, [2], parameters={"binary_data_size": 17}),
            "tensor 'x' must have a binary_data_size from 0 to the 16 bytes left",
        ),
        (
            tensor("FP64", FP64, [2], parameters={"binary_data_size": True}),
            "tensor 'x' must have a binary_data_size from 0 to the 16 bytes left",
        ),
        (
            tensor("FP64", FP64, [1], parameters={"binary_data_size": 8}),
            "8 bytes follow that no tensor's binary_data_size speaks of",
        ),
        (tensor("FP64", FP64, [2], parameters=3), "16 bytes follow that no tensor's"),
        (tensor("FP64", FP64, [2], name=3), "inputs[0] must have a 'name'"),
        (tensor("BYTES", b"\1\0", [1]), "tensor 'x' ends within its element 0"),
        (
            tensor("BYTES", element(b"a") + b"\2\0\0\0b", [2]),
            "tensor 'x' ends within its element 1",
        ),
        (tensor("BYTES", element(b"a"), [2]), "tensor 'x' has shape [2] but 1 values"),
        (tensor("BYTES", element(b"\xff"), [1]), "tensor 'x' holds what is not UTF-8 at 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_the_tensors_name(
    sent: tuple[Any, bytes], words: str
) -> None:
    asked = InProcess(of_tensors(Tensor("x", "float64", (-1,))))

    status, answer = asked_for(asked, sent)

    assert (status, answer["error"][: len(words)]) == (400, words)
    assert asked.calls == 0
    assert (asked.record["status"], asked.record["response"]) == (400, answer)


@pytest.mark.parametrize("length", ["", "-1", "x", "²", "99999"])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    asked = InProcess(DISTANCES)

    status, answer = asked.post(V2, b'{"inputs": []}', inference_header_content_length=length)

    assert status == 400
    assert answer["error"].endswith("must be the length of the JSON, from 0 to 14")


def rows(**more: Any) -> bytes:
    matrix = {"name": "m", "datatype": "FP64", "shape": [1, 2], "data": [1.0, 7]}
    return orjson.dumps({"inputs": [matrix], **more})


def split(headers: dict[str, str], body: bytes) -> tuple[Any, bytes]:
    length = int(headers["inference-header-content-length"])
    return orjson.loads(body[:length]), body[length:]


def test_outputs_are_answered_in_binary_when_that_is_wanted() -> None:
    asked = InProcess(DISTANCES, answers=np.array([[0.25, 0.75]]))

    status, headers, body = asked.send(V2, rows(parameters={"binary_data_output": True}))

    head, tail = split(headers, body)
    about = {"name": "predict", "datatype": "FP64", "shape": [1, 2]}
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    assert head["outputs"] == [{**about, "parameters": {"binary_data_size": 16}}]
    assert np.frombuffer(tail).tolist() == [0.25, 0.75]
    assert asked.record["response"]["outputs"] == [{**about, "data": [0.25, 0.75]}]


def test_a_large_answer_is_recorded_by_its_size() -> None:
    asked = InProcess(DISTANCES, answers=np.zeros(10_000))

    asked.send(V2, rows(parameters={"binary_data_output": True}))

    response = asked.record["response"]
    assert response["omitted_bytes"] == 80_000
    assert "data" not in response["outputs"][0]


def test_outputs_are_chosen_by_name_and_each_in_its_own_form() -> None:
    table = {"late": np.array([True]), "why": np.array(["Ü", None], object), "p": np.array([0.5])}
    asked = InProcess(DISTANCES, answers=table)
    wanted = [{"name": "why", "parameters": {"binary_data": True}}, {"name": "late"}]

    _, headers, body = asked.send(V2, rows(outputs=wanted))

    head, tail = split(headers, body)
    why, late = head["outputs"]
    assert late == {"name": "late", "datatype": "BOOL", "shape": [1], "data": [True]}
    assert (why["name"], why["datatype"]) == ("why", "BYTES")
    assert tail == element("Ü".encode()) + element(b"")
    assert [o["name"] for o in asked.record["response"]["outputs"]] == ["why", "late"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"outputs": [{"name": "far"}]}, "there is no output 'far', there is predict"),
        ({"outputs": {"name": "far"}}, "'outputs' must be a list"),
        ({"outputs": ["predict"]}, "outputs[0] must be an object with a 'name'"),
        ({"outputs": [{"name": "predict"}] * 2}, "output 'predict' is named more than once"),
        (
            {"outputs": [{"name": "predict", "parameters": {"binary_data": 1}}]},
            "output 'predict' must have true or false as binary_data, got 1",
        ),
        (
            {"outputs": [{"name": "predict", "parameters": {"classification": 2}}]},
            "output 'predict' asks for 'classification', which is not served here",
        ),
        ({"parameters": [1]}, "the request must have an object of 'parameters'"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(more: Any, words: str) -> None:
    asked = InProcess(DISTANCES)

    assert asked.post(V2, rows(**more)) == (400, {"error": words})
    assert asked.record["error"] == f"BadRequest: {words}"
