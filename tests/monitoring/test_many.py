"""Lines that are read many at once say what each says alone, whatever stands beside them."""

import json
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring import contents, many, segments
from apps.monitoring.patterns import Patterns
from apps.monitoring.segments import Segment
from tests.monitoring.making import START_US, dated, record, written
from tests.monitoring.test_patterns import (
    BROKEN,
    FORMS,
    KNOWN,
    SIGNATURE,
    named,
    plainly,
    records,
    rows,
    split,
    taught,
    tensors,
)

Form = Callable[[object, object, object], dict[str, Any]]


def dotted(x: object, n: object, carrier: object) -> dict[str, Any]:
    """Bodies of lists a column, whose answers are objects."""
    return record(
        START_US, format="mlflow",
        request={"inputs": {"x": [x], "n": [n], "carrier": [carrier]}},
        response={"predictions": [{"a": 0.25, "b": x}]},
    )  # fmt: skip


def answered(x: object, n: object, carrier: object) -> dict[str, Any]:
    """A matrix with an answer that can be read."""
    inputs = [{"name": "input", "shape": [1, 3], "datatype": "FP64", "data": [x, n, carrier]}]
    output = {"name": "p", "datatype": "FP64", "shape": [1, 2], "data": [0.25, 0.75]}
    return record(START_US, format="v2", request={"inputs": inputs}, response={"outputs": [output]})


MANY: list[Form] = [split, records, tensors, answered, dotted, named]


def together(lines: Sequence[bytes], patterns: Patterns) -> tuple[Segment, int]:
    """It takes lines as `segments.parts` does, and tells of how many the bodies were grouped."""
    read = Segment()
    seen = segments._seen_together(list(lines), START_US, patterns)
    segments._take_all(list(lines), seen, read, START_US, patterns)
    return read, sum(len(group.places) for group in read.groups)


def alone(lines: Sequence[bytes]) -> Segment:
    """It takes lines one by one, each parsed as a whole."""
    read = Segment()
    for line in lines:
        plain = plainly(line)
        read.torn += 1 - plain.rows
        for name in ("at_us", "status", "latency_us", "shadow", "id", "share", "texts", "bodies"):
            getattr(read, name).extend(getattr(plain, name))
        read.rows += plain.rows
    return read


def same(lines: Sequence[bytes], patterns: Patterns) -> int:
    """It holds both ways against each other, and tells of how many the bodies were grouped."""
    read, grouped = together(lines, patterns)
    plain = alone(lines)
    assert (read.torn, read.rows, len(read.bodies)) == (plain.torn, plain.rows, plain.rows)
    for name in ("at_us", "status", "latency_us", "shadow", "id", "share"):
        assert getattr(read, name) == getattr(plain, name)
    for one, other in zip(read.texts, plain.texts, strict=True):
        assert (one[0], one[1], one[4]) == (other[0], other[1], other[4])
        assert [*map(orjson.loads, one[2:4])] == [*map(orjson.loads, other[2:4])]
    if read.rows:
        assert rows(read).equals(rows(plain))
    return grouped


def some(form: Form, number: int) -> list[bytes]:
    rows = (
        form(place / 4, place, f"U{place}") | {"id": f"r-{place:04}"} for place in range(number)
    )
    return [*map(written, rows)]


@pytest.mark.parametrize("form", MANY)
def test_lines_of_one_form_are_read_together(form: Form) -> None:
    assert same(some(form, 20), taught(form)) == 20


def test_lines_of_several_forms_are_read_by_form_and_stay_in_their_order() -> None:
    lines = [
        line for those in zip(*(some(form, 10) for form in MANY[:5]), strict=True) for line in those
    ]
    assert same(lines, taught(*MANY[:4])) == 40


def test_a_line_of_another_kind_takes_none_with_it() -> None:
    lines = some(tensors, 12)
    lines[3] = written(tensors([1], 2, "UA"))
    lines[5] = written(tensors(1, 2, "a longer text " * 9))
    lines[7] = written(tensors(1, 2, "a], [b"))
    lines[9] = written(tensors(1, 2, "UA") | {"status": 500, "response": {"error": "x"}})
    assert same(lines, taught(tensors)) == 8


@pytest.mark.parametrize("more", [b",3", b',"text"', b",null", b",true"])
def test_what_stands_behind_a_line_takes_no_other_with_it(more: bytes) -> None:
    """A number behind one line was read as a record: all lines of the file were set aside."""
    lines = some(split, 12)
    lines[4] = lines[4].rstrip(b"\n") + more + b"\n"
    read, _ = together(lines, taught(split))
    assert (read.torn, read.rows) == (1, 11)


@pytest.mark.parametrize(
    "odd",
    [
        {"caller": 7},
        {"caller": "c" * 501},
        {"id": "i" * 501},
        {"id": None},
        {"ts": START_US + 2 * segments.FURTHEST_US},
        {"ts": START_US - 2 * segments.FURTHEST_US},
        {"ts": 1.5},
        {"ts": True},
        {"status": 1000},
        {"status": -1},
        {"us": -1},
        {"us": segments.LONGEST_US},
        {"shadow": 1},
        {"share": 0.5},
        {"share": 0},
        {"share": 2},
        {"share": "1"},
        {"kept": False},
        {"dropped": 3},
        {"more": {"request": [1]}},
        {"format": 5},
        {"format": "v3"},
        {"error": None},
        {"error": "a { and a ["},
    ],
)
def test_heads_that_no_server_writes_are_read_as_alone(odd: dict[str, Any]) -> None:
    lines = some(split, 12)
    line = split(1, 2, "UA")
    for place in (0, 6, 11):
        lines[place] = written(
            {"id": line["id"]} | odd | {k: v for k, v in line.items() if k not in odd}
        )
    read, _ = together(lines, taught(split))
    expected = Segment()
    for one in lines:
        segments._take(one, expected, START_US, True)
    assert (read.torn, read.rows, read.dropped) == (expected.torn, expected.rows, expected.dropped)
    assert (read.id, read.share, read.outlines) == (expected.id, expected.share, expected.outlines)
    assert read.texts == expected.texts


PIECES = [
    b"", b" ", b"1", b"1,2", b",", b"1,", b",1", b"[", b"]", b"[1]", b"1],[2", b"1]", b"[2", b"1]]",
    b"[[1", b'"', b'","', b'"a', b'b"', b'"]"', b'"[1],[2"', b"{", b"}", b"{}", b'1},{"x":2',
    b'{"x":[1', b"\x00", b"\xff", b"\\", b"null", b"01", b"1.5e999", b"NaN",
]  # fmt: skip


@pytest.mark.parametrize("form", [split, tensors, dotted, named])
def test_no_line_borrows_from_the_next(form: Form) -> None:
    """Each two pieces where values stand, in lines that follow each other, and at the ends."""
    patterns = taught(form)
    lines = some(form, 10)
    for one, other in product(PIECES, PIECES):
        for places in ((4, 5), (0, 9)) if one == other else ((4, 5),):
            tried = list(lines)
            for place, piece in zip(places, (one, other), strict=True):
                tried[place] = written(form(1.5, 77, "UA")).replace(b"77", piece, 1)
            same(tried, patterns)


def test_no_head_borrows_from_the_next() -> None:
    patterns = taught(split)
    lines = some(split, 10)
    for one, other in product(PIECES, PIECES):
        tried = list(lines)
        for place, piece in ((4, one), (5, other)):
            tried[place] = written(split(1.5, 2, "UA")).replace(b'"us":1500', b'"us":' + piece, 1)
        same(tried, patterns)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"name":"n"', b'"name":"m"'),
        (b'"name":"n"', b'"name" "n"'),
        (b'"shape":[1],"datatype":"INT64"', b'"shape":[2],"datatype":"INT64"'),
        (b'"datatype":"INT64"', b'"datatype":"BYTES"'),
        (b'"datatype":"INT64","data"', b'"data":"INT64","datatype"'),
    ],
)
def test_a_text_around_the_values_that_differs_is_seen(old: bytes, new: bytes) -> None:
    lines = some(tensors, 12)
    lines[5] = lines[5].replace(old, new, 1)
    assert same(lines, taught(tensors)) == 11


def test_two_heads_that_are_only_together_json_are_torn() -> None:
    lines = some(split, 12)
    members, bodies = lines[4].split(b',"request":')
    bodies = b',"request":' + bodies
    lines[4] = b'{"us":[{"x":1' + bodies
    lines[5] = b'{"y":1}],' + members[1:] + b',"error":""},' + members + bodies
    both = b"".join(line.split(b',"request":')[0] + b',"error":""},' for line in lines[4:6])
    assert len(orjson.loads(b"[" + both[:-1] + b"]")) == 2
    read, _ = together(lines, taught(split))
    assert (read.torn, read.rows) == (2, 10)


@given(st.data())
def test_broken_lines_among_others_mean_what_they_mean_alone(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([*MANY, *FORMS]))
    lines = some(form, data.draw(st.integers(many.FEWEST, 14)))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        line = lines[place][:-1]
        for _ in range(data.draw(st.integers(1, 3))):
            start = data.draw(st.integers(0, len(line)))
            end = min(start + data.draw(st.integers(0, 6)), len(line))
            piece = data.draw(BROKEN | st.sampled_from([line[start : start + 40]]))
            line = line[:start] + piece + line[end:]
        lines[place] = line.replace(b"\n", b"") + b"\n"
    same(lines, taught(form))


plain_values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=70) | st.sampled_from(["[redacted]", "]", ",", '"', "\\", "}"])
)  # fmt: skip


@given(st.sampled_from(MANY), st.lists(st.tuples(*[plain_values] * 3), min_size=8, max_size=12))
def test_all_values_are_what_they_are_alone(form: Form, values: list[tuple[Any, ...]]) -> None:
    same([written(form(*row)) for row in values], taught(form))


def test_all_lines_of_a_segment_but_the_first_are_read_together(tmp_path: Path) -> None:
    lines = some(tensors, 4000)
    path = tmp_path / "1.0.1-1.00000001.seg"
    path.write_bytes(b"".join(lines))
    dated(path, START_US)
    first = BytesIO(path.read_bytes()).readlines(segments.AT_ONCE_BYTES)
    parts = list(segments.parts(path, Patterns(KNOWN)))
    assert sum(part.rows for part in parts) == 4000
    grouped = sum(len(group.places) for part in parts for group in part.groups)
    assert (grouped, 8 * len(first) > 4000 > 2 * len(first)) == (4000 - len(first), True)
    found = contents.read(path, contents.About(1, 1, SIGNATURE))
    assert found.log["id"].to_pylist() == [json.loads(line)["id"] for line in lines]
    assert found.predictions["in.n"].to_pylist() == list(range(4000))
    assert found.predictions["in.carrier"].to_pylist() == [f"U{place}" for place in range(4000)]
