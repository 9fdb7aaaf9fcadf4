"""A payload is held to the signature; the words name the column."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from model_server.enforce import enforce
from model_server.errors import BadRequest
from model_server.mlmodel import Column
from model_server.payload import Named, Positional

LARGE = 2**63


def one(kind: str, *values: Any, required: bool = True) -> list[Any]:
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
