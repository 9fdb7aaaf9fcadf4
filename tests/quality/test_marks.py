"""Sums of integers: exact in and out, and figures like scikit-learn's from them."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from apps.quality import cbpe, marks, metrics
from apps.quality.amounts import Values
from apps.quality.lifecycle import Kind
from apps.quality.marks import Classes, Floats, Rows, Ruler, Scores
from apps.quality.metrics import Figure

SCORES = Ruler(Kind.SCORES, ("0", "1"))
CLASSES = Ruler(Kind.CLASSES, ("a", "b", "c"))
VALUES = Ruler(Kind.VALUES, mean=50.0, spread=7.0)
rng = np.random.default_rng(7)


def one(ruler: Ruler, rows: Rows) -> marks.Sums:
    return marks.read(ruler, marks.count(ruler, rows, np.zeros(len(rows.actual), np.int64), 1)[0])


def scored(n: int = 20_000) -> Rows:
    score = rng.beta(2, 3, size=n)
    actual = (rng.uniform(size=n) < score).astype(float)
    return Rows(score, (score >= 0.5).astype(float), actual)


finite = st.floats(-1e15, 1e15)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=30), st.integers(0, 30))
def test_what_is_taken_out_leaves_no_trace(pairs: list[tuple[float, float]], cut: int) -> None:
    values = np.array(pairs)
    rows = Rows(np.full(len(pairs), np.nan), values[:, 0], values[:, 1])
    groups = (np.arange(len(pairs)) < cut).astype(np.int64)

    both = marks.count(VALUES, rows, groups, 2)

    whole = marks.count(VALUES, rows, np.zeros_like(groups), 1)[0]
    assert ((whole - both[0]) == both[1]).all()
    assert (marks.unpack(marks.pack(whole)) == whole).all()


def test_amounts_are_those_of_the_rows() -> None:
    actual = rng.normal(50, 7, size=5_000)
    predicted = actual + rng.normal(0, 2, size=5_000)
    found = one(VALUES, Rows(np.full(5_000, np.nan), predicted, actual))
    assert isinstance(found, Values)

    figures = metrics.of(found)

    assert found.n == 5_000
    assert figures["mae"].value == pytest.approx(sk.mean_absolute_error(actual, predicted))
    assert figures["rmse"].value == pytest.approx(sk.root_mean_squared_error(actual, predicted))
    assert figures["r2"].value == pytest.approx(sk.r2_score(actual, predicted))
    assert figures["bias"].value == pytest.approx(float(np.mean(actual - predicted)))
    rmse = figures["rmse"]
    assert rmse.low is not None
    assert rmse.high is not None
    # The same by many samples: the interval of the root of the mean square.
    roots = [math.sqrt(np.mean(rng.choice(actual - predicted, 5_000) ** 2)) for _ in range(1_000)]
    low, high = np.percentile(roots, [2.5, 97.5])
    assert (rmse.low, rmse.high) == pytest.approx((low, high), abs=0.01)


def test_one_row_that_is_out_of_all_measure_is_counted_apart() -> None:
    nothing = np.full(3, np.nan)
    found = one(VALUES, Rows(nothing, np.array([50.0, 50.0, 50.0]), np.array([57.0, 1e300, 50.0])))

    assert isinstance(found, Values)
    assert found.about(0.0) == Values(
        n=2, extreme=1, e=7.0, e_abs=7.0, e2=49.0, e4=2401.0, y=107.0, y2=5749.0,
        y3=310_193.0, y4=16_806_001.0, e2y=2793.0, e2y2=159_201.0,
    )  # fmt: skip


def test_scores_give_the_figures_of_scikit_learn() -> None:
    rows = scored()
    found = one(SCORES, rows)
    assert isinstance(found, Scores)
    figures = metrics.of(found)
    values = {name: figure.value for name, figure in figures.items()}

    assert values["accuracy"] == sk.accuracy_score(rows.actual, rows.predicted)
    assert values["precision"] == sk.precision_score(rows.actual, rows.predicted)
    assert values["recall"] == sk.recall_score(rows.actual, rows.predicted)
    assert values["f1"] == pytest.approx(sk.f1_score(rows.actual, rows.predicted))
    assert values["log_loss"] == pytest.approx(sk.log_loss(rows.actual, rows.score), rel=1e-12)
    assert values["brier"] == pytest.approx(sk.brier_score_loss(rows.actual, rows.score), rel=1e-12)
    assert values["ece"] == pytest.approx(0.0, abs=0.02)
    # Drawn again it only grows: an interval would not hold the value itself.
    assert (figures["ece"].low, figures["ece"].high) == (None, None)
    for figure in [figure for name, figure in figures.items() if name != "ece"]:
        assert figure.low is not None
        assert figure.high is not None
        assert figure.value is not None
        assert figure.low < figure.value < figure.high


@pytest.mark.parametrize("shape", [(2, 3), (0.1, 0.1), (50, 50), (0.5, 40)])
def test_auc_of_bins_is_off_by_no_more_than_it_says(shape: tuple[float, float]) -> None:
    score = rng.beta(*shape, size=20_000)
    actual = (rng.uniform(size=20_000) < score).astype(float)
    found = metrics.of(one(SCORES, Rows(score, np.full(20_000, -1.0), actual)), ["roc_auc"])
    figure = found["roc_auc"]
    assert figure.value is not None
    assert figure.bound is not None

    assert abs(figure.value - sk.roc_auc_score(actual, score)) <= figure.bound + 1e-12


def area_of(positives: Floats, negatives: Floats) -> Figure:
    score = np.concatenate([positives, negatives])
    actual = np.arange(len(score)) < len(positives)
    rows = Rows(score, np.full(len(score), -1.0), actual.astype(float))
    return metrics.of(one(SCORES, rows), ["roc_auc"])["roc_auc"]


def test_the_interval_of_auc_is_of_delongs_variance() -> None:
    places = np.random.default_rng(3)
    positives, negatives = places.binomial(49, 0.6, 40), places.binomial(49, 0.5, 60)
    figure = area_of((positives + 0.5) / 50, (negatives + 0.5) / 50)

    won = (positives[:, None] > negatives) + (positives[:, None] == negatives) / 2
    area = won.mean()
    variance = 0.0
    for n, spread in ((40, won.mean(axis=1).var(ddof=1)), (60, won.mean(axis=0).var(ddof=1))):
        most = (n * area + 1) * (n - n * area + 1) / (n + 2) ** 2
        variance += ((n - 1) * spread + 3 * most) / (n + 2) / n
    n = area * (1 - area) / variance
    ends = metrics.wilson(area * n, n)
    assert n > 40
    assert (figure.value, figure.low, figure.high) == pytest.approx((area, *ends))


@pytest.mark.parametrize(
    ("positives", "negatives"), [(1, 200), (3, 200), (9, 200), (200, 3), (20, 20), (100, 100)]
)
def test_the_interval_of_auc_holds_it_of_few_labels_too(positives: int, negatives: int) -> None:
    """Drawn again, one label is always the same: intervals of one held 14 % of 400 samples."""
    places = np.random.default_rng(8)
    chance = np.arange(50)[:, None] < np.arange(50)
    shares = [
        np.array([math.comb(49, k) * p**k * (1 - p) ** (49 - k) for k in range(50)])
        for p in (0.5, 0.56)
    ]
    true = float(shares[0] @ (chance + np.eye(50) / 2) @ shares[1])
    held = 0
    for _ in range(400):
        figure = area_of(
            (places.binomial(49, 0.56, positives) + 0.5) / 50,
            (places.binomial(49, 0.5, negatives) + 0.5) / 50,
        )
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= true <= figure.high
    assert held >= 0.92 * 400


@pytest.mark.parametrize("true", [0.6, 0.75, 0.9, 0.97])
@pytest.mark.parametrize("rarer", [10, 15, 20, 30])
@pytest.mark.parametrize(("spread", "rare_is_positive"), [(1.0, True), (2.0, True), (0.5, False)])
def test_the_interval_of_auc_holds_it_where_one_class_is_rare(
    true: float, rarer: int, spread: float, rare_is_positive: bool
) -> None:
    """Of 1,000 samples, 10 times as many of the other class; DeLong's held 65 % of the hardest."""
    places = np.random.default_rng(12)
    apart = NormalDist().inv_cdf(true) * math.sqrt(1 + spread**2)
    sizes = (rarer, 10 * rarer) if rare_is_positive else (10 * rarer, rarer)

    def scores(size: int, middle: float, wide: float) -> Floats:
        found: Floats = 1 / (1 + np.exp(-places.normal(middle, wide, size)))
        return found

    area = area_of(scores(200_000, apart / 2, spread), scores(200_000, -apart / 2, 1.0)).value
    assert area == pytest.approx(true, abs=0.01)  # less what the bins take
    assert area is not None
    held, widths, samples = 0, [], 1_000
    positives = scores(sizes[0] * samples, apart / 2, spread)
    score = np.concatenate([positives, scores(sizes[1] * samples, -apart / 2, 1.0)])
    actual = (np.arange(len(score)) < len(positives)).astype(float)
    rows = Rows(score, np.full(len(score), -1.0), actual)
    groups = np.arange(len(score)) % samples
    for vector in marks.count(SCORES, rows, groups, samples):
        figure = metrics.of(marks.read(SCORES, vector), ["roc_auc"])["roc_auc"]
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= area <= figure.high
        widths.append(figure.high - figure.low)
    assert held >= 0.93 * samples  # 94 %, less what chance may do among 48
    low, high = metrics.wilson(true * rarer, rarer)
    assert np.mean(widths) < high - low  # of a share of so many rows, which is the widest


def test_an_area_of_one_has_a_lower_end() -> None:
    """30 labels that are all in their place do not say that the next will be."""
    high, low = np.full(10, 0.91), np.full(40, 0.11)
    assert area_of(high, low) == Figure(1.0, metrics.wilson(10, 10)[0], 1.0, bound=0.0)
    assert area_of(low, high) == Figure(0.0, *metrics.wilson(0, 10), bound=0.0)


def test_calibration_says_what_came_of_each_score() -> None:
    score = np.repeat([0.11, 0.91], [100, 300])
    actual = np.concatenate([np.arange(100) < 10, np.arange(300) < 150]).astype(float)
    found = one(SCORES, Rows(score, np.full(400, -1.0), actual))
    assert isinstance(found, Scores)

    low, high = metrics.calibration(found)

    assert (low.n, low.share, high.n, high.share) == (100, 0.1, 300, 0.5)
    assert (low.score, high.score) == pytest.approx((0.11, 0.91))
    assert metrics.of(found)["ece"].value == pytest.approx(0.25 * 0.01 + 0.75 * 0.41)


def test_more_than_two_classes_are_averaged() -> None:
    actual = rng.integers(0, 3, size=3_000).astype(float)
    predicted = np.where(rng.uniform(size=3_000) < 0.7, actual, 0.0)
    found = one(CLASSES, Rows(np.full(3_000, np.nan), predicted, actual))
    assert isinstance(found, Classes)
    values = {name: figure.value for name, figure in metrics.of(found).items()}

    assert found.matrix.T.tolist() == sk.confusion_matrix(actual, predicted).tolist()
    for name, function in (
        ("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score),
    ):  # fmt: skip
        assert values[name] == pytest.approx(function(actual, predicted, average="macro"))


def test_beyond_twenty_classes_the_rest_is_one() -> None:
    ruler = Ruler(Kind.CLASSES, tuple(f"c{i}" for i in range(30)))
    found = one(ruler, Rows(np.full(2, np.nan), np.array([25.0, 3.0]), np.array([29.0, 3.0])))
    assert isinstance(found, Classes)

    assert ruler.names[-1] == "other"
    assert found.matrix.shape == (21, 21)
    assert (found.matrix[20, 20], found.matrix[3, 3]) == (1, 1)


def test_of_two_classes_the_positive_one_comes_last() -> None:
    ruler = Ruler(Kind.CLASSES, ("bad", "good"), positive=0)
    found = one(ruler, Rows(np.full(3, np.nan), np.array([0.0, 0, 1]), np.array([0.0, 1, 1])))
    assert isinstance(found, Classes)

    assert ruler.names == ["good", "bad"]
    assert found.matrix.tolist() == [[1, 0], [1, 1]]


def test_what_cannot_be_said_is_not_said() -> None:
    rows = scored(29)
    assert metrics.of(one(SCORES, rows))["accuracy"].reason == "Fewer than 30 labels: 29"

    score = np.full(100, 0.2)
    figures = metrics.of(one(SCORES, Rows(score, np.zeros(100), np.zeros(100))))
    assert figures["roc_auc"] == Figure(None, reason="Only one class was seen")
    assert figures["precision"].reason == "No row was predicted positive"
    assert figures["recall"].reason == "No label is positive"
    assert figures["accuracy"].value == 1.0

    same = Rows(np.full(50, np.nan), np.full(50, 43.0), np.full(50, 50.0))
    figures = metrics.of(one(VALUES, same))
    assert figures["mae"] == Figure(7.0, 7.0, 7.0)
    assert figures["r2"].reason == "All labels are the same"
    # In sums of fixed point a third of a spread has a rest, which is no variance.
    same = Rows(np.full(50, np.nan), np.full(50, 43.0), np.full(50, 50.0 + 7 / 3))
    assert metrics.of(one(VALUES, same))["r2"].reason == "All labels are the same"


def test_shares_have_wilsons_interval() -> None:
    assert metrics.wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=5e-5)
    assert metrics.wilson(0, 30)[0] == 0.0
    assert metrics.wilson(0, 30)[1] == pytest.approx(0.1135, abs=5e-5)
    assert metrics.wilson(30, 30)[1] == 1.0


def test_quality_is_estimated_from_scores_as_labels_would_have_it() -> None:
    rows = scored(100_000)
    place = np.minimum((rows.score * 50).astype(int), 49)
    totals = np.bincount(place, minlength=50)
    shares = np.bincount(place, weights=rows.actual, minlength=50) / totals
    later = scored(100_000)
    counts = np.zeros((50, 2), np.int64)
    later_place = np.minimum((later.score * 50).astype(int), 49)
    np.add.at(counts, (later_place, later.predicted.astype(int)), 1)

    known = cbpe.shares_of({"shares": [*shares[:48], None, None]})
    assert known is not None
    figures = cbpe.estimate(known, counts)

    truth = metrics.of(one(SCORES, later))
    for name, figure in figures.items():
        assert figure.value == pytest.approx(truth[name].value, abs=0.01)
        assert figure.low is not None
        assert figure.high is not None
        assert figure.low < figure.value < figure.high  # type: ignore[operator]
    assert cbpe.estimate(known, counts * 0)["f1"].reason.startswith("Fewer than 30 rows")
    assert cbpe.shares_of({}) is None


def test_a_ruler_is_kept_as_json() -> None:
    for ruler in (SCORES, CLASSES, VALUES):
        assert Ruler.from_json(ruler.as_json()) == ruler
