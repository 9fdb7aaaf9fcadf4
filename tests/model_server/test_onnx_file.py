"""An ONNX file with a card: asked by its own inputs, or by the columns that the card declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression, LogisticRegression

from model_server.answers import plain
from model_server.app import App, Identity
from model_server.commands.probe import probe
from model_server.errors import BadRequest, NotLoadable
from model_server.loading import LoadedModel
from model_server.opening import open_model
from model_server.payload import from_records, from_rows
from tests.model_server import models
from tests.model_server.asking import MLFLOW, V1, V2, InProcess, Kept
from tests.model_server.runtimes import SIGNATURE, write_card

TABLE = np.random.default_rng(7).normal(size=(40, 3))
ROWS = [[0.5, 1.0, -2.0], [3.0, 0.0, 1.5]]
THREE = {"inputs": [{"name": name, "type": "double"} for name in ("a", "b", "c")]}
PIPE = {
    "inputs": [
        {"name": "carrier", "type": "string", "required": False},
        {"name": "wind", "type": "double"},
    ]
}


def regression() -> LinearRegression:
    return LinearRegression().fit(TABLE, TABLE @ np.array([1.0, 2.0, 3.0]))


def onnx_model(folder: Path, made: Any, **card: Any) -> LoadedModel:
    content = made.SerializeToString()
    write_card(folder, {"runtime": "onnx", "file": "m.onnx", **card}, m_onnx=content)
    return open_model(folder)


def asking(model: LoadedModel) -> InProcess:
    """It serves a loaded model in this process."""
    found = InProcess()
    identity = Identity("flight-delay", "production", "41", "3", "sha256:whole", "0")
    found.kept = Kept()
    found.app = App(model, identity, found.kept)
    return found


def texts() -> Any:
    """It makes a model of text and number, one column each, that gives both back."""
    inputs = [
        helper.make_tensor_value_info("carrier", TensorProto.STRING, [None, 1]),
        helper.make_tensor_value_info("wind", TensorProto.FLOAT, [None, 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("who", TensorProto.STRING, [None, 1]),
        helper.make_tensor_value_info("how", TensorProto.FLOAT, [None, 1]),
    ]
    nodes = [
        helper.make_node("Identity", ["carrier"], ["who"]),
        helper.make_node("Add", ["wind", "wind"], ["how"]),
    ]
    graph = helper.make_graph(nodes, "texts", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def test_a_file_without_a_signature_is_described_by_its_own_inputs(tmp_path: Path) -> None:
    fitted = regression()
    model = onnx_model(tmp_path, models.exported(fitted, 3))

    served = asking(model)
    tensor = {"name": "X", "datatype": "FP32", "shape": [2, 3], "data": ROWS}
    status, answer = served.post(V2, orjson.dumps({"inputs": [tensor]}))
    described = served.app._read("/v2/models/flight-delay", "GET")

    assert model.loader == "onnx-file"
    assert status == 200
    [output] = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("variable", "FP32", [2, 1])
    assert output["data"] == pytest.approx(fitted.predict(np.array(ROWS)).tolist(), rel=1e-5)
    assert described == (
        200,
        {
            "name": "flight-delay",
            "versions": ["3"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "X", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "variable", "datatype": "FP32", "shape": [-1, 1]}],
        },
    )
    assert served.record["response"] == answer


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (V1, {"instances": ROWS}),
        (MLFLOW, {"inputs": ROWS}),
        (MLFLOW, {"dataframe_split": {"columns": ["a", "b", "c"], "data": ROWS}}),
    ],
)
def test_the_other_formats_give_one_prediction_a_row(tmp_path: Path, path: str, body: Any) -> None:
    fitted = regression()
    served = asking(onnx_model(tmp_path, models.exported(fitted, 3), signature=THREE))

    status, answer = served.post(path, orjson.dumps(body))

    wanted = fitted.predict(np.array(ROWS)).tolist()
    assert status == 200
    assert [row[0] for row in answer["predictions"]] == pytest.approx(wanted, rel=1e-5)


def test_columns_go_into_the_only_input_in_the_signatures_order(tmp_path: Path) -> None:
    fitted = regression()
    model = onnx_model(tmp_path, models.exported(fitted, 3), signature=THREE)
    named = from_records([{"c": -2.0, "a": 0.5, "b": 1.0}], what="rows")

    answered = plain(model.call(model.prepare(named)))

    assert answered == [pytest.approx(fitted.predict(np.array(ROWS[:1])).tolist(), rel=1e-5)]
    with pytest.raises(BadRequest, match="column 'b' is missing"):
        model.prepare(from_records([{"a": 1.0, "c": 2.0}], what="rows"))


def test_several_outputs_come_row_by_row(tmp_path: Path) -> None:
    fitted = LogisticRegression().fit(TABLE, TABLE[:, 0] > 0)
    made = models.exported(fitted, 3, options={"zipmap": False})
    model = onnx_model(tmp_path, made, signature=THREE)

    answered = plain(model.call(model.prepare(from_rows(ROWS, what="rows"))))

    table = np.array(ROWS, dtype=np.float32)
    assert [row["label"] for row in answered] == fitted.predict(table).tolist()
    for row, wanted in zip(answered, fitted.predict_proba(table).tolist(), strict=True):
        assert row["probabilities"] == pytest.approx(wanted, abs=1e-5)


def test_columns_of_text_and_numbers_go_to_the_inputs_of_their_names(tmp_path: Path) -> None:
    model = onnx_model(tmp_path, texts(), signature=PIPE)
    rows = [{"carrier": "AA", "wind": 1.5}, {"carrier": "é", "wind": 2}]

    answered = plain(model.call(model.prepare(from_records(rows, what="rows"))))

    assert answered == [{"who": ["AA"], "how": [3.0]}, {"who": ["é"], "how": [4.0]}]
    with pytest.raises(BadRequest, match="column 'carrier' must not be null"):
        model.prepare(from_records([{"carrier": None, "wind": 1.0}], what="rows"))
    assert np.isnan(model.prepare(from_records([{"carrier": "", "wind": None}], what="r"))["wind"])


def test_text_tensors_pass_without_a_signature(tmp_path: Path) -> None:
    served = asking(onnx_model(tmp_path, texts()))
    who = {"name": "carrier", "datatype": "BYTES", "shape": [1, 1], "data": ["AA"]}
    how = {"name": "wind", "datatype": "FP32", "shape": [1, 1], "data": [1.5]}

    status, answer = served.post(V2, orjson.dumps({"inputs": [how, who]}))

    assert status == 200
    assert [output["data"] for output in answer["outputs"]] == [["AA"], [3.0]]


def test_a_signature_that_does_not_fit_the_file_is_refused(tmp_path: Path) -> None:
    words = r"the file's input 'X' has shape \[None, 3\], the signature has 2 columns"
    with pytest.raises(NotLoadable, match=words):
        onnx_model(tmp_path, models.exported(regression(), 3), signature=SIGNATURE)


def test_an_input_that_no_column_feeds_is_refused(tmp_path: Path) -> None:
    words = "the file's input 'wind' is no column of the signature, which has carrier"
    with pytest.raises(NotLoadable, match=words):
        onnx_model(tmp_path, texts(), signature={"inputs": PIPE["inputs"][:1]})


def test_the_probe_says_what_the_file_takes_and_answers_a_v2_example(tmp_path: Path) -> None:
    tensor = {"name": "X", "datatype": "FP32", "shape": [2, 3], "data": ROWS}
    onnx_model(tmp_path, models.exported(regression(), 3), input_example={"inputs": [tensor]})

    code = probe(model=tmp_path, out=tmp_path / "report.json")

    report = orjson.loads((tmp_path / "report.json").read_bytes())
    assert (code, report["ok"], report["loader"]) == (0, True, "onnx-file")
    assert report["signature"] == {
        "inputs": [
            {
                "type": "tensor",
                "name": "X",
                "tensor-spec": {"dtype": "float32", "shape": [-1, 3]},
            }
        ],
        "outputs": [
            {
                "type": "tensor",
                "name": "variable",
                "tensor-spec": {"dtype": "float32", "shape": [-1, 1]},
            }
        ],
    }
    assert report["example"]["rows"] == 2
    wanted = regression().predict(np.array(ROWS)).tolist()
    assert [row[0] for row in report["example"]["predictions"]] == pytest.approx(wanted, rel=1e-5)


def test_a_file_that_is_none_does_not_load(tmp_path: Path) -> None:
    write_card(tmp_path, {"runtime": "onnx", "file": "m.onnx"}, m_onnx=b"no model")

    code = probe(model=tmp_path, out=tmp_path / "report.json")

    error = orjson.loads((tmp_path / "report.json").read_bytes())["error"]
    assert code == 1
    assert (error["stage"], error["type"]) == ("load", "InvalidProtobuf")
