"""More than two classes with probabilities: figures like scikit-learn's, sums that are exact."""

from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from apps.monitoring.models import Slice
from apps.quality import columns, marks, metrics, selectors
from apps.quality.lifecycle import Kind
from apps.quality.marks import Probabilities, Rows, Ruler
from apps.quality.models import Labelled, Marks, Measure
from apps.quality.services import feedback, joining
from apps.serving.models import Revision
from tests.people import Cast
from tests.quality import making
from tests.quality.making import CLASS, START

Floats = npt.NDArray[np.float64]
PROBABILITIES = CLASS | {"form": "probabilities"}


def ruler(classes: int) -> Ruler:
    return Ruler(Kind.PROBABILITIES, tuple(f"c{i:02}" for i in range(classes)))


def drawn(
    seed: int, n: int, shares: list[float], apart: float, sure: float = 1.0
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Probabilities and labels of classes so far apart; surer than right where `sure` > 1."""
    rng = np.random.default_rng(seed)
    actual = rng.choice(len(shares), size=n, p=shares)
    points = rng.normal(size=(n, len(shares)))
    points[np.arange(n), actual] += apart
    powers = np.exp(sure * (points - points.max(axis=1, keepdims=True)))
    each: Floats = powers / powers.sum(axis=1, keepdims=True)
    return each, actual


def rows_of(each: Floats, actual: npt.NDArray[np.int64], by: Ruler) -> Rows:
    return Rows(
        np.full(len(actual), np.nan), each.argmax(axis=1).astype(float), actual.astype(float),
        by.each(each),
    )  # fmt: skip


def one(by: Ruler, rows: Rows) -> Probabilities:
    vector = marks.count(by, rows, np.zeros(len(rows.actual), np.int64), 1)[0]
    found = marks.read(by, vector)
    assert isinstance(found, Probabilities)
    return found


EVEN3, EVEN10, EVEN20 = [1 / 3] * 3, [0.1] * 10, [0.05] * 20


@pytest.mark.parametrize(
    ("shares", "apart", "sure"),
    [
        (EVEN3, 1.5, 1.0), (EVEN3, 3.0, 3.0), ([0.9, 0.09, 0.01], 2.0, 1.0), (EVEN10, 2.0, 2.0),
        (EVEN10, 4.0, 3.0), (EVEN20, 2.0, 1.0), (EVEN20, 4.0, 4.0),
    ],
)  # fmt: skip
def test_the_figures_are_those_of_scikit_learn(
    shares: list[float], apart: float, sure: float
) -> None:
    each, actual = drawn(3, 20_000, shares, apart, sure)
    by = ruler(len(shares))
    figures = metrics.of(one(by, rows_of(each, actual, by)))

    area = figures["roc_auc"]
    assert area.value is not None
    assert area.bound is not None
    true = sk.roc_auc_score(actual, each, multi_class="ovr", average="macro")
    assert abs(area.value - true) <= min(area.bound, 0.001) + 1e-12
    assert area.bound < 0.012
    assert figures["log_loss"].value == pytest.approx(sk.log_loss(actual, each), rel=1e-12)
    assert figures["accuracy"].value == sk.accuracy_score(actual, each.argmax(axis=1))
    f1 = sk.f1_score(actual, each.argmax(axis=1), average="macro")
    assert figures["f1"].value == pytest.approx(f1)


@pytest.mark.parametrize(("shares", "apart"), [(EVEN3, 1.5), ([0.85, 0.1, 0.05], 2.0), (EVEN10, 2)])
def test_intervals_hold_what_they_are_to_hold(shares: list[float], apart: float) -> None:
    """Of 300 samples; the AUC's are wider than need be, so at least 95 % of them."""
    by = ruler(len(shares))
    each, actual = drawn(1, 200_000, shares, apart)
    area = sk.roc_auc_score(actual, each, multi_class="ovr", average="macro")
    loss = sk.log_loss(actual, each)
    areas, widths, held = [], [], [0, 0]
    for seed in range(300):
        figures = metrics.of(
            one(by, rows_of(*drawn(seed, 500, shares, apart), by)), ["roc_auc", "log_loss"]
        )
        for place, (name, true) in enumerate((("roc_auc", area), ("log_loss", loss))):
            figure = figures[name]
            assert figure.low is not None
            assert figure.high is not None
            held[place] += figure.low <= true <= figure.high
            if name == "roc_auc":
                assert figure.value is not None
                areas.append(figure.value)
                widths.append(figure.high - figure.low)

    assert held[0] >= 0.95 * 300
    assert held[1] >= 0.91 * 300
    assert np.mean(widths) < 2 * 2 * metrics.Z * np.std(areas)


@pytest.mark.parametrize("labels", [[1, 200, 200], [1, 1, 200], [3, 100, 100], [10, 10, 10]])
def test_intervals_of_rare_classes_hold_what_they_are_to_hold(labels: list[int]) -> None:
    """Of one label the spread that was seen is 0: intervals held 36 to 60 %."""
    by, many = ruler(3), 200_000 // sum(labels)

    def made(rng: np.random.Generator, times: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        actual = np.repeat(np.arange(3), np.array(labels) * times)
        points = rng.normal(size=(len(actual), 3))
        points[np.arange(len(actual)), actual] += 1.5
        powers = np.exp(points)
        return powers / powers.sum(axis=1, keepdims=True), actual

    each, actual = made(np.random.default_rng(1), many)
    true = sk.roc_auc_score(actual, each, multi_class="ovr", average="macro")
    rng, held = np.random.default_rng(2), 0
    for _ in range(200):
        figure = metrics.of(one(by, rows_of(*made(rng, 1), by)), ["roc_auc"])["roc_auc"]
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= true <= figure.high
    assert held >= 0.95 * 200


def test_a_mean_area_of_one_has_a_lower_end() -> None:
    by, actual = ruler(3), np.repeat([0, 1, 2], [10, 10, 20])
    each = np.where(np.arange(3) == actual[:, None], 0.9, 0.05)
    figure = metrics.of(one(by, rows_of(each, actual, by)), ["roc_auc"])["roc_auc"]
    ends = [metrics.wilson(n, n)[0] for n in (10, 10, 20)]
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(sum(ends) / 3)


@given(st.integers(1, 40), st.integers(0, 40), st.integers(3, 30), st.integers(0, 2**32 - 1))
def test_what_is_taken_out_leaves_no_trace(n: int, cut: int, classes: int, seed: int) -> None:
    by = ruler(classes)
    rows = rows_of(*drawn(seed, n, [1 / classes] * classes, 1.0), by)
    groups = (np.arange(n) < cut).astype(np.int64)

    both = marks.count(by, rows, groups, 2)

    whole = marks.count(by, rows, np.zeros_like(groups), 1)[0]
    assert ((whole - both[0]) == both[1]).all()
    assert whole.size == by.size
    first, second, sum_ = (marks.read(by, vector) for vector in (*both, whole))
    assert isinstance(first, Probabilities)
    assert isinstance(second, Probabilities)
    assert isinstance(sum_, Probabilities)
    merged = first + second
    assert (merged.cells == sum_.cells).all()
    assert merged.loss == pytest.approx(sum_.loss)


@pytest.fixture
def predicted(cast: Cast, revision: Revision, now: datetime) -> Floats:
    """60 rows with probabilities of three classes, and labels: two of three are as foretold."""
    making.baseline(revision.version, PROBABILITIES)
    each, _ = drawn(9, 60, EVEN3, 1.0)
    outputs: dict[str, making.Column] = {f"out.{i}": each[:, i] for i in range(3)}
    kinds: dict[str, making.Column] = {"in.kind": ["far" if i % 2 else "near" for i in range(60)]}
    making.row_file(revision, [f"r{i}" for i in range(60)], outputs | kinds)
    labels = {f"r{i}": "abc"[(int(each[i].argmax()) + (i % 3 == 0)) % 3] for i in range(60)}
    send(cast, labels, now)
    joining.sweep(now=now)
    return each


def send(cast: Cast, labels: dict[str, str], now: datetime) -> None:
    batch = [{"request_id": id_, "label": label} for id_, label in labels.items()]
    feedback.send(sender=cast.owner, batch=batch, now=now)


@pytest.mark.django_db
def test_labels_are_joined_to_the_probabilities_that_were_answered(
    revision: Revision, predicted: Floats
) -> None:
    assert Measure.objects.get().ruler["kind"] == "probabilities"
    kept = Labelled.objects.get(request_id="r7")
    assert kept.each == predicted[7].tolist()

    endpoint = revision.endpoint
    seen = selectors.measured(endpoint, START, START + timedelta(hours=1))
    names = dict(Labelled.objects.values_list("request_id", "actual"))
    actual = np.array([names[f"r{i}"] for i in range(60)], int)
    true = sk.roc_auc_score(actual, predicted, multi_class="ovr", average="macro")
    area = seen.metrics["roc_auc"]
    assert area.bound is not None
    assert area.value == pytest.approx(true, abs=area.bound)
    assert seen.metrics["log_loss"].value == pytest.approx(sk.log_loss(actual, predicted), abs=1e-6)
    confusion = selectors.confusion_of(seen)
    assert confusion is not None
    assert confusion[0] == ["a", "b", "c"]
    assert int(np.trace(confusion[1])) == 40
    by = columns.by_column(endpoint, "in.kind", START, START + timedelta(hours=1))
    assert [group.metrics["log_loss"].value is not None for group in by.groups] == [True, True]
    assert sum(group.labels for group in by.groups) == 60


@pytest.mark.django_db
def test_corrections_are_exact_and_a_later_slice_counts_the_same(
    cast: Cast, revision: Revision, predicted: Floats, now: datetime
) -> None:
    before = list(Marks.objects.order_by("pk").values())
    first = dict(Labelled.objects.values_list("request_id", "label"))
    later = now + timedelta(seconds=1)
    send(cast, dict.fromkeys(first, "a"), later)
    joining.sweep(now=later)
    assert list(Marks.objects.order_by("pk").values()) != before
    later += timedelta(seconds=1)
    send(cast, first, later)
    joining.sweep(now=later)
    assert list(Marks.objects.order_by("pk").values()) == before

    everything = [{"column": "in.kind", "op": "not_null", "value": None}]
    late = Slice.objects.create(
        endpoint=revision.endpoint, name="all", condition=everything, created_at=now
    )
    joining.sweep(now=later)
    assert sums_of(late) == sums_of(None)


def sums_of(part: Slice | None) -> list[tuple[object, ...]]:
    rows = Marks.objects.filter(slice=part).order_by("width_seconds", "at")
    return list(rows.values_list("width_seconds", "at", "labels", "sums"))
