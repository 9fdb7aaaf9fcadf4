"""Models of other kinds: text and times, reordered columns, no signature, pyfunc, failures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.model_server import models
from tests.model_server.running import Running, environment, serving, until

MLFLOW = "/invocations"
V2 = "/v2/models/flight-delay/infer"
V1 = "/v1/models/flight-delay:predict"


def first_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        models.flights().head(4).to_json(orient="records", date_format="iso")
    )
    return rows


def probabilities() -> list[list[float]]:
    found: list[list[float]] = models.mixed_model().predict_proba(models.flights().head(4)).tolist()
    return found


def test_mixed_columns_give_the_probabilities_the_author_asked_for(mixed: Running) -> None:
    rows = first_rows()
    names = list(rows[0])

    records = mixed.post(MLFLOW, {"dataframe_records": rows})
    instances = mixed.post(V1, {"instances": [list(row.values()) for row in rows]})
    kinds = ["FP64", "INT64", "BYTES", "BYTES", "BOOL"]
    tensors = [
        {"name": name, "shape": [4], "datatype": kind, "data": [row[name] for row in rows]}
        for name, kind in zip(names, kinds, strict=True)
    ]
    v2 = mixed.post(V2, {"inputs": tensors})

    assert records.json() == {"predictions": probabilities()}
    assert instances.json() == {"predictions": probabilities()}
    assert v2.json()["outputs"] == [
        {
            "name": "predict_proba",
            "datatype": "FP64",
            "shape": [4, 2],
            "data": [value for row in probabilities() for value in row],
        }
    ]


def test_a_category_never_seen_is_the_models_failure(mixed: Running) -> None:
    answer = mixed.post(
        MLFLOW, {"dataframe_records": [{**first_rows()[0], "carrier": "ZZ"}]}, x_request_id="zz"
    )

    assert answer.status_code == 500
    assert "Found unknown categories ['ZZ']" in answer.json()["message"]
    assert mixed.captured("zz")["error"].startswith("ValueError: Found unknown categories ['ZZ']")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"carrier": 3}, "column 'carrier' must be string, got long 3 in row 0"),
        ({"carrier": None}, "column 'carrier' must be string, got null in row 0"),
        ({"at": "noon"}, "column 'at' must be datetime, got string 'noon' in row 0"),
        ({"weekend": "no"}, "column 'weekend' must be boolean, got string 'no' in row 0"),
    ],
)
def test_wrong_types_are_refused(mixed: Running, change: dict[str, Any], words: str) -> None:
    answer = mixed.post(MLFLOW, {"dataframe_records": [{**first_rows()[0], **change}]})

    assert answer.status_code == 400
    assert answer.json() == {"error_code": "BAD_REQUEST", "message": words}


def test_columns_are_never_read_in_the_wrong_order(reordered_bundle: Path, tmp_path: Path) -> None:
    body = {"dataframe_split": {"columns": ["hour", "distance"], "data": [[6, 2400.0]]}}

    with serving(reordered_bundle, tmp_path) as server:
        answer = server.post(MLFLOW, body)

    # The pipeline picks by name; read by position it would scale the hour as a distance.
    frame = models.flights()[["distance", "hour"]].head(1)
    frame = frame.assign(distance=2400.0, hour=6)
    swapped = frame.assign(distance=6.0, hour=2400)
    model = models.reordered_model()
    right, wrong = (model.predict_proba(table).tolist() for table in (frame, swapped))
    assert right != wrong
    assert answer.json() == {"predictions": right}
    assert server.events()[0]["loader"] == "sklearn-direct"


def test_a_model_without_a_signature_gets_what_was_sent(
    unsigned_bundle: Path, tmp_path: Path
) -> None:
    rows = [{**row, "extra": 1} for row in first_rows()]

    with serving(unsigned_bundle, tmp_path) as server:
        named = server.post(MLFLOW, {"dataframe_records": rows})
        nameless = server.post(MLFLOW, {"inputs": [[1, 2]]})

    expected = models.mixed_model().predict(models.flights().head(4)).tolist()
    assert named.json() == {"predictions": expected}
    assert nameless.status_code == 500


def test_another_flavor_goes_through_pyfunc(pyfunc_bundle: Path, tmp_path: Path) -> None:
    with serving(pyfunc_bundle, tmp_path) as server:
        rows = {"dataframe_records": [{"value": 1.5, "name": "a"}, {"value": 2, "name": "b"}]}
        scored = server.post(MLFLOW, rows)
        tensors = [
            {"name": "value", "shape": [1], "datatype": "FP64", "data": [4]},
            {"name": "name", "shape": [1], "datatype": "BYTES", "data": ["c"]},
        ]
        v2 = server.post(V2, {"inputs": tensors})

    assert scored.json() == {
        "predictions": [{"name": "a", "twice": 3.0}, {"name": "b", "twice": 4.0}]
    }
    assert v2.json()["outputs"] == [
        {"name": "name", "datatype": "BYTES", "shape": [1], "data": ["c"]},
        {"name": "twice", "datatype": "FP64", "shape": [1], "data": [8.0]},
    ]
    assert server.events()[0]["loader"] == "pyfunc"


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (1, "the model failed: ValueError: carrier was never seen"),
        (2, "the model failed: SystemExit: 9"),
        (4, "the model failed: TypeError: Type is not JSON serializable: object"),
    ],
)
def test_whatever_a_model_does_the_server_goes_on(unruly: Running, wish: int, words: str) -> None:
    failed = unruly.post(V1, {"instances": [[wish]]})
    after = unruly.post(V1, {"instances": [[7]]})

    assert (failed.status_code, failed.json()) == (500, {"error": words})
    assert (after.status_code, after.json()) == (200, {"predictions": [7.0]})


def test_a_scikit_learn_model_is_served_without_mlflow_and_django(numeric_bundle: Path) -> None:
    code = (
        "import pathlib, sys\n"
        "from model_server import server\n"
        f"model = server.open_model(pathlib.Path({str(numeric_bundle / 'model')!r}))\n"
        "server.warm_up(model)\n"
        "print({'mlflow', 'django'} & set(sys.modules), model.loader)\n"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment(numeric_bundle),
        capture_output=True,
        text=True,
        check=True,
    )

    assert found.stdout == "set() sklearn-short\n"
    assert found.stderr == ""


def test_models_are_in_memory_before_the_first_health_check(mixed: Running) -> None:
    assert until("ready", lambda: mixed.client.get("/ready").status_code == 200)
    assert [event["event"] for event in mixed.events()] == ["serving"]
