import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.baselines.layout import (
    COUNTERS,
    SCORE,
    Column,
    Kind,
    Layout,
    Role,
    fit,
    pack64,
    score_bins,
    unpack64,
)  # fmt: skip
from apps.baselines.meaning import Form, Meaning, Task

NAN, INF = float("nan"), float("inf")
BINARY = Meaning(Task.BINARY, Form.SCORE, ("0", "1"), 1)
NUMBERS = Column(
    "in.x", Role.INPUT, Kind.NUMERIC, edges=(1.0, 2.0, 4.0), low=0.5, high=9.0
)  # bins: <1, 1..2, 2..4, >=4
FEW = Column("in.x", Role.INPUT, Kind.DISCRETE, values=(0.0, 1.0, 3.0), low=0.0, high=3.0)
WORDS = Column("in.x", Role.INPUT, Kind.CATEGORICAL, values=("JFK", "LGA"))


def rows(values: Any, **fixed: Any) -> pa.Table:
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return pa.table({"in.x": column, **fixed})


def counted(column: Column, table: pa.Table) -> tuple[list[int], dict[str, int]]:
    """The bins, and the counters that are not 0."""
    [counts] = Layout((column,)).count(table).tolist()
    counters = dict(zip(COUNTERS, counts[column.bins :], strict=True))
    return counts[: column.bins], {name: count for name, count in counters.items() if count}


def fitted(values: Any) -> Column:
    [column] = fit(rows(values), {"in.x": Role.INPUT}, None).columns
    return column


@pytest.mark.parametrize(
    ("column", "values", "bins", "counters"),
    [
        (NUMBERS, [0.5, 1.0, 1.5, 2.0, 4.0, 9.0], [1, 2, 1, 2], {}),
        (NUMBERS, [0.25, 9.5, 1e300], [1, 0, 0, 2], {"below": 1, "above": 2}),
        (NUMBERS, [NAN, INF, -INF, 1.0], [0, 1, 0, 0], {"non_finite": 3}),
        (NUMBERS, [None, 1.0], [0, 1, 0, 0], {"missing": 1}),
        (NUMBERS, [1, 3, None], [0, 1, 1, 0], {"missing": 1}),
        (NUMBERS, [2**60 + 1], [0, 0, 0, 1], {"above": 1}),
        (NUMBERS, [True, False], [1, 1, 0, 0], {"below": 1}),
        (NUMBERS, ["1.5", None], [0, 0, 0, 0], {"wrong": 1, "missing": 1}),
        (NUMBERS, [[1.0], None], [0, 0, 0, 0], {"wrong": 1, "missing": 1}),
        (NUMBERS, [None, None], [0, 0, 0, 0], {"missing": 2}),
        (FEW, [0.0, -0.0, 1.0, 3.0, 2.0, 5.0], [2, 1, 1, 0, 2], {"above": 1}),
        (FEW, [NAN, None, 1.0], [0, 1, 0, 0, 0], {"non_finite": 1, "missing": 1}),
        (WORDS, ["JFK", "LGA", "JFK", "EWR", None], [2, 1, 0, 1], {"missing": 1}),
        (WORDS, [1.0, None], [0, 0, 0, 0], {"wrong": 1, "missing": 1}),
        (WORDS, [True], [0, 0, 0, 1], {}),
        (WORDS, [None, None], [0, 0, 0, 0], {"missing": 2}),
        (Column("in.x", Role.INPUT, Kind.EMPTY), [None, 1.0], [1], {"missing": 1}),
        (Column("in.x", Role.INPUT, Kind.EMPTY), ["a", None], [1], {"missing": 1}),
        (Column("in.x", Role.INPUT, Kind.NUMERIC), [1.0, None], [1], {"missing": 1}),
        (Column("in.y", Role.INPUT, Kind.NUMERIC), [1.0, None], [0], {"absent": 2}),
    ],
)
def test_where_values_are_counted(
    column: Column, values: list[Any], bins: list[int], counters: dict[str, int]
) -> None:
    assert counted(column, rows(values)) == (bins, counters)


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["JFK", "EWR", None]).dictionary_encode(),
        pa.array(["JFK", "EWR", None], pa.large_string()),
        pa.array(["JFK", "EWR", None], pa.string_view()),
        pa.chunked_array([["JFK"], ["EWR", None]]),
        pa.chunked_array([pa.array(["JFK"]), pa.array([], pa.string()), pa.array(["EWR", None])]),
        pa.array([None, "JFK", "EWR", None]).slice(1),
    ],
)
def test_texts_are_counted_in_whatever_form_arrow_holds_them(values: Any) -> None:
    assert counted(WORDS, rows(values)) == ([1, 0, 0, 1], {"missing": 1})


def test_bytes_that_are_no_text_are_counted_too() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
    )
    assert counted(WORDS, rows(broken)) == ([0, 0, 0, 1], {})


def test_known_categories_without_a_bin_of_their_own_are_other() -> None:
    values = [f"{place:03}" for place in range(60) for _ in range(2)]
    column = fitted(values)
    assert column.values == tuple(f"{place:03}" for place in range(49))
    assert counted(column, rows([*values, "new", "058"])) == ([2] * 49 + [23, 1], {})


def test_only_rows_answered_have_values_and_refused_ones_tell_why() -> None:
    table = rows(
        [1.0, None, None, None, None, 5.0, 5.0],
        status=[200, 422, 422, 201, 200, 503, 200],
        row=[0, 0, 0, 0, 0, 0, -1],
        absent=[None, ["x"], None, ["x", "x"], [], None, ["x"]],
        wrong=[None, None, ["x", "other"], None, None, None, None],
    )
    assert counted(NUMBERS, table) == ([0, 1, 0, 0], {"absent": 2, "wrong": 1, "missing": 1})


def test_a_redacted_value_is_counted_as_nothing() -> None:
    lists = pa.list_(pa.string())
    told = pa.array([["in.x"], None, ["in.x", "out.0"], ["in.y"], None], lists)
    wrong = pa.array([None, None, None, None, ["x"]], lists)
    table = rows([None, 1.5, None, None, None], redacted=told, wrong=wrong)
    assert counted(NUMBERS, table) == ([0, 1, 0, 0], {"missing": 1, "wrong": 1})


def test_a_score_of_redacted_outputs_is_not_missing() -> None:
    told = pa.array([["out.0"], None, None], pa.list_(pa.string()))
    table = pa.table({"out.0": [None, None, 0.25], "redacted": told})
    score = Column(SCORE, Role.OUTPUT, Kind.SCORE)
    [counts] = Layout((score,), BINARY).count(table).tolist()
    assert counts[score.bins :] == [1, 0, 0, 0, 0, 0]
    assert sum(counts) == 2


def test_a_column_that_no_request_had_is_absent_in_all_that_could_be_read() -> None:
    layout = Layout(
        (
            Column("in.gone", Role.INPUT, Kind.NUMERIC),
            Column("out.0", Role.OUTPUT, Kind.NUMERIC),
        )
    )
    table = rows([1.0] * 3, status=[200, 422, 422], row=[0, 0, -1], absent=[["gone"]] * 3)
    counts = dict(zip(layout.slices, layout.count(table)[0].reshape(2, 7).tolist(), strict=True))
    assert counts == {"in.gone": [0, 0, 2, 0, 0, 0, 0], "out.0": [0, 0, 1, 0, 0, 0, 0]}


def test_groups_are_counted_apart_and_those_below_zero_not_at_all() -> None:
    layout = Layout((NUMBERS, Column("in.y", Role.INPUT, Kind.CATEGORICAL, values=("a",))))
    table = pa.table(
        {
            "in.x": [0.5, 1.0, None, 3.0, 1e9, NAN],
            "in.y": ["a", "b", None, "a", "a", "a"],
            "status": [200, 200, 200, 200, 200, 400],
        }
    )
    counts = layout.count(table, np.array([2, 0, 0, -1, 2, 0]), 3)
    assert counts.tolist() == [
        [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0],
        [0] * 19,
        [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_no_rows_are_no_counts() -> None:
    assert counted(NUMBERS, rows(pa.array([], pa.float64()))) == ([0, 0, 0, 0], {})
    assert Layout(()).count(rows([1.0])).shape == (1, 0)


def test_quantiles_are_edges() -> None:
    column = fitted(np.arange(1000.0))
    assert column.edges == tuple(float(50 * place) for place in range(1, 20))
    assert (column.kind, column.low, column.high) == (Kind.NUMERIC, 0.0, 999.0)
    assert counted(column, rows(np.arange(1000.0))) == ([50] * 20, {})


def test_a_frequent_value_has_a_bin_of_its_own() -> None:
    values = np.concatenate([np.zeros(300), np.arange(1, 701)])
    column = fitted(values)
    zero = column.edges.index(0.0)
    assert column.edges[zero + 1] == np.nextafter(0.0, 1)
    bins, _ = counted(column, rows(values))
    assert bins[zero + 1] == 300
    assert column.labels()[zero + 1] == "0"
    assert column.labels()[0] == "below 0"


def test_few_different_numbers_have_a_bin_each() -> None:
    column = fitted([0, 1, 1, 2, None] * 20)
    assert (column.kind, column.values) == (Kind.DISCRETE, (0.0, 1.0, 2.0))
    assert column.labels() == ["0", "1", "2", "other", "unseen"]


def test_few_rows_of_different_numbers_are_no_list_of_all_that_there_are() -> None:
    assert fitted([0.5, 1.5, 2.5]).kind is Kind.NUMERIC


def test_a_constant_column_tells_what_is_another_value() -> None:
    assert counted(fitted([7.0] * 10), rows([7.0, 8.0])) == ([1, 0, 1], {"above": 1})
    assert counted(fitted([7.0] * 3), rows([7.0, 8.0])) == ([0, 1, 1], {"above": 1})


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.nulls(3), Kind.EMPTY),
        (pa.array([None, None], pa.float64()), Kind.NUMERIC),
        (pa.array([NAN, INF]), Kind.NUMERIC),
        (pa.array([None], pa.string()), Kind.CATEGORICAL),
        (pa.array([], pa.int64()), Kind.NUMERIC),
    ],
)
def test_a_column_without_values_can_be_frozen(values: pa.Array, kind: Kind) -> None:
    column = fitted(values)
    assert (column.kind, column.low, column.high) == (kind, None, None)


def test_one_enormous_value_moves_no_edge() -> None:
    calm, wild = np.arange(1000.0), np.append(np.arange(999.0), 1e300)
    assert fitted(wild).edges == fitted(calm).edges
    assert fitted([1.7976931348623157e308] * 3).edges == (1.7976931348623157e308,)


def test_lists_and_bytes_have_no_bins() -> None:
    table = pa.table({"in.a": [[1.0]], "in.b": [b"x"], "in.c": [1.0]})
    layout = fit(table, dict.fromkeys(table.column_names, Role.INPUT), None)
    assert [column.name for column in layout.columns] == ["in.c"]


def test_long_texts_and_nul_are_kept_short_and_told_apart() -> None:
    texts = ["a" * 1_000_000, "a" * 999 + "b", "x\0y", "short"]
    column = fitted(texts)
    assert max(map(len, column.values)) < 130  # type: ignore[arg-type]
    assert "\\u0000" not in json.dumps(column.as_json())
    assert counted(column, rows([*texts, "a" * 300])) == ([1, 1, 1, 1, 0, 1], {})
    # A file of rows may have cut it.
    assert counted(column, rows(["a" * 65_536]))[0][-1] == 0


def test_what_came_once_says_how_much_is_new() -> None:
    assert fitted(["a"] * 6 + ["b", "c", None]).singles == 0.25


def test_too_many_categories_to_tell_what_is_new() -> None:
    column = fitted([str(place) for place in range(20_050)])
    assert (column.known, column.singles) == (None, 0.0)
    assert counted(column, rows(["never seen"]))[0][-2:] == [1, 0]
    assert fitted([str(place) for place in range(20_049)]).known is not None


def test_ten_thousand_categories_are_known() -> None:
    words = [f"tail {place}" for place in range(10_000)]
    bins, _ = counted(fitted(words), rows([*words, "new"]))
    assert (sum(bins[:49]), bins[49:]) == (49, [9_951, 1])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["2013-01-01T05:00:00Z", "2013-01-01T06:00:00Z", ""], Kind.MOMENT),
        (["2013-01-01 05:00:00", "2013-01-02 05:00:00+02:00"], Kind.MOMENT),
        ([date(2013, 1, 1), date(2013, 1, 2)], Kind.MOMENT),
        (["2013-01-01", "2013-13-01"], Kind.CATEGORICAL),
        (["2013-01-01", "2013-01-01"], Kind.MOMENT),  # one day's rows: the next day is unseen
        (["20130101", "20130102"], Kind.CATEGORICAL),
        (["2013-W01-1", "2013-W01-2"], Kind.CATEGORICAL),
        (["", ""], Kind.CATEGORICAL),
    ],
)
def test_dates_and_times_have_one_bin(values: list[Any], kind: Kind) -> None:
    """Each later one would be a category that the reference never had: an alarm every day."""
    layout = fit(pa.table({"in.when": values}), {"in.when": Role.INPUT}, None)
    assert layout.columns[0].kind is kind
    assert Layout.from_json(layout.as_json()) == layout


def test_moments_are_counted_as_values_and_numbers_among_them_as_wrong() -> None:
    layout = fit(pa.table({"in.when": ["2013-01-01", "2013-01-02"]}), {"in.when": Role.INPUT}, None)
    later = pa.table({"in.when": ["2030-01-01", None, "no date"]})
    assert layout.count(later)[0].tolist() == [2, 1, 0, 0, 0, 0, 0]
    assert layout.count(pa.table({"in.when": [1.0, 2.0]}))[0].tolist() == [0, 0, 0, 2, 0, 0, 0]
    assert layout.columns[0].labels() == ["any time"]


def test_the_hash_is_the_same_for_ever() -> None:
    column = fitted([f"{place:03}" for place in range(50) for _ in range(2)])
    assert column.known is not None
    assert column.known.hex() == "e438d9a0272be3d0"  # BLAKE2b of "049"


def test_scores_are_counted_by_predicted_class() -> None:
    table = pa.table({"out.0": [0.0, 0.499, 0.5, 1.0, 1.5, None], "status": [200] * 5 + [500]})
    layout = fit(table, {}, BINARY)
    assert [(c.name, c.bins) for c in layout.columns] == [(SCORE, 100)]
    [counts] = layout.count(table)
    assert {place: int(counts[place]) for place in np.flatnonzero(counts)} == {
        0: 1, 24: 1, 75: 1, 99: 1, 100: 1,
    }  # fmt: skip
    assert len(layout.columns[0].labels()) == 100


def test_a_score_of_the_first_class_is_turned_around() -> None:
    turned = Meaning(Task.BINARY, Form.SCORE, ("no", "yes"), 0)
    bins = score_bins(turned, np.array([0.75, 0.25, NAN]), np.array([0, 1, -1]))
    assert bins.tolist() == [87, 12, -1]


def test_without_outputs_a_score_is_absent() -> None:
    layout = fit(pa.table({"out.0": [0.5]}), {}, BINARY)
    assert layout.count(pa.table({"in.x": [1.0]}))[0][101] == 1


def test_counts_are_packed() -> None:
    counts = np.array([0, 1, 2**32 + 5], dtype=np.int64)
    assert pack64(counts).hex() == "000000000000000001000000000000000500000001000000"
    assert unpack64(pack64(counts)).tolist() == [0, 1, 2**32 + 5]
    assert unpack64(b"").tolist() == []


NUMBER = st.none() | st.floats() | st.integers(-(2**62), 2**62).map(float)
WORD = st.none() | st.text(max_size=3) | st.sampled_from(["a", "b", "c" * 300])
TABLES = st.lists(
    st.tuples(
        NUMBER,
        st.sampled_from([None, 0.0, 1.0, 2.0]),
        WORD,
        st.sampled_from([200, 204, 422, 500]),
        st.sampled_from([-1, 0, 3]),
        st.sampled_from([None, [], ["x"], ["x", "few"]]),
    ),
    max_size=40,
)
ROLES = {"in.x": Role.INPUT, "in.few": Role.INPUT, "in.word": Role.INPUT, "out.0": Role.OUTPUT}


def _table(drawn: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*drawn, strict=True)) if drawn else [()] * 6
    kinds: Mapping[str, pa.DataType] = {
        "in.x": pa.float64(), "in.few": pa.float64(), "in.word": pa.string(),
        "status": pa.int16(), "row": pa.int32(), "absent": pa.list_(pa.string()),
    }  # fmt: skip
    table = {
        name: pa.array(values, kind)
        for (name, kind), values in zip(kinds.items(), columns, strict=True)
    }
    return pa.table({**table, "out.0": pa.array(columns[1], pa.float64())})


@settings(deadline=None, max_examples=60)
@given(reference=TABLES, first=TABLES, second=TABLES)
def test_sums_merge_exactly_and_every_answered_row_is_counted_once(
    reference: list[Any], first: list[Any], second: list[Any]
) -> None:
    layout = fit(_table(reference), ROLES, BINARY)
    assert Layout.from_json(json.loads(json.dumps(layout.as_json(), allow_nan=False))) == layout
    a, b = _table(first), _table(second)
    whole = layout.count(pa.concat_tables([a, b]))
    assert (whole == layout.count(a) + layout.count(b)).all()
    groups = np.arange(a.num_rows) % 3
    assert (layout.count(a, groups, 3).sum(axis=0) == layout.count(a)[0]).all()
    answered = a.filter((np.array(a["status"]) < 300) & (np.array(a["row"]) >= 0))
    counts = layout.count(answered)[0]
    for column, start in zip(layout.columns, layout.starts.tolist(), strict=False):
        part = counts[start : start + column.size]
        if column.name in ("out.0", SCORE):
            assert part[: column.bins].sum() + part[column.bins] == answered.num_rows
        told = {"in.x": "x", "in.few": "few"}.get(column.name)
        absent = sum(told in (names or []) for names in answered["absent"].to_pylist())
        assert part[: column.bins + 4].sum() == answered.num_rows
        assert part[column.bins + 1] == (absent if told else 0)
