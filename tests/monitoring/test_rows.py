"""Captured bodies become rows of typed columns, whatever a caller sent."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.monitoring import extract, parquet, segments, shapes
from apps.monitoring.collector import Collector
from apps.monitoring.extract import TEXT_BYTES, Requests
from apps.monitoring.lines import Line
from apps.monitoring.models import RowFile
from apps.monitoring.patterns import Patterns
from apps.monitoring.rows import FIXED
from apps.serving.models import Endpoint
from tests.monitoring.making import START_US, record, segment, written

SIGNATURE = {
    "inputs": [
        {"name": "x", "type": "double"},
        {"name": "n", "type": "long"},
        {"name": "late", "type": "boolean"},
        {"name": "carrier", "type": "string"},
    ],
    "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}],
}
X = {"inputs": [{"name": "x", "type": "double"}]}


def rows(*records: dict[str, Any], signature: dict[str, Any] | None = None) -> pa.Table:
    """The rows of records; they are the same where patterns of earlier ones read them."""
    known = shapes.plan(signature or {})
    made = extract.joined([extract.rows_of(_requests(*records), known).table])
    lines = list(map(written, records))
    for patterns in (None, Patterns(known)):
        for _ in range(2):  # the second time by what the first has taught
            read = segments.Segment()
            for one in lines:
                segments._take(one, read, START_US, True, patterns)
            assert (read.torn, read.rows) == (0, len(records))
            assert extract.joined([extract.rows_of(_of(read), known).table]).equals(made)
    return made


def _requests(*records: dict[str, Any]) -> Requests:
    read = segments.Segment()
    for one in records:
        segments._keep(Line(one), read, whole=True)
    return _of(read)


def _of(read: segments.Segment) -> Requests:
    log = pa.Table.from_batches([parquet.batch(read, revision=7, version=3)])
    return Requests(log, [texts[0] for texts in read.texts], read.status, read.bodies)


def asked(form: str, request: object, response: object = None, **more: Any) -> dict[str, Any]:
    return record(START_US, format=form, request=request, response=response, **more)


def split(names: list[str], *data: object, **more: Any) -> dict[str, Any]:
    return asked("mlflow", {"dataframe_split": {"columns": names, "data": list(data)}}, **more)


def tensor(name: str, shape: list[int], data: object, kind: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": kind, "data": data}


def v2(*inputs: dict[str, Any], outputs: object = None, **more: Any) -> dict[str, Any]:
    return asked("v2", {"inputs": list(inputs)}, {"outputs": outputs}, **more)


def column(table: pa.Table, name: str) -> list[Any]:
    found: list[Any] = table[name].to_pylist()
    return found


def test_a_row_has_what_its_request_has() -> None:
    made = rows(
        split(["x"], [1.5], [2], id="a", status=200, us=9, shadow=True, share=0.5, caller="me"),
        signature=X,
    )
    assert made.column_names == [*FIXED.names, "in.x"]
    assert made.schema.field("in.x").type == pa.float64()
    first, second = made.to_pylist()
    assert first | {"at": None} == {
        "id": "a", "row": 0, "at": None, "revision": 7, "version": 3, "status": 200,
        "latency_us": 9, "shadow": True, "share": 0.5, "caller": "me",
        "absent": None, "wrong": None, "extra": None, "redacted": None, "in.x": 1.5,
    }  # fmt: skip
    assert (second["id"], second["row"], second["in.x"]) == ("a", 1, 2.0)
    assert made["at"].cast(pa.int64()).to_pylist() == [START_US, START_US]


FORMS = [
    split(["x", "n"], [1.5, 2], [None, 3]),
    asked("mlflow", {"dataframe_records": [{"x": 1.5, "n": 2}, {"x": None, "n": 3}]}),
    asked("mlflow", {"dataframe_records": [{"x": 1.5, "n": 2}, {"n": 3}]}),
    asked("mlflow", {"inputs": {"x": [1.5, None], "n": [2, 3]}}),
    asked("mlflow", {"instances": [[1.5, 2], [None, 3]]}),
    asked("mlflow", {"inputs": [[1.5, 2], [None, 3]]}),
    asked("v1", {"instances": [{"n": 2, "x": 1.5}, {"n": 3, "x": None}]}),
    asked("v1", {"instances": [[1.5, 2], [None, 3]]}),
    v2(tensor("x", [2], [1.5, None]), tensor("n", [2], [2, 3], "INT64")),
    v2(tensor("x", [2, 1], [1.5, None]), tensor("n", [2, 1], [2, 3], "INT64")),
    v2(tensor("x", [2, 1], [[1.5], [None]]), tensor("n", [2, 1], [[2], [3]], "INT64")),
    v2(tensor("input", [2, 2], [1.5, 2, None, 3])),
    v2(tensor("input", [2, 2], [[1.5, 2], [None, 3]])),
]


@pytest.mark.parametrize("one", FORMS, ids=range(len(FORMS)))
def test_every_form_of_every_protocol_gives_the_same_rows(one: dict[str, Any]) -> None:
    signature = {"inputs": [{"name": "x", "type": "double"}, {"name": "n", "type": "long"}]}
    made = rows(one, one, signature=signature)
    assert column(made, "in.x") == [1.5, None, 1.5, None]
    assert column(made, "in.n") == [2.0, 3.0, 2.0, 3.0]
    assert column(made, "row") == [0, 1, 0, 1]
    assert column(made, "absent") == [None] * 4


def test_types_are_the_signatures() -> None:
    names = ["x", "n", "late", "carrier"]
    made = rows(
        split(names, [1, 2, True, "UA"], [0.5, 3.0, None, None]),
        split(names, ["1", True, 1, 7], [[1], {"a": 1}, "yes", True]),
        split(names, [2**53 + 1, -(2**60), False, "é"]),
        signature=SIGNATURE,
    )
    assert [str(kind) for kind in made.schema.types[-4:]] == ["double", "double", "bool", "string"]
    assert column(made, "in.x") == [1.0, 0.5, None, None, float(2**53 + 1)]
    assert column(made, "in.n") == [2.0, 3.0, None, None, float(-(2**60))]
    assert column(made, "in.late") == [True, None, None, None, False]
    assert column(made, "in.carrier") == ["UA", None, None, None, "é"]
    assert column(made, "wrong") == [None, None, names, names, None]


def test_what_is_missing_or_unknown_is_named() -> None:
    made = rows(
        split(["carrier", "day", "x"], ["UA", 5, 1.5], id="a"),
        split(["x", "n", "late", "carrier"], [1, 1, True, "B"], id="b"),
        signature=SIGNATURE,
    )
    assert column(made, "absent") == [["late", "n"], None]
    assert column(made, "extra") == [["day"], None]
    assert column(made, "in.n") == [None, 1.0]
    assert "in.day" not in made.column_names


def test_the_order_is_that_of_the_requests() -> None:
    shapes_of = [["x"], ["x", "y"], ["x"], ["y", "x"], ["x"]]
    made = rows(
        *(split(names, [n] * len(names), [n] * len(names)) for n, names in enumerate(shapes_of)),
        signature=X,
    )
    assert column(made, "in.x") == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert column(made, "row") == [0, 1] * 5


UNREADABLE: list[Any] = [
    {"raw": "not json"},
    "[redacted]",
    None,
    [],
    {},
    {"dataframe_split": {"columns": ["x"], "data": "[redacted]"}},
    {"dataframe_split": {"columns": ["x"], "data": [[1, 2]]}},
    {"dataframe_split": {"columns": ["x"], "data": []}},
    {"dataframe_split": "[redacted]"},
    {"dataframe_records": [1, {"x": 1}]},
    {"dataframe_records": {}},
    {"instances": []},
    {"instances": [[1], [1, 2]]},
    {"instances": [[1], 2]},
    {"inputs": {"x": [1, 2], "y": [1]}},
    {"inputs": {}},
]
UNREADABLE_TENSORS = [
    {"inputs": [{"name": "x"}]},
    {"inputs": ["[redacted]"]},
    {"inputs": [tensor("x", [2], [1])]},
    {"inputs": [tensor("x", [0], [])]},
    {"inputs": [tensor("x", [], 1)]},
    {"inputs": [tensor("x", [1], "[redacted]"), tensor("y", [1], [1])]},
    {"inputs": [tensor("x", [1], [1]), tensor("x", [1], [1])]},
    {"inputs": [{"name": "x", "shape": [9], "datatype": "FP64"}], "omitted_bytes": 72},
    {"inputs": {"x": [1]}},
]


@pytest.mark.parametrize(
    "one",
    [asked("mlflow", body) for body in UNREADABLE]
    + [asked("v1", body) for body in UNREADABLE]
    + [asked("v2", body) for body in UNREADABLE_TENSORS + UNREADABLE],
)
def test_what_cannot_be_read_as_rows_is_one_line(one: dict[str, Any]) -> None:
    good = split(["x"], [1.5], [2.5])
    made = rows(good, one, good, signature=X)
    assert column(made, "row") == [0, 1, -1, 0, 1]
    assert column(made, "in.x") == [1.5, 2.5, None, 1.5, 2.5]
    assert column(made, "absent") == [None] * 5


OUTPUTS = [
    ("v2", {"outputs": [tensor("predict", [2, 2], [0.1, 0.9, 0.2, 0.8])]}),
    ("v2", {"outputs": [tensor("b", [2], [0.9, 0.8]), tensor("a", [2], [0.1, 0.2])]}),
    ("v1", {"predictions": [[0.1, 0.9], [0.2, 0.8]]}),
    ("mlflow", {"predictions": [{"b": 0.9, "a": 0.1}, {"b": 0.8, "a": 0.2}]}),
    ("mlflow", {"predictions": {"b": [0.9, 0.8], "a": [0.1, 0.2]}}),
]


@pytest.mark.parametrize(("form", "response"), OUTPUTS)
def test_outputs_stand_in_the_signatures_order(form: str, response: object) -> None:
    signature = X | {"outputs": [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]}
    request = {
        "v2": {"inputs": [tensor("x", [2], [1, 2])]},
        "v1": {"instances": [[1], [2]]},
        "mlflow": {"inputs": {"x": [1, 2]}},
    }[form]
    made = rows(asked(form, request, response), signature=signature)
    assert column(made, "out.0") == [0.1, 0.2]
    assert column(made, "out.1") == [0.9, 0.8]


def test_outputs_of_one_value_a_row_or_of_none() -> None:
    def one(response: object, **more: Any) -> dict[str, Any]:
        return split(["x"], [1], [2], response=response, **more)

    made = rows(
        one({"predictions": ["late", "on time"]}),
        one({"predictions": [1]}),  # of other rows than were asked
        one({"predictions": ["no", "no"]}, status=400),
        one({"error": "no"}, status=500),
        one(None),
        one("[redacted]"),
        signature=X,
    )
    assert column(made, "out.0") == ["late", "on time", *[None] * 10]
    assert column(made, "in.x") == [1.0, 2.0] * 6
    assert [name for name in made.column_names if name.startswith("out.")] == ["out.0"]


def test_without_a_signature_the_values_tell_the_types() -> None:
    made = rows(
        split(["a", "b", "c", "d", "e"], [1, True, "x", [1], None], [2.5, False, "y", 2, None]),
        split(["f"], [7]),
    )
    assert column(made, "in.a") == [1.0, 2.5, None]
    assert column(made, "in.b") == [True, False, None]
    assert column(made, "in.c") == ["x", "y", None]
    assert column(made, "in.d") == ["[1]", "2", None]
    assert column(made, "in.e") == [None] * 3
    assert made.schema.field("in.e").type == pa.float64()
    assert column(made, "in.f") == [None, None, 7.0]
    assert column(made, "absent") == column(made, "extra") == [None] * 3


def test_rows_of_parts_that_differ_are_put_together() -> None:
    one = extract.rows_of(_requests(split(["a", "b"], [1, 2])), shapes.plan({})).table
    two = extract.rows_of(_requests(split(["a", "c"], ["x", None])), shapes.plan({})).table
    made = extract.joined([one, two])
    assert column(made, "in.a") == ["1", "x"]
    assert column(made, "in.b") == [2.0, None]
    assert column(made, "in.c") == [None, None]


def test_redacted_values_are_nothing_and_not_wrong() -> None:
    made = rows(
        split(["x", "carrier"], ["[redacted]", "[redacted]"], [1.5, "UA"]), signature=SIGNATURE
    )
    assert column(made, "in.x") == [None, 1.5]
    assert column(made, "in.carrier") == [None, "UA"]
    assert column(made, "wrong") == [None, None]
    assert column(made, "redacted") == [["in.x", "in.carrier"], None]


def test_nulls_that_stand_for_what_a_policy_hides_are_redacted() -> None:
    signature = SIGNATURE | {"outputs": [{"name": "a"}, {"name": "b"}]}
    known = shapes.plan(signature, ["x", "b"])
    sent = [
        v2(tensor("x", [2], [None, None]), tensor("n", [2], [None, 1]),
           outputs=[tensor("a", [2], [0.5, None]), tensor("b", [2], [None, None])]),
        v2(tensor("n", [1], [1])),
        v2(),
    ]  # fmt: skip
    made = extract.rows_of(_requests(*sent), known).table
    assert column(made, "redacted") == [["in.x", "out.1"]] * 2 + [["out.1"], None]
    assert column(made, "absent")[2] == ["carrier", "late", "x"]


def test_a_policy_hides_the_columns_of_a_tensor() -> None:
    signature = {
        "inputs": [
            {"name": "a", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}},
            {"name": "b", "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}},
        ]
    }
    assert shapes.plan(signature, ["b"]).hidden == {"in.b.0", "in.b.1"}
    assert shapes.plan({}, ["b"]).hidden == {"in.b"}


LARGE = [
    asked("mlflow", {"dataframe_split": {"columns": ["x"], "data": [[n] for n in range(25)]}},
          {"predictions": list(range(25))}),
    asked("mlflow", {"inputs": {"x": list(range(25))}}, {"predictions": [[n] for n in range(25)]}),
    v2(tensor("input", [25, 1], list(range(25))), outputs=[tensor("p", [25], list(range(25)))]),
    asked("v1", {"instances": list(range(25))}, {"predictions": list(range(25))}),
]  # fmt: skip


@pytest.mark.parametrize("large", LARGE, ids=range(len(LARGE)))
def test_of_a_large_request_rows_are_kept_that_are_spread_evenly(
    large: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "MOST_ROWS", 10)
    small = split(["x"], *([n] for n in range(10)), response={"predictions": list(range(10))})
    found = extract.rows_of(_requests(small, large, small), shapes.plan(X))
    assert found.left_out == 15
    kept = [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    assert column(found.table, "row") == [*range(10), *kept, *range(10)]
    assert column(found.table, "in.x") == [*range(10), *kept, *range(10)]
    assert column(found.table, "out.0") == [*range(10), *kept, *range(10)]
    assert column(found.table, "share") == [1.0] * 30


def test_requests_of_many_empty_cells_have_room_for_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MOST_ROOM", 60)
    zeros = asked("v1", {"instances": [0] * 10})  # of one input, where four are known
    found = extract.rows_of(_requests(zeros, zeros, zeros), shapes.plan(SIGNATURE))
    assert column(found.table, "row") == [*range(10), 0, 2, 4, 6, 8, 0]
    assert found.left_out == 5 + 9


def test_objects_of_one_name_or_another_are_thinned_before_they_are_turned_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extract, "MOST_ROOM", 100)
    first = {f"c{n}": n for n in range(50)}
    body = {"dataframe_records": [first, {}, {"c7": 1}, {}]}
    found = extract.rows_of(_requests(asked("mlflow", body)), shapes.plan({}))
    assert column(found.table, "row") == [0, 2]
    assert column(found.table, "in.c7") == [7, 1]
    assert column(found.table, "in.c8") == [8, None]
    assert found.left_out == 2


def test_answers_of_one_name_or_another_are_read_unless_they_are_mostly_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = {"predictions": [{"a": 1}, {"b": 2}]}
    one = asked("mlflow", {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}, answer)
    made = rows(one, signature=X)
    assert (column(made, "out.0"), column(made, "out.1")) == ([1, None], [None, 2])
    monkeypatch.setattr(shapes, "MOST_TURNED", 3)
    assert "out.0" not in rows(one, signature=X).column_names


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": [tensor("a", [100, *[1] * 32], [0] * 100)]},
        {"inputs": [tensor("a", [1, 2001], [0] * 2001), tensor("b", [1], [0])]},
    ],
    ids=["dimensions", "columns"],
)
def test_tensors_that_no_server_takes_are_no_rows(body: dict[str, Any]) -> None:
    made = rows(asked("v2", body, status=400))
    assert column(made, "row") == [-1]


def test_of_a_wide_row_the_first_columns_are_read() -> None:
    made = rows(asked("v1", {"instances": [list(range(2500))]}))
    assert made.column_names[-1] == "in.1999"
    assert column(made, "in.1999") == [1999]


def test_words_for_numbers_that_are_none_are_of_the_wrong_type() -> None:
    made = rows(split(["x"], ["NaN"], ["Infinity"], ["-Infinity"], [1e308]), signature=X)
    assert column(made, "in.x") == [None, None, None, 1e308]
    assert column(made, "wrong") == [["x"], ["x"], ["x"], None]


def test_a_long_text_is_cut() -> None:
    signature = {"inputs": [{"name": "text", "type": "string"}]}
    made = rows(split(["text"], ["é" * 1_000_000], ["short"]), signature=signature)
    assert column(made, "in.text") == ["é" * (TEXT_BYTES // 2), "short"]


def test_a_tensor_without_names_has_places() -> None:
    signature = {"inputs": [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]}  # fmt: skip  # noqa: E501
    made = rows(
        v2(tensor("input", [1, 2], [1.5, 2.5])),
        asked("v1", {"instances": [[1.5, 2.5]]}),
        split(["one", "other"], [1.5, 2.5]),
        signature=signature,
    )
    assert column(made, "in.0") == [1.5] * 3
    assert column(made, "in.1") == [2.5] * 3
    assert column(made, "extra") == [None] * 3


def test_named_tensors_have_a_column_a_place() -> None:
    signature = {
        "inputs": [
            {"name": "a", "type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}},
            {"name": "b", "type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}},
        ]
    }
    made = rows(
        v2(tensor("a", [2], [1, 2]), tensor("b", [2, 2], [3, 4, 5, 6])),
        asked("mlflow", {"inputs": {"a": [1, 2], "b": [[3, 4], [5, 6]]}}),
        signature=signature,
    )
    assert column(made, "in.a") == [1.0, 2.0] * 2
    assert column(made, "in.b.0") == [3.0, 5.0] * 2
    assert column(made, "in.b.1") == [4.0, 6.0] * 2
    assert column(made, "absent") == [None] * 4


def test_names_without_end_make_no_columns_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MOST_CELLS", 20)
    made = rows(*(split([f"c{n}"], [n]) for n in range(10)))
    assert made.column_names[-2:] == ["in.c0", "in.c1"]
    assert column(made, "extra") == [None, None, *([f"c{n}"] for n in range(2, 10))]


def test_many_requests_of_two_shapes_are_exact() -> None:
    records = [
        split(["x", "carrier"], *([n + row, f"{n}"] for row in range(n % 3 + 1)))
        if n % 2
        else v2(tensor("carrier", [1], [f"{n}"], "BYTES"), tensor("x", [1], [n]))
        for n in range(300)
    ]
    made = rows(*records, signature=SIGNATURE)
    expected = [
        (n + row, f"{n}", row) for n in range(300) for row in range(n % 3 + 1 if n % 2 else 1)
    ]
    seen = zip(*(column(made, name) for name in ("in.x", "in.carrier", "row")), strict=True)
    assert list(seen) == expected


@pytest.mark.django_db
def test_a_file_of_rows_stands_beside_each_file_of_the_log(
    endpoint: Endpoint, now: datetime, var: Path
) -> None:
    one, two = endpoint.revisions.order_by("number")
    one.build.signature = X
    one.build.save()
    segment(one.pk, [split(["x"], [2], [3], id="b") | {"ts": START_US + 5}])
    segment(one.pk, [split(["x"], [1], id="a"), split(["x"], [4], id="c") | {"ts": START_US - 1}])
    segment(two.pk, [split(["y"], ["z"], id="d")])
    works = Collector(now=lambda: now)
    works.tick()
    Collector(now=lambda: now + timedelta(seconds=60)).tick()
    found = RowFile.objects.order_by("log_file__day", "revision_id")
    before, file, other = found
    assert [(each.log_file.day.day, each.revision_id, each.rows) for each in found] == [
        (31, one.pk, 1),
        (1, one.pk, 3),
        (1, two.pk, 1),
    ]
    path = var / "rows" / file.path
    assert file.path.startswith("endpoint=production.flights/day=2030-01-01/")
    assert file.size_bytes == path.stat().st_size
    table = pq.ParquetFile(path).read()
    assert table["id"].to_pylist() == ["a", "b", "b"]
    assert table["in.x"].to_pylist() == [1.0, 2.0, 3.0]
    assert (file.first_at, file.last_at) == (table["at"][0].as_py(), table["at"][2].as_py())
    assert pq.ParquetFile(var / "rows" / before.path).read()["in.x"].to_pylist() == [4]
    assert pq.ParquetFile(var / "rows" / other.path).read()["in.y"].to_pylist() == ["z"]
