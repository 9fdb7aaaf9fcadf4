"""A payload is held to the signature; the words name the column."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from model_server.enforce import enforce
from model_server.errors import BadRequest
from model_server.inputs import Frame, Matrix, Reordered
from model_server.mlmodel import Column
from model_server.payload import Named, Payload, Positional

LARGE = 2**63


def one(kind: str, *values: Any, required: bool = True) -> Any:
    columns = (Column("c", kind, required),)
    return enforce(columns, Named({"c": list(values)}, len(values))).columns["c"]


@pytest.mark.parametrize(
    ("kind", "given", "found"),
    [
        ("double", [1, 2.5, None], [1, 2.5, None]),
        ("float", [None], [None]),
        ("long", [1, 3.0], [1, 3]),
        ("integer", [-(2**31)], [-(2**31)]),
        ("boolean", [True], [True]),
        ("string", [""], [""]),
        ("binary", ["aGk="], [b"hi"]),
        ("datetime", ["2013-07-01T05:00:00"], [dt.datetime(2013, 7, 1, 5)]),  # noqa: DTZ001
        ("datetime", ["2013-07-01T05:00:00Z"], [dt.datetime(2013, 7, 1, 5)]),  # noqa: DTZ001
        ("datetime", ["2013-07-01T05:00:00+02:00"], [dt.datetime(2013, 7, 1, 3)]),  # noqa: DTZ001
        ("any", [{"a": 1}], [{"a": 1}]),
    ],
)
def test_fitting_values_are_converted(kind: str, given: list[Any], found: list[Any]) -> None:
    assert one(kind, *given) == found


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("double", [1.0, "x"], "column 'c' must be double, got string 'x' in row 1"),
        ("double", [True], "column 'c' must be double, got boolean True in row 0"),
        ("double", [[1]], "column 'c' must be double, got array [1] in row 0"),
        ("long", [3.5], "column 'c' must be long, got double 3.5 in row 0"),
        ("long", [None], "column 'c' must be long, got null in row 0"),
        ("long", [True], "column 'c' must be long, got boolean True in row 0"),
        ("long", [LARGE], f"column 'c' must be long, {LARGE} in row 0 does not fit"),
        ("integer", [2**31], "column 'c' must be integer, 2147483648 in row 0 does not fit"),
        ("boolean", [1], "column 'c' must be boolean, got long 1 in row 0"),
        ("string", ["a", 3], "column 'c' must be string, got long 3 in row 1"),
        ("string", [None], "column 'c' must be string, got null in row 0"),
        ("binary", ["?"], "column 'c' must be binary in base64"),
        ("datetime", ["soon"], "column 'c' must be datetime, got string 'soon' in row 0"),
        ("datetime", [1372651200], "column 'c' must be datetime, got long 1372651200 in row 0"),
        (
            "datetime",
            ["9999-01-01"],
            "column 'c' must be datetime, got string '9999-01-01' in row 0",
        ),
    ],
)
def test_other_values_are_refused_by_name(kind: str, given: list[Any], words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        one(kind, *given)
    assert str(refused.value) == words


@pytest.mark.parametrize("kind", ["long", "string", "boolean", "datetime"])
def test_null_is_allowed_where_the_column_is_optional(kind: str) -> None:
    assert one(kind, None, required=False) == [None]


COLUMNS = (Column("a", "double", True), Column("b", "string", True), Column("o", "long", False))


def test_unknown_columns_are_ignored_but_counted_and_order_does_not_matter() -> None:
    found = enforce(COLUMNS, Named({"b": ["x"], "z": [9], "a": [1.0], "y": [8]}, 1))

    assert list(found.columns.items()) == [("a", [1.0]), ("b", ["x"]), ("o", [None])]
    assert found.unknown == 2


def test_a_missing_required_column_is_named() -> None:
    with pytest.raises(BadRequest, match=r"^column 'b' is missing$"):
        enforce(COLUMNS, Named({"a": [1.0]}, 1))


def test_rows_without_names_follow_the_signature() -> None:
    found = enforce(COLUMNS, Positional([[1.0, "x", 2], [3, "y", 4]]))

    assert found.columns == {"a": [1.0, 3], "b": ["x", "y"], "o": [2, 4]}


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^row 1 must be a list of 3 values"):
        enforce(COLUMNS, Positional([[1.0, "x", 2], [3, "y"]]))


def test_no_rows_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"^the request has no rows$"):
        enforce(COLUMNS, Named({"a": [], "b": [], "o": []}, 0))


def array(kind: str, values: Any, dtype: str) -> Any:
    columns = (Column("c", kind, True),)
    given = np.array(values, dtype=dtype)
    return enforce(columns, Named({"c": given}, len(values))).columns["c"], given


@pytest.mark.parametrize(
    ("kind", "dtype", "values"),
    [
        ("double", "f8", [1.5, np.nan]),
        ("double", "i4", [1, 2]),
        ("float", "f2", [0.5]),
        ("long", "i8", [-(2**63), 2**63 - 1]),
        ("long", "u8", [2**63 - 1]),
        ("integer", "i1", [-128]),
        ("boolean", "?", [True, False]),
    ],
)
def test_arrays_are_taken_by_their_type(kind: str, dtype: str, values: list[Any]) -> None:
    found, given = array(kind, values, dtype)

    assert found is given


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "words"),
    [
        ("long", "u8", [1, 2**63], f"column 'c' must be long, {2**63} in row 1 does not fit"),
        ("integer", "i8", [2**31], "column 'c' must be integer, 2147483648 in row 0 does not fit"),
        ("long", "f8", [2.0, 2.5], "column 'c' must be long, got double 2.5 in row 1"),
        ("boolean", "i8", [1], "column 'c' must be boolean, got long 1 in row 0"),
        ("double", "?", [True], "column 'c' must be double, got boolean True in row 0"),
        ("string", "f8", [1.5], "column 'c' must be string, got double 1.5 in row 0"),
    ],
)
def test_arrays_of_another_type_are_refused_as_lists_are(
    kind: str, dtype: str, values: list[Any], words: str
) -> None:
    for column in (values, np.array(values, dtype=dtype)):
        with pytest.raises(BadRequest) as refused:
            enforce((Column("c", kind, True),), Named({"c": column}, len(values)))
        assert str(refused.value) == words


def test_whole_numbers_in_an_array_of_doubles_are_integers() -> None:
    assert array("long", [3.0, -1.0], "f8")[0] == [3, -1]


def test_the_columns_of_a_matrix_are_taken_by_position() -> None:
    columns = (Column("a", "double", True), Column("b", "float", True))

    found = enforce(columns, Positional(np.array([[1.0, 2.0], [3.0, 4.0]])))

    assert {name: column.tolist() for name, column in found.columns.items()} == {
        "a": [1.0, 3.0],
        "b": [2.0, 4.0],
    }
    words = "row 0 must be a list of 2 values in the signature's order or an object, got [1.0]"
    with pytest.raises(BadRequest) as refused:
        enforce(columns, Positional(np.array([[1.0]])))
    assert str(refused.value) == words


MIXED = (Column("a", "double", True), Column("b", "long", False), Column("c", "boolean", True))


def test_arrays_beside_lists_become_one_array_or_a_table() -> None:
    given = {"a": np.array([1.5, 2.5], "f4"), "b": [None, 7], "c": np.array([True, False])}

    checked = enforce(MIXED, Named(given, 2))

    np.testing.assert_array_equal(
        Matrix(MIXED, np.float64).build(checked), [[1.5, np.nan, 1.0], [2.5, 7.0, 0.0]]
    )
    table = Frame(MIXED).build(checked)
    assert [str(kind) for kind in table.dtypes] == ["float64", "float64", "bool"]
    swapped = Reordered(["c", "a", "b"], Matrix((MIXED[2], *MIXED[:2]), np.float64))
    assert swapped.build(checked)[1].tolist() == [0.0, 2.5, 7.0]


FLOATS = (Column("a", "double", True), Column("b", "float", False))
VALUES = st.none() | st.floats(-9, 9) | st.integers(-9, 9) | st.booleans() | st.text(max_size=1)
ROWS = st.lists(st.lists(VALUES, min_size=1, max_size=3) | VALUES, max_size=3)
TABLES = st.integers(0, 3).flatmap(
    lambda rows: st.dictionaries(
        st.sampled_from("abc"), st.lists(VALUES, min_size=rows, max_size=rows)
    ).map(lambda columns: Named(columns, rows))
)


@drawn(ROWS.map(Positional) | TABLES)
def test_what_is_built_at_once_is_what_a_closer_look_builds(payload: Payload) -> None:
    matrix = Matrix(FLOATS, np.float64)

    found = matrix.at_once(payload)

    if found is not None:
        slowly = matrix.build(enforce(FLOATS, payload))
        assert (found.dtype, found.tobytes()) == (slowly.dtype, slowly.tobytes())
        assert found.flags.c_contiguous


@pytest.mark.parametrize(
    "payload",
    [
        Named({"b": [2], "a": [0.1]}, 1),
        Positional([[0.1, 2]]),
        Positional([[0.1, 2], [None, 0.1]]),
        Positional(np.array([[0.1, 2.0]], "f4")),
        Positional(np.array([[1, 2]], "u1")),
    ],
)
def test_plain_numbers_are_built_at_once(payload: Payload) -> None:
    found = Matrix(FLOATS, np.float64).at_once(payload)

    assert found is not None
    assert found.shape[1] == 2
    assert found[:, 1].tolist() == found[:, 1].astype(np.float32).tolist()


@pytest.mark.parametrize(
    "payload",
    [
        Named({"a": [0.1], "b": [2], "c": [3]}, 1),
        Named({"a": [0.1]}, 1),
        Named({"a": [0.1], "b": ["2"]}, 1),
        Named({"a": [0.1], "b": np.array([2.0])}, 1),
        Positional([[0.1, True]]),
        Positional([[0.1]]),
        Positional([]),
        Positional(np.array([[True, False]])),
        Positional(np.empty((0, 2))),
        Positional(np.array([1.0, 2.0])),
    ],
)
def test_what_needs_a_closer_look_is_not_built_at_once(payload: Payload) -> None:
    assert Matrix(FLOATS, np.float64).at_once(payload) is None
    assert Matrix(MIXED, np.float64).at_once(Positional([[0.1, 2, 1]])) is None
