"""The rule of drift on exact counts, and how often it errs on draws from known shares."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from math import comb
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.baselines.distances import Distance
from apps.baselines.layout import COUNTERS, Column, Counts, Kind, Layout, Role
from apps.monitoring import drift
from apps.monitoring.drift import ColumnDrift, State, judge, smallest, state_of

NUMBERS = Column("in.x", Role.INPUT, Kind.NUMERIC, edges=(0.0,), low=-9.0, high=9.0)
WORDS = Column("in.word", Role.INPUT, Kind.CATEGORICAL, values=("a",), singles=0.01)
MANY = Column("in.id", Role.INPUT, Kind.CATEGORICAL, values=("a",), known=None)
NOTHING = Column("in.none", Role.INPUT, Kind.EMPTY)
OUTPUT = Column("out.0", Role.OUTPUT, Kind.NUMERIC, edges=(0.0,), low=0.0, high=1.0)


def counts(column: Column, bins: Sequence[int], **counters: int) -> Counts:
    return np.array([*bins, *(counters.get(name, 0) for name in COUNTERS)], dtype=np.int64)


def one(
    column: Column, reference: Counts, window: Counts, natural: dict[str, float], **more: Any
) -> ColumnDrift:
    [found] = judge(Layout((column,)), reference, window, {column.name: natural}, {}, **more)
    return found


@pytest.mark.parametrize(
    ("m", "n", "js", "p", "threshold", "state"),
    [
        (499, 9000, 0.9, 0.0, 0.08, State.NOT_ENOUGH_DATA),
        (9000, 499, 0.9, 0.0, 0.08, State.NOT_ENOUGH_DATA),
        (0, 9000, None, None, 0.08, State.NOT_ENOUGH_DATA),
        (500, 500, 0.079, 0.0, 0.08, State.QUIET),
        (500, 500, 0.08, 0.0, 0.08, State.DRIFTED),
        (500, 500, 0.19, 0.0000499, 0.08, State.DRIFTED),
        (500, 500, 0.19, 0.00005, 0.08, State.QUIET),
        (500, 500, 0.2, 0.0, 0.08, State.CRITICAL),
        (500, 500, 0.3, 0.0, 0.31, State.QUIET),
        (500, 500, 0.31, 0.0, 0.31, State.CRITICAL),
    ],
)
def test_the_rule(
    m: int, n: int, js: float | None, p: float | None, threshold: float, state: State
) -> None:
    assert state_of(Distance("in.x", n, m, js, None, None, p), threshold, 10) is state


def test_what_is_usual_in_the_reference_is_no_drift() -> None:
    reference, window = counts(NUMBERS, [5000, 5000]), counts(NUMBERS, [450, 550])
    found = one(NUMBERS, reference, counts(NUMBERS, [300, 700]), {"js": 0.0})
    assert (found.state, found.threshold, found.rows, found.values) == (
        State.DRIFTED, 0.08, 1000, 1000,
    )  # fmt: skip
    found = one(NUMBERS, reference, counts(NUMBERS, [300, 700]), {"js": 0.2})
    assert (found.state, found.threshold, found.natural) == (State.QUIET, 0.25, 0.2)
    assert one(NUMBERS, reference, window, {}).state is State.QUIET


@pytest.mark.parametrize("kind", [Kind.MOMENT, Kind.EMPTY])
@pytest.mark.parametrize("is_fitted", [True, False])
def test_columns_of_one_bin_are_not_compared(kind: Kind, is_fitted: bool) -> None:
    """Both windows' values lie in it, whatever they are: a distance of zero said that all is well.

    What is missing in them is told as of any other.
    """
    column = Column("in.x", Role.INPUT, kind)
    window = counts(column, [4000], missing=1000)
    found = one(column, counts(column, [5000]), window, {}, is_fitted=is_fitted)
    assert (found.state, found.js, found.p, found.smallest) == (
        State.INCOMPARABLE, None, None, None,
    )  # fmt: skip
    assert (found.missing.window, found.missing.state) == (0.2, State.CRITICAL)


@pytest.mark.parametrize(
    ("column", "signal", "window", "share", "state"),
    [
        # of 10,000 rows of the reference 1 % have no value
        (NUMBERS, "missing", {"missing": 29}, 29 / 1000, State.QUIET),
        (NUMBERS, "missing", {"missing": 30}, 30 / 1000, State.DRIFTED),
        (NUMBERS, "missing", {"missing": 210}, 210 / 1000, State.CRITICAL),
        (NUMBERS, "non_finite", {"non_finite": 20}, 20 / 1000, State.DRIFTED),
        (NUMBERS, "non_finite", {"non_finite": 19}, 19 / 1000, State.QUIET),
        (NUMBERS, "below", {"below": 19}, 19 / 1000, State.QUIET),
        (NUMBERS, "above", {"above": 20}, 20 / 1000, State.DRIFTED),
        # What the reference never had: three slips in a thousand are no alarm, a tenth is one.
        (NUMBERS, "wrong", {"wrong": 5}, 5 / 1000, State.QUIET),
        (NUMBERS, "wrong", {"wrong": 10}, 10 / 1000, State.DRIFTED),
        (NUMBERS, "absent", {"absent": 300}, 300 / 1000, State.CRITICAL),
        (WORDS, "below", {}, None, State.QUIET),
        (MANY, "unseen", {}, None, State.QUIET),
        (NOTHING, "above", {}, None, State.QUIET),
    ],
)
def test_shares_are_signals_of_their_own(
    column: Column, signal: str, window: dict[str, int], share: float | None, state: State
) -> None:
    rest = 1000 - sum(n for name, n in window.items() if name not in ("below", "above"))
    bins = [rest, *[0] * (column.bins - 1)]
    reference = counts(column, [9900, *[0] * (column.bins - 1)], missing=100)
    found = one(column, reference, counts(column, bins, **window), {})
    assert (getattr(found, signal).window, getattr(found, signal).state) == (share, state)
    assert found.rows == 1000
    others = [each for each in found.shares if each is not getattr(found, signal)]
    assert not any(each.state.is_loud for each in others)
    assert found.is_loud is state.is_loud


def test_wrong_types_are_told_of_however_few_rows() -> None:
    reference = counts(NUMBERS, [100, 100])
    found = one(NUMBERS, reference, counts(NUMBERS, [0, 0], wrong=20), {})
    assert (found.state, found.wrong.state) == (State.NOT_ENOUGH_DATA, State.CRITICAL)
    assert (found.missing.state, found.rows, found.values) == (State.NOT_ENOUGH_DATA, 20, 0)
    found = one(NUMBERS, reference, counts(NUMBERS, [29, 0], wrong=1), {})
    assert found.wrong.state is State.QUIET
    assert one(NUMBERS, reference, counts(NUMBERS, [0, 0]), {}).wrong.window is None


def test_a_reference_that_lacks_a_column_at_times_is_compared_with() -> None:
    reference = counts(NUMBERS, [600, 0], absent=400)
    found = one(NUMBERS, reference, counts(NUMBERS, [590, 0], absent=410), {})
    assert (found.absent.reference, found.absent.state) == (0.4, State.QUIET)
    found = one(NUMBERS, reference, counts(NUMBERS, [300, 0], absent=700), {})
    assert found.absent.state is State.CRITICAL
    found = one(NUMBERS, reference, counts(NUMBERS, [1000, 0]), {})
    assert found.absent.state is State.QUIET  # it comes again: nothing is wrong


def test_usual_changes_of_missing_values_are_quiet() -> None:
    reference = counts(NUMBERS, [9000, 0], missing=1000)
    window = counts(NUMBERS, [800, 0], missing=200)
    assert one(NUMBERS, reference, window, {"missing": 0.05}).missing.state is State.DRIFTED
    assert one(NUMBERS, reference, window, {"missing": 0.09}).missing.state is State.QUIET


def test_as_many_new_categories_as_came_once_are_quiet() -> None:
    reference = counts(WORDS, [9000, 1000, 0])
    found = one(WORDS, reference, counts(WORDS, [900, 90, 10]), {})
    assert (found.unseen.window, found.unseen.reference) == (0.01, 0.01)
    assert (found.unseen.state, found.state) == (State.QUIET, State.QUIET)
    found = one(WORDS, reference, counts(WORDS, [900, 40, 60]), {})
    assert (found.unseen.state, found.state) == (State.DRIFTED, State.DRIFTED)
    # Against a window before, what that one had counts.
    found = one(WORDS, counts(WORDS, [900, 40, 60]), counts(WORDS, [900, 40, 60]), {},
                is_fitted=False)  # fmt: skip
    assert (found.unseen.reference, found.unseen.state) == (0.06, State.QUIET)


def test_a_reference_of_few_rows_says_nothing_of_a_window_before() -> None:
    before, window = counts(NUMBERS, [400, 0]), counts(NUMBERS, [990, 0], wrong=10)
    found = one(NUMBERS, before, window, {}, is_fitted=False)
    assert (found.state, found.wrong.state) == (State.NOT_ENOUGH_DATA, State.NOT_ENOUGH_DATA)


@pytest.mark.parametrize(("is_fitted", "before"), [(True, 0), (True, 200), (False, 200)])
def test_a_column_of_which_the_window_has_no_rows_says_nothing(
    is_fitted: bool, before: int
) -> None:
    """Its values were redacted: neither it nor any share of it has drifted, and it weighs on no
    other."""
    layout = Layout((NUMBERS, WORDS))
    reference = np.concatenate(
        [counts(NUMBERS, [5000, 5000]), counts(WORDS, [9000, 700, 300], missing=before, wrong=0)]
    )
    seen = counts(NUMBERS, [300, 700])
    window = np.concatenate([seen, counts(WORDS, [0, 0, 0])])
    first, second = judge(layout, reference, window, {}, {}, is_fitted=is_fitted)
    assert (second.name, second.state, second.is_loud) == (
        "in.word", State.NOT_ENOUGH_DATA, False,
    )  # fmt: skip
    assert (second.rows, second.values, second.js, second.smallest) == (0, 0, None, None)
    assert {share.window for share in second.shares} == {None}
    assert {share.state for share in second.shares} <= {State.QUIET, State.NOT_ENOUGH_DATA}
    assert first == one(NUMBERS, reference[:8], seen, {}, is_fitted=is_fitted)


@pytest.mark.parametrize(
    ("x", "m", "y", "n"),
    [
        (141, 1_000, 10_000, 100_000),
        (59, 1_000, 10_000, 100_000),
        (55, 500, 25, 500),
        (4, 500, 25, 500),
        (0, 1_000, 150, 5_000),
        (1_000, 1_000, 4_000, 5_000),
        (174, 10_000, 50, 5_000),
        (5, 100, 5, 100),
    ],
)
def test_chance_is_a_close_bound_of_twice_the_smaller_tail_of_fishers_test(
    x: int, m: int, y: int, n: int
) -> None:
    rows = [np.array([float(each)]) for each in (x, m, y, n)]
    likely = [
        comb(m, many) * comb(n, x + y - many)
        for many in range(max(x + y - n, 0), min(m, x + y) + 1)
    ]
    at = x - max(x + y - n, 0)
    tail = Fraction(min(sum(likely[at:]), sum(likely[: at + 1])), sum(likely))
    exact = min(2 * float(tail), 1.0)
    assert exact * (1 - 1e-6) <= drift.chance(*rows)[0] <= min(1.1 * exact, 1.0)


def test_shares_share_one_level_among_all_of_them() -> None:
    """150 of 1,000 against a tenth are by chance 0.0000034; a share of 180 has 0.0000028."""
    layout = Layout(tuple(replace(NUMBERS, name=f"in.x{at}") for at in range(30)))
    calm = counts(NUMBERS, [9000, 0], missing=1000)
    reference = np.tile(calm, 30)
    for missing, state in ((150, State.QUIET), (151, State.DRIFTED)):
        odd = counts(NUMBERS, [1000 - missing, 0], missing=missing)
        window = np.concatenate([odd, np.tile(calm // 10, 29)])
        found = {each.name: each for each in judge(layout, reference, window, {}, {})}
        assert found["in.x0"].missing.state is state
        assert not any(each.is_loud for name, each in found.items() if name != "in.x0")


def test_what_drifted_stands_first_and_then_what_matters() -> None:
    far = Column("in.far", Role.INPUT, Kind.NUMERIC, edges=(0.0,))
    near = Column("in.near", Role.INPUT, Kind.NUMERIC, edges=(0.0,))
    calm = Column("in.calm", Role.INPUT, Kind.NUMERIC, edges=(0.0,))
    layout = Layout((calm, far, near, OUTPUT))
    reference = np.concatenate([counts(column, [5000, 5000]) for column in layout.columns])
    window = np.concatenate(
        [
            counts(calm, [520, 480]), counts(far, [100, 900]), counts(near, [300, 700]),
            counts(OUTPUT, [440, 560]),
        ]
    )  # fmt: skip
    plain = judge(layout, reference, window, {}, {})
    assert [each.label for each in plain] == ["far", "near", "out.0", "calm"]
    assert all(each.rank == each.js for each in plain)
    weighed = judge(layout, reference, window, {}, {"in.near": 0.9, "in.far": 0.1})
    assert [each.label for each in weighed] == ["near", "far", "out.0", "calm"]
    by_name = {each.name: each for each in weighed}
    assert by_name["in.near"].rank == pytest.approx(0.9 * (by_name["in.near"].js or 0))
    assert by_name["in.calm"].importance is None
    assert by_name["in.calm"].rank == pytest.approx((by_name["in.calm"].js or 0) / 2)
    assert by_name["out.0"].rank == by_name["out.0"].js


def test_the_smallest_that_could_have_been_found() -> None:
    seen = Distance("in.x", 100_000, 500, 0.0, 0.0, 0.0, 1.0)
    # chi2(49) passes 0.0005/30 at 101.2756: 52.2756 above its mean, times (1/n + 1/m) / (8 ln 2)
    assert smallest(seen, 0.08, 30, 50) == pytest.approx(0.1376543, abs=1e-7)
    assert smallest(seen, 0.2, 30, 50) == 0.2
    few = Distance("in.x", 100_000, 499, 0.0, 0.0, 0.0, 1.0)
    assert smallest(few, 0.08, 30, 50) is None


@pytest.mark.parametrize("is_fitted", [True, False])
@pytest.mark.parametrize(
    ("reference", "signal", "rows", "usual"),
    [
        (counts(NUMBERS, [20_000, 0]), "missing", 1_000, {}),
        (counts(NUMBERS, [18_000, 0], missing=2_000), "missing", 1_000, {}),
        (counts(NUMBERS, [18_000, 0], missing=2_000), "missing", 1_000_000, {"missing": 0.05}),
        (counts(NUMBERS, [500, 0], missing=100), "missing", 500, {}),
        (counts(NUMBERS, [500, 0], missing=100), "non_finite", 500, {}),
        (counts(NUMBERS, [20_000, 0]), "wrong", 1_000, {}),
        (counts(NUMBERS, [20_000, 0], wrong=20), "wrong", 1_000, {}),
        (counts(NUMBERS, [20_000, 0], absent=10_000), "absent", 700, {}),
    ],
)
def test_the_smallest_share_is_the_first_that_the_test_calls_loud(
    reference: Counts, signal: str, rows: int, usual: dict[str, float], is_fitted: bool
) -> None:
    def judged(many: int) -> drift.Share:
        window = counts(NUMBERS, [rows - many, 0], **{signal: many})
        found = one(NUMBERS, reference, window, usual, is_fitted=is_fitted)
        share: drift.Share = getattr(found, signal)
        return share

    least = judged(0).smallest
    assert least is not None
    many = round(least * rows)
    assert least == many / rows
    assert judged(many).state.is_loud
    assert not judged(many - 1).state.is_loud
    assert judged(many).smallest == least  # whatever the window held


def test_of_what_cannot_be_judged_no_share_is_small_enough() -> None:
    few = one(NUMBERS, counts(NUMBERS, [300, 0]), counts(NUMBERS, [5_000, 0]), {})
    assert few.missing.smallest is None
    assert few.wrong.smallest is not None  # by itself, whatever the reference's size
    always = counts(NUMBERS, [0, 0], missing=20_000)
    assert one(NUMBERS, always, counts(NUMBERS, [5_000, 0]), {}).missing.smallest is None
    bins = [0] * (MANY.bins - 1)
    many = one(MANY, counts(MANY, [9_000, *bins]), counts(MANY, [900, *bins]), {})
    assert many.unseen.smallest is None


def test_no_columns_are_no_verdicts() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert judge(Layout(()), empty, empty, {}, {}) == []


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 10**12), min_size=48, max_size=48))
def test_whatever_was_counted_gets_a_verdict_in_numbers(drawn: list[int]) -> None:
    layout = Layout((NUMBERS, WORDS, NOTHING))
    reference, window = (np.array(part) for part in (drawn[:24], drawn[24:]))
    for is_fitted in (True, False):
        for found in judge(layout, reference, window, {}, {}, is_fitted=is_fitted):
            figures = [found.js, found.psi, found.ks, found.p, found.rank, found.smallest]
            assert all(figure is None or np.isfinite(figure) for figure in figures)
            assert found.js is None or 0 <= found.js <= 1
            for share in found.shares:
                assert share.window is None or np.isfinite(share.window)


# ---- how often it errs ----------------------------------------------------------------------

NORMAL = NormalDist()
EDGES = tuple(NORMAL.inv_cdf(place / 20) for place in range(1, 20))
CATEGORIES = [3, 5, 8, 12, 20, 30, 49, 49, 49, 49]
DRIFTING = Layout(
    (
        *(
            Column(f"in.n{at}", Role.INPUT, Kind.NUMERIC, edges=EDGES, low=-9.0, high=9.0)
            for at in range(20)
        ),
        *(
            Column(f"in.c{at}", Role.INPUT, Kind.CATEGORICAL, values=tuple(map(str, range(many))))
            for at, many in enumerate(CATEGORIES)
        ),
    )
)
Shares = npt.NDArray[np.float64]


def normal(mean: float = 0.0, spread: float = 1.0) -> Shares:
    """The shares of a normal distribution in the bins of the reference's twentieths."""
    passed = [NormalDist(mean, spread).cdf(edge) for edge in EDGES]
    return np.diff([0.0, *passed, 1.0])


def falling(many: int) -> Shares:
    """Shares as 1, 1/2, 1/3 ... of the categories, none of them unseen."""
    weights = 1 / np.arange(1, many + 1)
    return np.array([*(weights / weights.sum()), 0.0, 0.0])


CALM = [*[normal()] * 20, *(falling(many) for many in CATEGORIES)]


def drawn(rng: np.random.Generator, rows: int, shares: Sequence[Shares]) -> Counts:
    found = np.zeros(DRIFTING.size, dtype=np.int64)
    for (start, stop), each in zip(DRIFTING.slices.values(), shares, strict=True):
        found[start:stop] = rng.multinomial(rows, each)
    return found


def loud(reference: Counts, window: Counts) -> set[str]:
    return {each.name for each in judge(DRIFTING, reference, window, {}, {}) if each.is_loud}


def test_windows_without_drift_raise_no_alarm() -> None:
    rng = np.random.default_rng(20261124)
    reference = drawn(rng, 100_000, CALM)
    assert [loud(reference, drawn(rng, 1_000, CALM)) for _ in range(300)] == [set()] * 300


def test_windows_of_few_rows_raise_no_alarm_either() -> None:
    rng = np.random.default_rng(7)
    reference = drawn(rng, 100_000, CALM)
    for rows in (1, 50, 499):
        assert [loud(reference, drawn(rng, rows, CALM)) for _ in range(50)] == [set()] * 50


@pytest.mark.parametrize(
    ("column", "shares"),
    [
        ("in.n0", normal(mean=0.3)),
        ("in.n0", normal(spread=1.5)),
        ("in.n0", 0.92 * normal() + 0.08 * normal(mean=4, spread=0.3)),
        ("in.c5", np.append(0.95 * falling(30)[:-1], 0.05)),
        # A third of the categories, every third of them, twice as frequent as before.
        ("in.c4", falling(20) * np.where(np.arange(22) % 3 == 1, 2.0, 1.0)),
    ],
    ids=["0.3 sigma", "1.5 times the spread", "8 % new mode", "5 % unseen", "reweighted"],
)
def test_changes_are_found_in_a_thousand_rows(column: str, shares: Shares) -> None:
    rng = np.random.default_rng(20261125)
    reference = drawn(rng, 100_000, CALM)
    at = list(DRIFTING.slices).index(column)
    changed = [*CALM[:at], shares / shares.sum(), *CALM[at + 1 :]]
    found = [loud(reference, drawn(rng, 1_000, changed)) for _ in range(100)]
    assert sum(column in names for names in found) >= 95
    assert not set().union(*found) - {column}


def test_changes_too_small_to_matter_are_quiet_however_many_rows() -> None:
    rng = np.random.default_rng(3)
    reference = drawn(rng, 100_000, CALM)
    changed = [normal(mean=0.02), *CALM[1:]]
    assert loud(reference, drawn(rng, 10_000_000, changed)) == set()
    assert drift.LEAST_JS == 0.08
