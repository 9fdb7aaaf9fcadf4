"""probe and predict: what the panel's build and validation jobs read."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import models
from tests.model_server.running import environment


def run(bundle: Path, *arguments: str) -> int:
    command = [sys.executable, "-P", "-m", "model_server", *arguments]
    return subprocess.run(command, env=environment(bundle), check=False, timeout=120).returncode


def probe(bundle: Path, model: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    out = folder / "probe.json"
    code = run(bundle, "probe", "--model", str(model), "--out", str(out))
    return code, json.loads(out.read_bytes())


def test_probe_answers_the_saved_example(mixed_bundle: Path, tmp_path: Path) -> None:
    code, report = probe(mixed_bundle, mixed_bundle / "model", tmp_path)

    load_seconds, example = report.pop("load_seconds"), report.pop("example")
    assert code == 0
    assert 0 < load_seconds < 120
    assert report == {
        "ok": True,
        "python": platform.python_version(),
        "loader": "sklearn-direct",
        "signature": {
            "inputs": [
                {"type": "double", "name": "distance", "required": True},
                {"type": "long", "name": "hour", "required": True},
                {"type": "string", "name": "carrier", "required": True},
                {"type": "datetime", "name": "at", "required": True},
                {"type": "boolean", "name": "weekend", "required": True},
            ],
            "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}],
        },
        "error": None,
    }
    assert example.pop("seconds") > 0
    expected = models.mixed_model().predict_proba(models.flights().head(3)).tolist()
    assert example == {"found": True, "rows": 3, "predictions": expected}
    assert [path.name for path in tmp_path.iterdir()] == ["probe.json"]


def test_probe_reads_the_plain_example_when_there_is_no_serving_one(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(numeric_bundle / "model", tmp_path / "model"))
    (model / "serving_input_example.json").unlink()

    code, report = probe(numeric_bundle, model, tmp_path)

    assert code == 0
    expected = models.numeric_model().predict(models.flights()[["distance", "hour"]].head(3))
    assert report["example"]["predictions"] == expected.tolist()


def test_probe_says_when_there_is_no_example(unruly_bundle: Path, tmp_path: Path) -> None:
    code, report = probe(unruly_bundle, unruly_bundle / "model", tmp_path)

    assert code == 0
    assert report["example"] == {"found": False, "rows": 0, "seconds": 0.0, "predictions": []}


@pytest.mark.parametrize(
    ("change", "stage", "kind", "words"),
    [
        ("no card", "load", "NotLoadable", "there is no readable MLmodel file: "),
        ("bad card", "load", "NotLoadable", "the MLmodel file is not YAML: "),
        ("no flavors", "load", "NotLoadable", "the MLmodel file names no flavors"),
        ("no file", "load", "NotLoadable", "the model file 'model.skops' is missing"),
        ("bad example", "example", "BadRequest", "column 'distance' is missing"),
    ],
)
def test_probe_reports_what_failed(
    numeric_bundle: Path, tmp_path: Path, change: str, stage: str, kind: str, words: str
) -> None:
    model = Path(shutil.copytree(numeric_bundle / "model", tmp_path / "model"))
    if change == "no card":
        (model / "MLmodel").unlink()
    elif change == "bad card":
        (model / "MLmodel").write_text("{[")
    elif change == "no flavors":
        (model / "MLmodel").write_text("a: 1")
    elif change == "no file":
        (model / "model.skops").unlink()
    else:
        (model / "serving_input_example.json").write_text('{"dataframe_records": [{"hour": 1}]}')

    code, report = probe(numeric_bundle, model, tmp_path)

    assert code == 1
    assert report["ok"] is False
    assert (report["error"]["stage"], report["error"]["type"]) == (stage, kind)
    assert report["error"]["message"].startswith(words)
    assert report["error"]["traceback"].startswith("Traceback (most recent call last):\n")


def predict(bundle: Path, folder: Path, data: Any, *options: str) -> tuple[int, dict[str, Any]]:
    given, out = folder / "data.json", folder / "out.json"
    given.write_text(data if isinstance(data, str) else json.dumps(data))
    model = str(bundle / "model")
    arguments = ["--model", model, "--data", str(given), "--out", str(out), *options]
    code = run(bundle, "predict", *arguments)
    return code, json.loads(out.read_bytes())


def table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(models.flights().to_json(orient="split", date_format="iso"))
    return {"columns": found["columns"], "data": found["data"]}


@pytest.mark.parametrize("batch", ["7", "5000"])
def test_predict_answers_every_row_in_order(mixed_bundle: Path, tmp_path: Path, batch: str) -> None:
    code, report = predict(mixed_bundle, tmp_path, table(), "--batch", batch)

    assert code == 0
    assert (report["ok"], report["rows"], report["error"]) == (True, models.ROWS, None)
    expected = models.mixed_model().predict_proba(models.flights())
    assert len(report["predictions"]) == models.ROWS
    for row, wanted in zip(report["predictions"], expected.tolist(), strict=True):
        assert row == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("data", "stage", "words"),
    [
        ("{", "data", "unexpected end of data"),
        ({"columns": ["a"]}, "data", "dataframe_split must have a list of 'columns'"),
        ({"columns": ["hour"], "data": [[1]]}, "predict", "in the rows from 0: column 'dist"),
    ],
)
def test_predict_reports_what_failed(
    numeric_bundle: Path, tmp_path: Path, data: Any, stage: str, words: str
) -> None:
    code, report = predict(numeric_bundle, tmp_path, data)

    assert code == 1
    assert (report["ok"], report["rows"], report["predictions"]) == (False, 0, [])
    assert report["error"]["stage"] == stage
    assert report["error"]["message"].startswith(words)


def test_predict_says_which_rows_the_model_failed_on(unruly_bundle: Path, tmp_path: Path) -> None:
    data = {"columns": ["wish"], "data": [[7], [1]]}

    code, report = predict(unruly_bundle, tmp_path, data, "--batch", "1")

    assert code == 1
    assert report["error"]["type"] == "ValueError"
    assert report["error"]["message"] == "carrier was never seen"
