"""What /invocations takes besides JSON, and what it says of numbers and params that do not fit."""

from __future__ import annotations

import io
import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_params_schema
from mlflow.types.schema import ParamSchema, ParamSpec

from model_server import mlmodel
from tests.model_server.asking import MLFLOW, V1, V2, InProcess, of_columns

FLIGHTS = of_columns(
    distance="double", hour="long", carrier="string?", at="datetime?", weekend="boolean"
)


def post(asked: InProcess, text: str | bytes, kind: str = "text/csv") -> tuple[int, Any]:
    content = text if isinstance(text, bytes) else text.encode()
    return asked.post(MLFLOW, content, content_type=kind)


def test_a_table_is_read_by_the_types_of_the_signature() -> None:
    asked = InProcess(FLIGHTS)

    status, _ = post(
        asked,
        "hour,distance,carrier,at,weekend\r\n"
        '17,1400.5,"A, ""A""",2013-01-01 05:00:00,True\r\n'
        "\r\n"
        "6.0,,,,FALSE\r\n",
    )

    assert status == 200
    frame = asked.seen
    assert frame["hour"].tolist() == [17, 6]
    assert frame["distance"].isna().tolist() == [False, True]
    assert frame["carrier"].tolist()[0] == 'A, "A"'
    assert frame["carrier"].isna().tolist() == [False, True]
    assert frame["at"].tolist()[0] == pd.Timestamp("2013-01-01 05:00:00")
    assert frame["weekend"].tolist() == [True, False]
    assert asked.record["request"] == {
        "dataframe_split": {
            "columns": ["hour", "distance", "carrier", "at", "weekend"],
            "data": [
                [17, 1400.5, 'A, "A"', "2013-01-01 05:00:00", True],
                [6.0, None, None, None, False],
            ],
        }
    }


def test_what_pandas_writes_is_read_and_its_index_ignored() -> None:
    frame = pd.DataFrame({"distance": [1.0, None], "hour": [7, 8]})
    asked = InProcess(of_columns(distance="double", hour="long"))

    assert post(asked, b"\xef\xbb\xbf" + frame.to_csv().encode())[0] == 200

    assert asked.app.model.unknown_columns == 1
    pd.testing.assert_frame_equal(pd.DataFrame(asked.seen, columns=frame.columns), frame, False)


def test_without_a_signature_types_are_guessed_as_pandas_does() -> None:
    text = "a,b,c,d\n1,1.5,true,x\n2,,false,1\n"
    asked = InProcess()

    assert post(asked, text)[0] == 200

    pd.testing.assert_frame_equal(asked.seen, pd.read_csv(io.StringIO(text)), check_dtype=False)


BOTH = of_columns(distance="double", hour="long")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the body must begin with a line of column names"),
        ("distance,hour\n", "the request has no rows"),
        ("distance\n1\n", "column 'hour' is missing"),
        ("hour,hour\n1,2\n", "column 'hour' is named more than once"),
        ("distance,hour\n1,2\n1,2,3\n", "line 3 has 3 cells, line 1 names 2"),
        ("distance,hour\n1,2\n\n1,\n", "column 'hour' must be long, got an empty cell in line 4"),
        ('distance,hour\n1,"2\n"\nx,2\n', "column 'distance' must be double, got 'x' in line 4"),
        ("distance,hour\ninf,2\n", "column 'distance' must be double, got 'inf' in line 2"),
        ("distance,hour\n1,2_0\n", "column 'hour' must be long, got '2_0' in line 2"),
        ("distance,hour\n1,2.5\n", "column 'hour' must be long, got double 2.5 in row 0"),
        ('distance,hour\n1,"2\n', "the body is not valid CSV in line 2: unexpected end of data"),
        (b"distance,hour\n\xff,2\n", "the body is not UTF-8 at byte 14"),
    ],
)
def test_a_bad_table_is_refused_by_line_and_column(text: str | bytes, words: str) -> None:
    asked = InProcess(BOTH)

    assert post(asked, text) == (400, {"error_code": "BAD_REQUEST", "message": words})
    assert asked.calls == 0
    assert asked.record["error"] == f"BadRequest: {words}"


def test_a_name_given_twice_among_very_many_is_found_at_once() -> None:
    names = ",".join(map(str, range(200_000)))

    status, answer = post(InProcess(BOTH), f"{names},199999\n")

    assert (status, answer["message"]) == (400, "column '199999' is named more than once")


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"'],
)
def test_json_may_say_that_it_is_utf_8(kind: str) -> None:
    assert post(InProcess(BOTH), '{"inputs": [[1, 2]]}', kind)[0] == 200


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (
            "application/parquet",
            "the content type must be application/json or text/csv, got 'application/parquet'",
        ),
        ("text/csv; charset=latin-1", "the charset must be utf-8, got 'latin-1'"),
        (
            "application/json; format=pandas",
            "the content type has an unknown parameter 'format=pandas'",
        ),
    ],
)
def test_other_types_are_refused_as_such(kind: str, words: str) -> None:
    asked = InProcess(BOTH)

    assert post(asked, "1", kind) == (415, {"error_code": "BAD_REQUEST", "message": words})
    assert asked.record["status"] == 415


def test_a_packed_body_is_refused_as_such() -> None:
    status, answer = InProcess(BOTH).post(V2, b"\x1f\x8b", content_encoding="gzip")

    words = "the body must be sent as it is, without a content-encoding"
    assert (status, answer) == (415, {"error": words})


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "-NaN"])
@pytest.mark.parametrize("path", [V1, V2, MLFLOW])
def test_a_number_that_json_does_not_have_is_named(path: str, word: str) -> None:
    status, answer = InProcess(BOTH).post(path, f'{{"inputs":\n[[1,{word}]]}}'.encode())

    text = answer.get("message", answer.get("error"))
    assert status == 400
    assert text.startswith(f"the body is not valid JSON: {word} is no JSON, send null ")
    assert "line 2 column" in text


DECLARED = ParamSchema(
    [
        ParamSpec("flag", "boolean", True),
        ParamSpec("n", "long", 1),
        ParamSpec("share", "double", 0.5),
        ParamSpec("word", "string", "a"),
        ParamSpec("since", "datetime", "2013-01-01"),
        ParamSpec("many", "integer", [1], (-1,)),
    ]
)
SCALARS: tuple[Any, ...] = (None, True, 3, 2**40, 1.0, 1.5, "x", "2013-02-03", "")
VALUES = (*SCALARS, [], [1], [1.5], [None], {"a": 1})


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("params")
    signature = {"params": json.dumps(DECLARED.to_dict())}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {}, "signature": signature}))
    return folder


def taken_by_mlflow(name: str, value: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of lists of lists
        try:
            _enforce_params_schema({name: value}, DECLARED)
        except MlflowException:
            return False
    return True


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", [*(param.name for param in DECLARED.params), "unknown"])
def test_params_are_taken_and_refused_as_mlflow_does(declared: Path, name: str, value: Any) -> None:
    asked = InProcess(BOTH, params=mlmodel.read(declared).params)
    body = json.dumps({"inputs": [[1, 2]], "params": {name: value}}).encode()

    status, answer = asked.post(MLFLOW, body)

    assert status == (200 if taken_by_mlflow(name, value) else 400)
    assert status == 200 or answer["message"].startswith(f"param {name!r} must be ")
