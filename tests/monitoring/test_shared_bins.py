"""Two layouts brought into the bins that both have: sums of whole bins, or nothing is said."""

from math import inf, nextafter

import numpy as np
import pyarrow as pa
import pytest

from apps.baselines import distances
from apps.baselines.layout import Column, Kind, Layout, Role, fit
from apps.baselines.meaning import Form, Meaning, Task
from apps.monitoring import shared_bins
from apps.monitoring.shared_bins import Shared, join, spans_of

NAMES = ("v2", "v1")
INPUT = Role.INPUT


def numeric(*edges: float, low: float = 0.0, high: float = 100.0) -> Column:
    return Column("in.x", INPUT, Kind.NUMERIC, edges=edges, low=low, high=high)


def words(*values: str, known: bytes | None = b"") -> Column:
    return Column("in.x", INPUT, Kind.CATEGORICAL, values=values, known=known)


def shared(first: Column, second: Column) -> Shared:
    return shared_bins.share(Layout((first,)), Layout((second,)), NAMES)


def counts(column: Column, *bins: int, counters: tuple[int, ...] = (0,) * 6) -> np.ndarray:
    assert len(bins) == column.bins
    return np.array([*bins, *counters], dtype=np.int64)


def test_the_same_bins_are_compared_as_they_are() -> None:
    chance = np.random.default_rng(1)
    table = pa.table(
        {
            "in.x": chance.normal(0, 1, 5_000),
            "in.hour": chance.integers(0, 9, 5_000).astype(float),
            "in.word": chance.choice(["a", "b", "c"], 5_000).tolist(),
        }
    )
    layout = fit(table, dict.fromkeys(table.column_names, INPUT), None)
    found = shared_bins.share(layout, Layout.from_json(layout.as_json()), NAMES)
    assert (found.apart, found.merged, found.only) == ({}, {}, ((), ()))
    ours, theirs = layout.count(table.slice(0, 2_000))[0], layout.count(table.slice(2_000))[0]
    assert found.first(ours).tolist() == ours.tolist()
    assert found.second(theirs).tolist() == theirs.tolist()
    assert distances.compare(
        found.layout, found.second(theirs), found.first(ours), is_fitted=False
    ) == distances.compare(layout, theirs, ours, is_fitted=False)


def test_spans_are_joined_between_the_edges_that_both_have() -> None:
    first, second = numeric(10, 20, 30, 40), numeric(5, 20, 40, 60)
    found = shared(first, second)
    [column] = found.layout.columns
    assert list(column.edges) == [20, 40]
    assert found.first(counts(first, 1, 2, 3, 4, 5)).tolist()[:3] == [3, 7, 5]
    assert found.second(counts(second, 1, 2, 3, 4, 5)).tolist()[:3] == [3, 3, 9]
    assert found.merged == {
        "in.x": "compared in 3 bins, sums of the 5 of v2 and the 5 of v1: the distance may be "
        "larger"
    }


def test_what_is_no_value_is_the_same_in_all_bins() -> None:
    first, second = numeric(10, 20, 30), numeric(10, 20)
    found = shared(first, second)
    [column] = found.layout.columns
    brought = found.first(counts(first, 1, 1, 1, 1, counters=(5, 4, 3, 2, 1, 1)))
    assert brought.tolist() == [1, 1, 2, 5, 4, 3, 2, 1, 1]
    assert column.low == 0.0
    wider = shared(first, numeric(10, 20, high=200.0)).layout.columns[0]
    assert (wider.low, wider.high) == (None, None)  # above is not the same in both


@pytest.mark.parametrize("edges", [(), (20.0,), (15.0, 25.0)])
def test_without_edges_enough_in_both_no_distance_can_be_told(edges: tuple[float, ...]) -> None:
    found = shared(numeric(10, 20, 30), numeric(*edges))
    common = len({10.0, 20.0, 30.0} & set(edges))
    assert found.apart == {
        "in.x": f"the bins of v2 and v1 were made of other data: of 3 and {len(edges)} edges "
        f"{common} are the same, 2 needed"
    }
    assert found.first(counts(numeric(10, 20, 30), 1, 2, 3, 4)).tolist()[:1] == [10]


def test_references_without_a_value_say_nothing_of_what_comes() -> None:
    """All values lie in the only bin: whatever they were, the distance was zero, and quiet."""
    found = shared(numeric(), numeric())
    assert found.apart == {"in.x": "the references of v2 and v1 have no value"}
    for host in (numeric(), numeric(10)):
        found = shared_bins.share(Layout((numeric(10, 20, 30),)), Layout((host,)), NAMES, twice=0)
        assert found.apart.keys() == {"in.x"}


def test_categories_named_in_both_are_compared_and_all_others_as_one() -> None:
    first, second = words("a", "b", "c"), words("c", "d", "a")
    found = shared(first, second)
    [column] = found.layout.columns
    assert column.labels() == ["a", "c", "other", "unseen"]
    assert column.known is None  # nothing is said of what was never seen
    assert found.first(counts(first, 1, 2, 4, 8, 16)).tolist()[:4] == [1, 4, 26, 0]
    assert found.second(counts(second, 1, 2, 4, 8, 16)).tolist()[:4] == [4, 1, 26, 0]
    assert found.merged == {"in.x": "compared by the 2 values named in both, all others as one"}


def test_the_order_of_categories_does_not_matter() -> None:
    first, second = words("a", "b"), words("b", "a")
    found = shared(first, second)
    assert found.merged == {}
    assert found.second(counts(second, 1, 2, 4, 8)).tolist()[:4] == [2, 1, 4, 8]


def test_other_and_unseen_are_one_where_both_know_other_words() -> None:
    first, second = words("a", known=b"12345678"), words("a", known=None)
    found = shared(first, second)
    assert found.first(counts(first, 1, 2, 4)).tolist()[:3] == [1, 6, 0]
    assert "in.x" in found.merged


def test_numbers_of_few_kinds_lose_their_order_when_some_are_joined() -> None:
    first = Column("in.x", INPUT, Kind.DISCRETE, values=(1.0, 2.0, 3.0), low=1.0, high=3.0)
    second = Column("in.x", INPUT, Kind.DISCRETE, values=(1.0, 3.0), low=1.0, high=3.0)
    found = shared(first, second)
    [column] = found.layout.columns
    assert (column.kind, column.is_ordered) == (Kind.CATEGORICAL, False)
    assert found.first(counts(first, 1, 2, 4, 0, 8)).tolist()[:4] == [1, 4, 10, 0]
    assert shared(first, first).layout.columns == (first,)


def test_nothing_in_common_and_other_kinds_stand_apart() -> None:
    assert join(words("a"), words("b"), NAMES).apart == "no value has a bin of its own in both"
    assert join(words("a"), numeric(1, 2), NAMES).apart == (
        "v2 counts categories, v1 numbers in spans"
    )
    empty = Column("in.x", INPUT, Kind.EMPTY)
    assert join(numeric(1), empty, NAMES).apart == (
        "v2 counts numbers in spans, v1 nothing, since its reference has no value"
    )


def test_a_probability_is_only_compared_with_that_of_the_same_class() -> None:
    late = Meaning(Task.BINARY, Form.PROBABILITIES, ("late", "on time"), positive=0)
    turned = Meaning(Task.BINARY, Form.PROBABILITIES, ("on time", "late"), positive=1)
    score = Column("score", Role.OUTPUT, Kind.SCORE)
    first = Column("out.0", Role.OUTPUT, Kind.NUMERIC, edges=(0.2, 0.5))
    found = shared_bins.share(Layout((first, score), late), Layout((first, score), turned), NAMES)
    assert found.apart == {
        "out.0": "in v2 it is the probability of late, in v1 of on time"
    }  # the score is that of "late" in both
    other = Meaning(Task.BINARY, Form.PROBABILITIES, ("late", "on time"), positive=1)
    found = shared_bins.share(Layout((score,), late), Layout((score,), other), NAMES)
    assert list(found.apart) == ["score"]


def test_columns_that_one_lacks_are_named() -> None:
    first = Layout((numeric(1), Column("in.y", INPUT, Kind.EMPTY)))
    second = Layout((Column("in.z", INPUT, Kind.EMPTY), numeric(1)))
    found = shared_bins.share(first, second, NAMES)
    assert [column.name for column in found.layout.columns] == ["in.x"]
    assert found.only == (("in.y",), ("in.z",))
    assert found.first(np.arange(first.size)).tolist() == list(range(8))
    assert found.second(np.arange(second.size)).tolist() == list(range(7, 15))


def test_joined_bins_never_make_a_distance_larger() -> None:
    chance = np.random.default_rng(5)
    fine = numeric(*range(5, 100, 5))
    found = shared(fine, numeric(25, 50, 75))
    for _ in range(50):
        p, q = (counts(fine, *chance.poisson(chance.gamma(2, 50, 20)).tolist()) for _ in "pq")
        whole = distances.js_star(p[:20], q[:20]) ** 2 + 19 / 8 / np.log(2) * (
            1 / p.sum() + 1 / q.sum()
        )
        joined = distances.js_star(found.first(p)[:4], found.first(q)[:4]) ** 2
        assert joined <= whole + 1e-12


# ---- densities -------------------------------------------------------------------------------


def test_a_density_ends_where_the_reference_did() -> None:
    column = numeric(10, 40)
    found = spans_of(column, counts(column, 30, 40, 30, counters=(9, 0, 0, 0, 10, 20)))
    assert found == [(0, 10, 0.2), (10, 40, 0.4), (40, 100, 0.1)]


def test_a_frequent_value_joins_the_span_that_begins_with_it() -> None:
    column = numeric(10, nextafter(10, inf), 50)
    found = spans_of(column, counts(column, 10, 30, 40, 20))
    assert found == [(0, 10, 0.1), (10, 50, 0.7), (50, 100, 0.2)]
    column = numeric(10, 100, nextafter(100, inf))
    assert spans_of(column, counts(column, 10, 40, 50, 0)) == [(0, 10, 0.1), (10, 100, 0.9)]


def test_without_values_or_a_range_there_is_no_density() -> None:
    column = numeric(10)
    assert spans_of(column, counts(column, 0, 0)) == []
    unknown = Column("in.x", INPUT, Kind.NUMERIC)
    assert spans_of(unknown, counts(unknown, 5)) == []
    constant = numeric(7, nextafter(7, inf), low=7.0, high=7.0)
    assert spans_of(constant, counts(constant, 0, 9, 0)) == []
