from dataclasses import replace
from math import isnan, log, sqrt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import chdtrc

from apps.baselines.distances import (
    chi2_p,
    compare,
    doubts,
    js_star,
    ks,
    missing_shares,
    natural,
    psi_star,
    rows_of,
    sorted_by,
    values_of,
    without_order,
)
from apps.baselines.layout import Column, Kind, Layout, Role, fit

COUNTS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=60)
WORDS = Column("in.word", Role.INPUT, Kind.CATEGORICAL, values=("a", "b"), singles=0.02)
NUMBERS = Column("in.x", Role.INPUT, Kind.NUMERIC, edges=(0.0, 1.0))
LAYOUT = Layout((NUMBERS, WORDS, Column("in.none", Role.INPUT, Kind.EMPTY)))


def counts(
    numbers: list[int], words: list[int], missing: int = 0, none: int = 0
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    filler = [0] * 5
    return np.array([*numbers, missing, *filler, *words, 0, *filler, none, 0, *filler])


@pytest.mark.parametrize(
    ("p", "q", "js", "psi", "gap", "chance"),
    [
        # P = (3/4, 1/4), Q = (1/4, 3/4): JS2 = 3/4 log2(3/2) - 1/4, less 0.005 / (8 ln 2)
        ([300, 100], [100, 300], 0.4333823, 1.0875586, 0.5, 2.0884876e-45),
        # of no common bin: 1 bit, less 0.002 / (8 ln 2)
        ([1000, 0], [0, 1000], 0.9998196, 15.1856171, 1.0, 0.0),
        ([60, 40], [50, 50], 0.0607653, 0.0197368, 0.1, 0.1552185),
        ([5000, 5000], [50, 50], 0.0, 0.0, 0.0, 1.0),
        ([7], [9], 0.0, 0.0, 0.0, 1.0),
        ([7, 0, 0], [9, 0, 0], 0.0, 0.0, 0.0, 1.0),
    ],
)
def test_distances_by_hand(
    p: list[int], q: list[int], js: float, psi: float, gap: float, chance: float
) -> None:
    found = (js_star(p, q), psi_star(p, q), ks(p, q), chi2_p(p, q))
    assert found == pytest.approx((js, psi, gap, chance), abs=1e-7)


def test_js_star_is_what_chance_does_not_explain() -> None:
    shares = 0.75 * log(1.5, 2) - 0.25
    chance = 1 / 400 + 1 / 4000
    expected = sqrt(shares - chance / (8 * log(2)))
    assert js_star([3000, 1000], [100, 300]) == pytest.approx(expected, abs=1e-12)


def test_rare_bins_are_tested_as_one() -> None:
    # Expected of the window: 11.976 and, of both rare bins together, 0.0237.
    statistic = ((10 - 12 * 1010 / 1012) ** 2 / (12 * 1010 / 1012) + (2 - 24 / 1012) ** 2
                 / (24 / 1012)) * (1 + 12 / 1000)  # fmt: skip
    found = chi2_p([1000, 0, 0], [10, 1, 1])
    assert found == pytest.approx(float(chdtrc(1, statistic)), rel=1e-9)


def test_nothing_cannot_be_compared() -> None:
    for distance in (js_star, psi_star, ks, chi2_p):
        with pytest.raises(ValueError, match="nothing to compare"):
            distance([1, 2], [0, 0])


def test_one_enormous_value_moves_nothing() -> None:
    rng = np.random.default_rng(1)
    reference, window = rng.normal(size=20_000), rng.normal(0.5, size=2_000)
    distances = []
    for wild in (reference, np.append(reference[1:], 1e300)):
        table = pa.table({"in.x": wild})
        layout = fit(table, {"in.x": Role.INPUT}, None)
        live = layout.count(pa.table({"in.x": np.append(window[1:], 1e300)}))[0]
        [found] = compare(layout, layout.count(table)[0], live)
        distances.append(found.js)
    assert distances == pytest.approx([0.2175, 0.2175], abs=3e-4)


def test_columns_are_compared_as_each_alone() -> None:
    reference, window = counts([10, 80, 10], [50, 50, 0]), counts([30, 60, 10], [30, 60, 0])
    numbers, words, none = compare(LAYOUT, reference, window, is_fitted=False)
    p, q = [10, 80, 10], [30, 60, 10]
    assert (numbers.column, numbers.n, numbers.m) == ("in.x", 100, 100)
    found = [numbers.js, numbers.psi, numbers.ks]
    assert found == pytest.approx([js_star(p, q), psi_star(p, q), ks(p, q)])
    assert words.js == pytest.approx(js_star([50, 50], [30, 60]), abs=1e-12)
    assert (words.m, words.ks) == (90, None)
    assert (none.n, none.m, none.js, none.psi, none.ks, none.p) == (0, 0, None, None, None, None)


def test_as_many_new_categories_are_expected_as_came_once() -> None:
    # Of "other" 30 rows, of which 2 % of all rows came once: as many are expected to be new.
    reference = np.array([10, 80, 10, *[0] * 6, 40, 30, 30, 0, *[0] * 6, 0, *[0] * 6])
    window = np.array([10, 80, 10, *[0] * 6, 40, 30, 28, 2, *[0] * 6, 0, *[0] * 6])
    fitted, raw = (
        compare(LAYOUT, reference, window, is_fitted=is_fitted)[1] for is_fitted in (True, False)
    )
    assert (fitted.js, fitted.p) == (0.0, 1.0)
    assert raw.p is not None
    assert raw.p < 0.6


def test_p_is_the_larger_of_two_tests() -> None:
    layout = Layout((NUMBERS,))
    surplus, gaps = ([100_000, 100, 0], [970, 25, 5]), ([90_000, 9_000, 1_000], [930, 70, 0])
    for (p, q), by_chi2 in ((surplus, False), (gaps, True)):
        bits = _bits(p, q) * 8 * log(2) / (1 / sum(p) + 1 / sum(q))
        tests = [chi2_p(p, q), float(chdtrc(2, bits))]
        assert (tests[0] > tests[1]) is by_chi2
        [found] = compare(layout, np.array([*p, *[0] * 6]), np.array([*q, *[0] * 6]))
        assert found.p == pytest.approx(max(tests), rel=1e-9)


def _bits(p: list[int], q: list[int]) -> float:
    """JS2 by its definition."""
    shares = [(a / sum(p), b / sum(q)) for a, b in zip(p, q, strict=True)]
    return sum(x * log(2 * x / (a + b), 2) / 2 for a, b in shares for x in (a, b) if x)


def test_categories_that_have_bins_since_they_came_often_are_in_doubt() -> None:
    # The same counts, of two categories with a bin each, and of two chosen from ten thousand.
    known = bytes(8 * 9_998)
    chosen = Column("in.word", Role.INPUT, Kind.CATEGORICAL, values=("a", "b"), known=known)
    p, q = np.array([500, 400, 100, 0, *[0] * 6]), np.array([430, 430, 140, 0, *[0] * 6])
    [plain] = compare(Layout((replace(WORDS, singles=0.0),)), p, q)
    [found] = compare(Layout((chosen,)), p, q)
    again = compare(Layout((chosen,)), p, q, is_fitted=False)
    assert [one.doubt for one in (plain, found, *again)] == [1.0, 6.0, 1.0]
    # JS2 without what chance adds, which is (6/n + 1/m) instead of (1/n + 1/m)
    bits, ln2 = _bits([500, 400, 100], [430, 430, 140]), log(2)
    assert plain.js == pytest.approx(sqrt(bits - 2 * 0.002 / (8 * ln2)), abs=1e-9)
    assert found.js == pytest.approx(sqrt(max(bits - 2 * 0.007 / (8 * ln2), 0.0)), abs=1e-9)
    tests = [70**2 / 930 + 30**2 / 830 + 40**2 / 240, bits * 8 * ln2 / 0.002]
    assert plain.p == pytest.approx(max(float(chdtrc(2, one)) for one in tests), rel=1e-9)
    assert found.p == pytest.approx(max(float(chdtrc(2, one * 2 / 7)) for one in tests), rel=1e-9)
    assert again == [replace(plain, doubt=1.0)]


@pytest.mark.parametrize(
    ("rare", "doubt"),
    [(0, 1.0), (11, 1.0), (251, 2.4806), (951, 4.4270), (4_951, 6.0), (None, 6.0)],
)
def test_the_more_categories_the_more_doubt(rare: int | None, doubt: float) -> None:
    known = None if rare is None else bytes(8 * rare)
    values = tuple(map(str, range(49)))
    column = Column("in.word", Role.INPUT, Kind.CATEGORICAL, values=values, known=known)
    assert doubts(Layout((column, NUMBERS)), is_fitted=True) == pytest.approx([doubt, 1], abs=1e-3)
    assert doubts(Layout((column,)), is_fitted=False).tolist() == [1.0]


@pytest.mark.parametrize("kinds", [80, 1_000, 5_000])
def test_equal_categories_of_a_small_reference_are_not_far(kinds: int) -> None:
    rng = np.random.default_rng(kinds)
    words = pa.array([f"w{place}" for place in range(kinds)])
    columns = {f"in.w{at}": words.take(rng.integers(0, kinds, 5_000)) for at in range(20)}
    table = pa.table(columns)
    layout = fit(table, dict.fromkeys(columns, Role.INPUT), None)
    window = pa.table({name: words.take(rng.integers(0, kinds, 1_000)) for name in columns})
    found = compare(layout, layout.count(table)[0], layout.count(window)[0])
    assert [one.column for one in found if one.p is None or one.p < 0.001] == []


def test_rows_and_values() -> None:
    table = pa.table(
        {
            "in.x": [1.0, None, float("inf"), None, None],
            "status": [200, 200, 200, 422, 422],
            "absent": [None, None, None, ["x"], ["word"]],
        }
    )
    layout = Layout((NUMBERS,))
    found = layout.count(table)[0]
    assert (values_of(layout, found).tolist(), rows_of(layout, found).tolist()) == ([1], [4])
    assert missing_shares(layout, found).tolist() == [0.25]
    assert isnan(missing_shares(layout, np.zeros(layout.size, np.int64))[0])
    assert compare(Layout(()), np.zeros(0, np.int64), np.zeros(0, np.int64)) == []


def test_what_is_natural_is_the_block_furthest_from_the_others() -> None:
    calm, odd = counts([200, 600, 200], [500, 500], 10), counts([500, 400, 100], [500, 500], 260)
    blocks = np.stack([calm] * 9 + [odd])
    found = natural(LAYOUT, blocks)
    assert found["in.x"]["js"] == js_star([1800, 5400, 1800], [500, 400, 100])
    assert found["in.x"]["missing"] == pytest.approx(260 / 1260 - 10 / 1010, abs=1e-12)
    assert found["in.word"] == {"js": 0.0, "missing": 0.0, "unseen": 0.02}
    assert found["in.none"] == {"js": 0.0, "missing": 0.0, "unseen": 0.0}


def test_blocks_further_apart_than_any_time_are_sorted_by_something() -> None:
    calm = {"js": 0.199, "missing": 0.1, "unseen": 0.01}
    natural = {"in.a": calm, "in.b": {**calm, "js": 0.2}, "in.c": {**calm, "missing": 0.9}}
    assert sorted_by(natural) == ["in.c", "in.b"]
    assert sorted_by({"in.a": calm}) == []
    assert without_order(natural) == {name: {"unseen": 0.01} for name in natural}


def test_small_blocks_are_put_together_until_they_say_more_than_chance() -> None:
    calm, odd = counts([20, 60, 20], [50, 50]), counts([50, 40, 10], [50, 50])
    found = natural(LAYOUT, np.stack([calm] * 9 + [odd]))  # 1,000 rows: two blocks
    assert found["in.x"]["js"] == js_star([100, 300, 100], [130, 280, 90])
    assert natural(LAYOUT, np.stack([calm] * 9))["in.x"]["js"] == 0.0  # 900 rows: only one


@settings(deadline=None, max_examples=200)
@given(COUNTS)
def test_distances_are_never_out_of_bounds(drawn: list[tuple[int, int]]) -> None:
    p, q = zip(*drawn, strict=True)
    if not sum(p) or not sum(q):
        return
    assert 0.0 <= js_star(p, q) <= 1.0
    assert 0.0 <= psi_star(p, q) < 50
    assert 0.0 <= ks(p, q) <= 1.0
    assert 0.0 <= chi2_p(p, q) <= 1.0
    assert js_star(p, q) == pytest.approx(js_star(q, p), abs=1e-9)
