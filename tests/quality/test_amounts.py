"""R² and its interval, from sums."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from apps.quality import marks, metrics
from apps.quality.amounts import Values
from apps.quality.lifecycle import Kind
from apps.quality.marks import Rows, Ruler
from apps.quality.metrics import Figure

Floats = npt.NDArray[np.float64]
Pairs = tuple[Floats, Floats]  # predicted, actual


def one(pairs: Pairs, mean: float = 0.0, spread: float = 1.0) -> Values:
    predicted, actual = pairs
    ruler = Ruler(Kind.VALUES, mean=mean, spread=spread)
    rows = Rows(np.full(len(actual), np.nan), predicted, actual)
    found = marks.read(ruler, marks.count(ruler, rows, np.zeros(len(actual), np.int64), 1)[0])
    assert isinstance(found, Values)
    return found


def r2(found: Values) -> Figure:
    return metrics.of(found, ["r2"])["r2"]


def biased(rng: np.random.Generator, n: int) -> Pairs:
    actual = rng.normal(size=n)
    return 1 - 0.2 * actual, actual


def noise(rng: np.random.Generator, n: int) -> Pairs:
    actual = rng.normal(size=n)
    return actual + rng.normal(0, 1.5, size=n), actual


def constant(rng: np.random.Generator, n: int) -> Pairs:
    return np.full(n, 0.1), rng.normal(size=n)


def the_mean(rng: np.random.Generator, n: int) -> Pairs:
    return np.zeros(n), rng.normal(size=n)


def fitted(rng: np.random.Generator, n: int) -> Pairs:
    predicted = rng.normal(size=n)
    return predicted, predicted + rng.normal(0, 0.5, size=n)


def heavy(rng: np.random.Generator, n: int) -> Pairs:
    predicted = rng.normal(size=n)
    return predicted, predicted + 0.5 * rng.standard_t(5, size=n)


@pytest.mark.parametrize(
    ("made", "true"),
    [
        (biased, 1 - (1 + 1.2**2)), (noise, -1.25), (constant, -0.01), (the_mean, 0.0),
        (fitted, 0.8), (heavy, 1 - 0.25 * 5 / 3 / (1 + 0.25 * 5 / 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("n", [100, 1_000])
def test_the_interval_of_r2_holds_it_as_often_as_it_says(
    made: Callable[[np.random.Generator, int], Pairs], true: float, n: int
) -> None:
    """Of 500 samples; where a constant is foretold the interval is wider than need be."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(500):
        figure = r2(one(made(rng, n)))
        assert figure.low is not None
        assert figure.high is not None
        assert figure.value is not None
        assert figure.low < figure.value < figure.high < 1
        held += figure.low <= true <= figure.high
    assert held >= 0.91 * 500
    if made in (biased, noise, fitted):
        assert held <= 0.98 * 500


def test_r2_below_zero_is_that_of_scikit_learn_and_has_an_interval() -> None:
    rng = np.random.default_rng(5)
    actual = rng.normal(50, 7, size=2_000)
    predicted = rng.normal(50, 12, size=2_000)
    figure = r2(one((predicted, actual), mean=47.0, spread=6.0))

    assert figure.value == pytest.approx(sk.r2_score(actual, predicted))
    assert figure.value is not None
    assert figure.value < 0
    again = [
        sk.r2_score(actual[chosen], predicted[chosen])
        for chosen in rng.integers(0, 2_000, size=(1_000, 2_000))
    ]
    assert (figure.low, figure.high) == pytest.approx(np.percentile(again, [2.5, 97.5]), abs=0.04)


def test_r2_of_no_error_at_all_is_one() -> None:
    actual = np.arange(40.0)
    assert r2(one((actual, actual))) == Figure(1.0, 1.0, 1.0)


def test_labels_far_from_zero_lose_no_digits() -> None:
    """About zero the variance of amounts near a billion was lost to rounding."""
    rng = np.random.default_rng(6)
    actual = 1e9 + rng.normal(size=500)
    predicted = actual + rng.normal(0, 0.5, size=500)
    figure = r2(one((predicted, actual), mean=1e9 + 0.5))
    assert figure.value == pytest.approx(sk.r2_score(actual, predicted), abs=1e-6)


def test_nearly_perfect_numbers_have_an_interval() -> None:
    """The fourth powers of errors of a thousandth of the spread were rounded to 0."""
    actual = np.linspace(-2, 2, 100)
    found = one((actual - np.tile([0.001, -0.002], 50), actual))
    figures = metrics.of(found, ["rmse", "r2"])

    root = 2.5e-6**0.5
    half = metrics.Z * ((8.5e-12 - 2.5e-6**2) / 99) ** 0.5 / (2 * root)
    rmse, share = figures["rmse"], figures["r2"]
    assert (rmse.value, rmse.low, rmse.high) == pytest.approx((root, root - half, root + half))
    assert share.value == pytest.approx(1 - 2.5e-6 / actual.var(), abs=1e-12)
    assert share.low is not None
    assert share.high is not None
    assert 5e-7 < share.high - share.low < 2e-6


@pytest.mark.parametrize("errors", [(3e-4, -5e-4), (1.1e-3, -1.2e-3)])
def test_of_errors_that_were_rounded_away_there_is_no_interval(errors: Sequence[float]) -> None:
    """Less than a step a row; and steps that are less than the square of the squares' mean."""
    actual = np.linspace(-2, 2, 100)
    figures = metrics.of(one((actual - np.tile(errors, 50), actual)), ["rmse", "r2"])

    mean = (errors[0] ** 2 + errors[1] ** 2) / 2
    rmse, share = figures["rmse"], figures["r2"]
    assert rmse.value == pytest.approx(mean**0.5)
    assert share.value == pytest.approx(1 - mean / actual.var(), abs=1e-10)
    assert (rmse.low, rmse.high, share.low, share.high) == (None, None, None, None)


def test_the_largest_errors_fit_the_limbs() -> None:
    predicted = np.zeros(40)
    found = one((predicted, np.tile([1e6, -1e6], 20)))
    assert (found.extreme, found.e4, found.y4, found.e2y2) == (0, 4e25, 4e25, 4e25)


finite = st.floats(-1e4, 1e4)


@given(
    st.lists(st.tuples(finite, finite), min_size=30, max_size=60),
    st.integers(0, 30),
    st.floats(-100, 100),
)
def test_sums_of_two_rulers_add_up_to_those_of_one(
    pairs: list[tuple[float, float]], cut: int, mean: float
) -> None:
    values = np.array(pairs)
    predicted, actual = values[:, 0], values[:, 1]
    whole = one((predicted, actual), spread=10.0)
    first = one((predicted[:cut], actual[:cut]), spread=10.0)
    merged = first + one((predicted[cut:], actual[cut:]), mean=mean, spread=50.0)

    assert (merged.n, merged.origin) == (len(pairs), 0.0)
    for name in ("e2", "e4", "y", "y2", "y3", "y4", "e2y", "e2y2"):
        size = float((np.abs(values).max() + 200) ** (4 if name in ("e4", "y4", "e2y2") else 3))
        assert getattr(merged, name) == pytest.approx(
            getattr(whole, name), rel=1e-9, abs=size * 1e-6
        )
