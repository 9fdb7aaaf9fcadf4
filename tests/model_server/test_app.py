"""Whatever callers send, they get words and leave one record; 5xx are the model's alone."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model_server.formats.v1 import V1 as V1Format
from model_server.mlmodel import Signature, Tensor
from tests.model_server.asking import MLFLOW, PATHS, V1, V2, InProcess, of_columns, of_tensors

DISTANCES = of_columns(distance="double", hour="long")
SIGNATURES = (
    None,
    DISTANCES,
    of_columns(distance="double", at="datetime?", carrier="string?", raw="binary?", odd="any?"),
    of_tensors(Tensor(None, "float64", (-1, 2))),
    of_tensors(Tensor("distance", "int64", (-1,)), Tensor("hour", "float32", (-1, 2))),
)


def tensor(**changes: Any) -> dict[str, Any]:
    known = {"name": "distance", "shape": [1], "datatype": "FP64", "data": [1.0]}
    return {"inputs": [{**known, **changes}]}


def nested(depth: int) -> Any:
    found: Any = []
    for _ in range(depth - 1):
        found = [found]
    return found


def deep(depth: int, *, key: str = "inputs") -> bytes:
    return b'{"%b":' % key.encode() + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (tensor(datatype=[]), "tensor 'distance' has no known 'datatype': []"),
        (
            tensor(shape=[0, 10**18, 10**18], data=[]),
            "tensor 'distance' has shape [0, 1000000000000000000, 100000000000... and so no values",
        ),
        (tensor(shape=[10**9, 0], data=[]), "tensor 'distance' has shape [1000000000, 0] and so"),
        (tensor(shape=[1] * 33), "tensor 'distance' has more than 32 dimensions"),
        (tensor(data=nested(40)), "tensor 'distance' is FP64 but holds [[[[[[[]"),
    ],
)
def test_a_tensor_that_no_array_can_hold_is_the_callers_mistake(body: Any, words: str) -> None:
    asked = InProcess(DISTANCES)

    status, answer = asked.post(V2, orjson.dumps(body))

    assert (status, answer["error"][: len(words)]) == (400, words)
    assert [(r.status, r.error) for r in asked.kept.records] == [
        (400, f"BadRequest: {answer['error']}")
    ]


def test_what_no_check_of_a_format_foresaw_is_the_callers_mistake(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parse(self: V1Format, body: dict[str, Any], signature: Signature | None) -> Any:
        raise ValueError("half a pair: \ud83d")

    monkeypatch.setattr(V1Format, "parse", parse)
    asked = InProcess(DISTANCES)

    words = "the body cannot be read as v1: ValueError: half a pair: ?"
    assert asked.post(V1, b"{}") == (400, {"error": words})
    assert [record.error for record in asked.kept.records] == [f"BadRequest: {words}"]


def test_what_the_server_itself_breaks_is_answered_and_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = InProcess(DISTANCES)

    def breaks(*given: Any) -> Any:
        raise LookupError("lost")

    monkeypatch.setattr(asked.app, "_answer", breaks)

    status, answer = asked.post(MLFLOW, b"{}")

    assert status == 500
    assert answer == {
        "error_code": "INTERNAL_ERROR",
        "message": "the server failed: LookupError: lost",
    }
    assert [(r.status, r.error) for r in asked.kept.records] == [(500, "LookupError: lost")]
    assert (asked.app.served, asked.app.in_flight) == (1, 0)


def test_a_models_words_that_json_cannot_hold_are_still_said() -> None:
    asked = InProcess(DISTANCES, raises=ValueError("no file \udcff.csv"))

    status, answer = asked.post(V1, b'{"instances": [[1.0, 2]]}')

    assert (status, answer) == (500, {"error": "the model failed: ValueError: no file ?.csv"})
    [record] = asked.kept.records
    assert orjson.loads(record.line())["error"] == "ValueError: no file ?.csv"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("depth", [255, 400, 1023, 1024, 1025, 100_000])
def test_a_body_nested_too_deeply_is_the_callers_mistake(path: str, depth: int) -> None:
    asked = InProcess()

    status, answer = asked.post(path, deep(depth))

    assert status == 400
    assert answer.get("message", answer.get("error")).startswith(
        "the body is n" + ("ested too deeply" if depth <= 1024 else "ot valid JSON: depth limit")
    )
    [record] = asked.kept.records
    assert "raw" in orjson.loads(record.line())["request"]


def test_brackets_that_are_not_nested_are_no_reason_to_refuse() -> None:
    rows = [[1.0, 2]] * 1000

    assert InProcess(DISTANCES).post(V1, orjson.dumps({"instances": rows}))[0] == 200


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.sampled_from(
            ["text/csv", "application/json", "text/csv; charset=", ";"]
        ),
        "inference_header_content_length": st.integers(0, 90).map(str) | st.just("-"),
    },
)
LINES = st.lists(st.sampled_from(["distance", "hour", "1", "1.5", "", '"', "x"]), max_size=3)
TABLES = st.lists(LINES.map(",".join), max_size=4).map(lambda lines: "\n".join(lines).encode())
BEHIND = st.tuples(
    st.sampled_from(["FP64", "BOOL", "BYTES", "INT8", "BF16"]),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(-1, 20),
    st.binary(max_size=20),
)


@settings(deadline=None)
@given(TABLES | st.binary(max_size=20), HEADERS, st.sampled_from(SIGNATURES))
def test_whatever_the_headers_say_is_answered_and_recorded_once(
    content: bytes, headers: dict[str, str], signature: Signature | None
) -> None:
    for path in PATHS:
        asked = InProcess(signature)

        status, answer = asked.post(path, content, **headers)

        assert status == 200 if asked.calls else status in (400, 415)
        assert (asked.record["status"], asked.record["response"]) == (status, answer)


@settings(deadline=None)
@given(BEHIND, st.sampled_from(SIGNATURES))
def test_whatever_stands_behind_the_json_is_answered_and_recorded_once(
    behind: tuple[str, list[int], int, bytes], signature: Signature | None
) -> None:
    kind, shape, size, tail = behind
    about = {"name": "distance", "datatype": kind, "shape": shape}
    head = orjson.dumps({"inputs": [{**about, "parameters": {"binary_data_size": size}}]})
    asked = InProcess(signature)

    status, answer = asked.post(V2, head + tail, inference_header_content_length=str(len(head)))

    assert status == (200 if asked.calls else 400)
    assert (asked.record["status"], asked.record["response"]) == (status, answer)


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
    | st.text(max_size=4) | st.sampled_from(["2030-01-07T12:00:00Z", "AAAA", "FP64", "BYTES"])
)  # fmt: skip
NAMES = st.sampled_from(["distance", "hour", "at", "carrier", "raw", "odd"]) | st.text(max_size=3)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
NUMBERS = st.lists(st.integers(-9, 9) | st.floats(-9, 9), max_size=4)


def or_anything(sound: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly sound, so that the later checks are reached as well."""
    return st.integers(0, 9).flatmap(lambda chance: sound if chance else ANYTHING)


@st.composite
def tensors(draw: st.DrawFn) -> dict[str, Any]:
    """One whose shape fits its data, but for what is drawn anew."""
    data = draw(NUMBERS | st.lists(st.text(max_size=3), max_size=4))
    count = len(data)
    lengths = st.integers(0, 4) | st.sampled_from([10**9, 2**63])
    fitting = st.sampled_from([[count], [count, 1], [count // 2, 2], [1, count], [0, count, 10**9]])
    known = {
        "name": NAMES,
        "shape": fitting | st.lists(lengths, min_size=1, max_size=3),
        "datatype": st.sampled_from(["FP64", "INT64", "BYTES", "BOOL"]),
        "data": st.just(data),
    }
    return {key: draw(or_anything(values)) for key, values in known.items()}


ROWS = st.lists(or_anything(NUMBERS), max_size=3)
PAIRS = st.lists(st.tuples(st.floats(-9, 9), st.integers(-9, 9)), max_size=3)
RECORDS = st.lists(or_anything(st.dictionaries(NAMES, SCALARS, max_size=5)), max_size=3)
COLUMNS = st.dictionaries(NAMES, or_anything(NUMBERS), max_size=5)
SPLITS = st.fixed_dictionaries(
    {"columns": or_anything(st.lists(NAMES, max_size=3)), "data": or_anything(PAIRS | ROWS)}
)
FORMS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    V2: {"inputs": st.lists(tensors(), min_size=1, max_size=3)},
    V1: {"instances": PAIRS | ROWS | RECORDS, "inputs": COLUMNS},
    MLFLOW: {
        "instances": PAIRS | ROWS | RECORDS,
        "inputs": PAIRS | COLUMNS,
        "dataframe_records": RECORDS,
        "dataframe_split": SPLITS,
    },
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: mostly in a form of its format, else any JSON, too deep, or no JSON."""
    path = draw(st.sampled_from(PATHS))
    forms = FORMS[path]
    key = draw(st.sampled_from(sorted(forms)))
    body = st.fixed_dictionaries(
        {key: or_anything(forms[key])}, optional={"params": or_anything(COLUMNS), "id": ANYTHING}
    )
    depth = draw(st.sampled_from([253, 254, 255, 1023, 1024, 1025]))
    odd = st.sampled_from([deep(depth, key=key), deep(depth, key="id")]) | st.binary(max_size=20)
    bodies = or_anything(body).map(orjson.dumps)
    return path, draw(st.integers(0, 9).flatmap(lambda chance: bodies if chance else odd))


@settings(deadline=None)  # the first one imports pandas
@given(requests(), st.sampled_from(SIGNATURES), st.booleans())
@example((V2, orjson.dumps(tensor(datatype=[]))), DISTANCES, False)
@example((V2, orjson.dumps(tensor(shape=[0, 10**18, 10**18], data=[]))), DISTANCES, False)
@example((V1, deep(300)), None, False)
def test_whatever_is_sent_is_answered_and_recorded_once(
    sent: tuple[str, bytes], signature: Signature | None, breaks: bool
) -> None:
    asked = InProcess(signature, raises=ValueError("carrier \ud83d") if breaks else None)

    status, answer = asked.post(*sent)

    assert status == ((500 if breaks else 200) if asked.calls else 400)
    [record] = asked.kept.records
    kept = orjson.loads(record.line())
    assert (kept["status"], kept["response"]) == (status, answer)
    assert bool(kept["error"]) is (status != 200)
    orjson.dumps(kept["request"])  # as the collector does
    assert asked.app.in_flight == 0
