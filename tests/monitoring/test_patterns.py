"""Bodies that differ in their values only are read by what earlier ones taught; never wrongly."""

import json
from typing import Any
from zlib import crc32

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring import extract, lines, parquet, segments, shapes
from apps.monitoring.extract import Requests
from apps.monitoring.patterns import BODIES_A_LESSON, MOST_CREDIT, Patterns, learn, without_id
from apps.monitoring.shapes import Shape
from tests.monitoring.making import START_US, record, written

NAMES = ["x", "n", "carrier"]
SIGNATURE = {
    "inputs": [
        {"name": "x", "type": "double"},
        {"name": "n", "type": "long"},
        {"name": "carrier", "type": "string"},
    ],
}
KNOWN = shapes.plan(SIGNATURE)


def tensor(name: str, value: object, kind: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": [1], "datatype": kind, "data": [value]}


def split(x: object, n: object, carrier: object) -> dict[str, Any]:
    return record(
        START_US,
        format="mlflow",
        request={"dataframe_split": {"columns": NAMES, "data": [[x, n, carrier]]}},
        response={"predictions": [[0.25, 0.75]]},
    )


def records(x: object, n: object, carrier: object) -> dict[str, Any]:
    rows = [{"x": x, "n": n, "carrier": carrier}]
    return record(
        START_US, format="mlflow", request={"dataframe_records": rows},
        response={"predictions": [0.5]},
    )  # fmt: skip


def tensors(x: object, n: object, carrier: object) -> dict[str, Any]:
    inputs = [tensor("x", x), tensor("n", n, "INT64"), tensor("carrier", carrier, "BYTES")]
    output = {"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [0.25, 0.75]}
    return record(
        START_US, format="v2", request={"inputs": inputs},
        response={"model_name": "m", "outputs": [output]},
    )  # fmt: skip


def matrix(x: object, n: object, carrier: object) -> dict[str, Any]:
    inputs = [{"name": "input", "shape": [1, 3], "datatype": "FP64", "data": [x, n, carrier]}]
    return record(START_US, format="v2", request={"inputs": inputs}, response={"outputs": []})


def named(x: object, n: object, carrier: object) -> dict[str, Any]:
    """Tensors in bodies that have ids of their own, which the answers repeat."""
    line = tensors(x, n, carrier)
    given = f"caller-{crc32(repr((x, n, carrier)).encode()):08x}"
    head = {"model_name": "m", "model_version": "1", "id": given}
    return line | {
        "request": {"id": given, **line["request"]},
        "response": head | {"outputs": line["response"]["outputs"]},
    }


FORMS = [split, records, tensors, matrix, named]


def taught(*forms: Any) -> Patterns:
    patterns = Patterns(KNOWN)
    for form in forms or FORMS:
        lines.cut(written(form(1.5, 2, "UA")), patterns)
    return patterns


@pytest.mark.parametrize("form", FORMS)
def test_what_differs_in_its_values_only_is_not_parsed(form: Any) -> None:
    sent = form(-0.5, None, 'a "quoted" é')
    found = lines.cut(written(sent), taught(form))
    assert found is not None
    shape = found.record["request"]
    assert type(shape) is Shape
    assert (shape.rows, shape.values) == (1, [[-0.5, None, 'a "quoted" é']])
    assert found.request == orjson.dumps(sent["request"]) or b"\\u00e9" in (found.request or b"")


@pytest.mark.parametrize(
    "body",
    [
        b'{"id":"a\\"b","inputs":[1]}',
        b'{"id":"a\xffb","inputs":[1]}',
        b'{"id":"a\x01b","inputs":[1]}',
        b'{"id":7,"inputs":[1]}',
        b'{"id":"a"}',
        b'{"inputs":[{"id":"a","x":1}]}',
        b'{"parameters":{"id":"a","x":1},"inputs":[1]}',
        b'{"model_name":"m","id":"a"}',
    ],
)
def test_only_an_id_in_front_and_of_plain_characters_is_passed_over(body: bytes) -> None:
    assert without_id("v2", body) == body


def test_an_id_in_front_is_passed_over_for_v2_alone() -> None:
    assert without_id("v2", b'{"id":"a","inputs":[1]}') == b'{"inputs":[1]}'
    answer = b'{"model_name":"m","model_version":"1","id":"a","outputs":[1]}'
    assert without_id("v2", answer) == b'{"model_name":"m","model_version":"1","outputs":[1]}'
    assert without_id("v1", answer) == answer


def test_the_values_come_in_the_order_of_the_rows() -> None:
    outputs = [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]
    plan = shapes.plan(SIGNATURE | {"outputs": outputs})
    pattern = learn("v1", b'{"predictions":[{"b":1,"a":2}]}', shapes.answered, plan)
    assert pattern is not None
    shape = pattern.read(b'{"predictions":[{"b":"x","a":3.5}]}')
    assert shape is not None
    assert (shape.key, shape.values) == (("lists", 2), [[3.5, "x"]])


def test_several_rows_of_one_list_are_told_apart() -> None:
    body = b'{"inputs":[{"name":"input","shape":[2,3],"datatype":"FP64","data":[1,2,3,4,5,6]}]}'
    pattern = learn("v2", body, shapes.asked, KNOWN)
    assert pattern is not None
    shape = pattern.read(body.replace(b"4,5", b"7,8"))
    assert shape is not None
    assert (shape.rows, shape.values) == (2, [[1, 2, 3], [7, 8, 6]])


BODY = (
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1]},'
    b'{"name":"n","shape":[1],"datatype":"FP64","data":[2]}]}'
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[2]", b"[]"),
        (b"[2]", b"[ ]"),
        (b"[2]", b"[2,3]"),
        (b"[2]", b"[[2]]"),
        (b"[2]", b'[{"a":1}]'),
        (b"[2]", b"[02]"),
        (b"[2]}]}", b"[2]}]"),
        (b"[2]}]}", b"[2]}]}}"),
        (b"[2]}]}", b"[]}]}3"),
        (b"[1]", b'["]'),
        (b'"n"', b'"m"'),
        (b'data":[1', b'data":[,1'),
        (b"[1]", b"[1,2]"),
        (b"[1]}", b"[1]"),
        (b"[1]", b"[1\n]"),
    ],
)
def test_what_differs_in_anything_else_is_no_match(old: bytes, new: bytes) -> None:
    pattern = learn("v2", BODY, shapes.asked, KNOWN)
    assert pattern is not None
    assert pattern.read(BODY) is not None
    other = BODY.replace(old, new)
    found = pattern.read(other)
    if found is not None:  # white space within a slot
        assert shapes.asked("v2", orjson.loads(other), KNOWN) == Shape(
            ("columns", ("x", "n")), 1, [[1], [2]]
        )


@pytest.mark.parametrize(
    ("protocol", "taught", "other"),
    [
        # What stands in a place that is no slot is no value, however many slots are empty.
        ("v2", BODY.replace(b"[2]", b" [2]"), BODY.replace(b'"n","shape":[1]', b'"n","shape":[11]')
         .replace(b"[2]", b" []")),
        ("v1", b'{"instances":[{"c":1,"a\\":b":2}]}', b'{"instances":[{"c":1,"a\\":7b":}]}'),
    ],
)  # fmt: skip
def test_a_slot_is_not_filled_from_elsewhere(protocol: str, taught: bytes, other: bytes) -> None:
    pattern = learn(protocol, taught, shapes.asked, KNOWN)
    assert pattern is not None
    assert pattern.read(taught) is not None
    assert pattern.read(other) is None


def test_a_value_that_holds_what_parts_the_slots_makes_no_pattern() -> None:
    body = b'{"instances":[{"a":"x\\":y","c":2,"bb":3}]}'
    assert learn("v1", body, shapes.asked, KNOWN) is None


def test_a_bracket_in_a_text_is_a_text() -> None:
    body = b'{"instances":[{"x":1,"carrier":"UA"}]}'
    pattern = learn("v1", body, shapes.asked, KNOWN)
    assert pattern is not None
    shape = pattern.read(body.replace(b"UA", b"[redacted]"))
    assert shape is not None
    assert shape.values == [[1, "[redacted]"]]
    assert pattern.read(body.replace(b"1", b"[1]")) is None
    assert pattern.read(body.replace(b"1", b'{"y":1}')) is None


def test_blanks_around_a_body_are_kept_by_neither_way() -> None:
    line = written(split(1.5, 2, "UA")).replace(b',"response"', b'  \r,"response"')
    read = segments.Segment()
    for patterns in (None, taught(split)):
        segments._take(line, read, START_US, True, patterns)
    first, second = (texts[2] for texts in read.texts)
    assert first == second == first.strip()


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances":[[1],[2]],"instances":[[1]]}',  # the second one counts
        b'{"instances":' + b"[" * 20 + b"]" * 20 + b"}",
        b'{"instances":[[1,2],[3,4]]}',
        b'{"instances":[]}',
        b'{"instances":[1}',
        b'{"instances":',
        b"[1]",
        b'"instances"',
        b"",
    ],
)
def test_of_some_bodies_there_is_no_pattern(body: bytes) -> None:
    assert learn("v1", body, shapes.asked, KNOWN) is None


def test_bodies_that_never_repeat_are_not_learnt_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apps.monitoring import patterns as module

    lessons: list[bytes] = []

    def seen(protocol: str, body: bytes, *more: Any) -> None:
        lessons.append(body)

    monkeypatch.setattr(module, "learn", seen)
    patterns = Patterns(KNOWN)
    for number in range(4 * BODIES_A_LESSON):
        assert patterns.asked("v1", b'{"instances":[[%d]]}' % number) is None
        assert patterns.asked(f"odd-{number}", b"{}") is None
    assert len(lessons) == MOST_CREDIT // BODIES_A_LESSON + 3


def test_callers_of_several_forms_all_have_a_pattern() -> None:
    patterns = taught()
    for form in FORMS * 2:
        found = lines.cut(written(form(7, 8, "B6")), patterns)
        assert found is not None
        assert type(found.record["request"]) is Shape


def test_what_was_sent_is_kept_byte_by_byte() -> None:
    sent = b'{"inputs": {"x": [1.50, 1e2, 123456789012345678901234567890], "n": [1,2,3]}}'
    line = written(record(START_US, format="mlflow", request="#")).replace(b'"#"', sent)
    read = segments.Segment()
    for _ in range(2):
        segments._take(line, read, START_US, True, Patterns(KNOWN))
    assert [texts[2] for texts in read.texts] == [sent, sent]


@pytest.mark.parametrize(
    "line",
    [
        b'{,"request":{},"response":{},"error":""}\n',
        b'{"ts":1,,"request":{},"response":{},"error":""}\n',
        b'{"ts":1,"request":{"a":1,"response":2},"response":{},"error":""}\n',
        b'{"ts":1,"request":{},"response":{"a":{},"error":1},"error":""}\n',
        b'{"ts":1,"request":{},"response":{},"error":"","request":5}\n',
        b'{"ts":1,"request":,"response":{},"error":""}\n',
        b'{"ts":1,"request":"a,"response":b","response":{},"error":""}\n',
        b'{"ts":1,"response":{},"request":{},"error":""}\n',
        b'{"request":1,"ts":1,"request":2,"response":3,"error":""}\n',
        b'[{"ts":1,"request":{},"response":{},"error":""}]\n',
        b'{"ts":1,"request":{},"response":{},"error":""\n',
    ],
)
def test_a_line_that_is_cut_is_the_line_as_it_is(line: bytes) -> None:
    found = lines.cut(line, None)
    if found is not None:
        assert found.record == orjson.loads(line)


def taken(line: bytes, patterns: Patterns | None, *, whole: bool = True) -> segments.Segment:
    read = segments.Segment()
    segments._take(line, read, START_US, whole, patterns)
    return read


def plainly(line: bytes) -> segments.Segment:
    """It takes a line that is parsed as a whole."""
    read = segments.Segment()
    try:
        found = lines.parsed(line)
    except orjson.JSONDecodeError:
        return read
    record = found.record
    is_counted = type(record) is dict and segments._is_counted(record, START_US)
    if is_counted and record.get("kept") is not False:
        segments._keep(found, read, True)
    return read


BROKEN = st.sampled_from(
    [b"[", b"]", b"{", b"}", b",", b'"', b":", b"\\", b"1", b"-", b" ", b"null", b"\xff", b"\x00",
     b"],[", b'"data":[', b',"request":', b',"response":', b',"error":', b"[]", b"{}", b"1,2"]
)  # fmt: skip


@given(st.data())
def test_a_broken_line_means_the_same_with_patterns_and_without(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(FORMS))
    line = written(form(1.5, 2, "UA") | {"id": "r"})[:-1]
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(line)))
        end = min(start + data.draw(st.integers(0, 6)), len(line))
        piece = data.draw(BROKEN | st.sampled_from([line[start : start + 40]]))
        line = line[:start] + piece + line[end:]
    line = line.replace(b"\n", b"") + b"\n"
    plain, read = plainly(line), taken(line, taught())
    assert (read.torn, read.rows) == (taken(line, None, whole=False).torn, plain.rows)
    if not read.rows:
        return
    assert (read.id, read.at_us, read.status, read.share) == (
        plain.id, plain.at_us, plain.status, plain.share,
    )  # fmt: skip
    for place in (2, 3):
        assert json.loads(read.texts[0][place]) == json.loads(plain.texts[0][place])
    assert rows(read).equals(rows(plain))


def rows(read: segments.Segment) -> Any:
    log = pa.Table.from_batches([parquet.batch(read, revision=1, version=1)])
    formats = [texts[0] for texts in read.texts]
    asked = Requests(log, formats, read.status, read.bodies, read.groups)
    return extract.joined([extract.rows_of(asked, KNOWN).table])
