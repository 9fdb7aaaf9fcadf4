"""Labels meet their predictions: late, early, corrected, of copies, of nothing at all."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from apps.accounts.models import User
from apps.quality import marks, metrics, selectors
from apps.quality.amounts import Values
from apps.quality.lifecycle import State
from apps.quality.marks import Classes, Ruler, Scores
from apps.quality.models import Feedback, Labelled, Marks, Measure
from apps.quality.services import feedback, joining, predictions, retention
from apps.quality.services import states as fates
from apps.quality.services.batches import Batch
from apps.serving.models import Endpoint, Revision
from tests.factories.accounts import UserFactory
from tests.people import Cast
from tests.quality import making
from tests.quality.making import CLASS, SCORE, START, VALUE

pytestmark = pytest.mark.django_db


def send(sender: User, labels: dict[str, Any], now: datetime, **more: Any) -> feedback.Receipt:
    batch = [{"request_id": id_, "label": label} | more for id_, label in labels.items()]
    return feedback.send(sender=sender, batch=batch, now=now)


def states(**of: Any) -> dict[str, str]:
    return dict(Feedback.objects.filter(**of).values_list("request_id", "state"))


def sums_of(revision: Revision, width: int, **of: Any) -> Any:
    """The sums of all spans of one width."""
    ruler = Ruler.from_json(Measure.objects.get(revision=revision).ruler)
    of = {"shadow": False, "slice": None} | of
    rows = Marks.objects.filter(revision=revision, width_seconds=width, **of)
    vectors = [marks.unpack(row.sums) for row in rows]
    return marks.read(ruler, np.sum(vectors, axis=0))


def confusion(revision: Revision, width: int = 60, **of: Any) -> list[list[int]]:
    """(predicted, label) counts."""
    found = sums_of(revision, width, **of)
    cells = found.cells.sum(axis=0) if isinstance(found, Scores) else found.matrix
    return cells.tolist()  # type: ignore[no-any-return]


def ids(n: int) -> Sequence[str]:
    return [f"r{i}" for i in range(n)]


def test_labels_are_counted_with_their_predictions_in_all_widths(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ids(4), {"out.0": [0.9, 0.2, 0.7, 0.4]})

    receipt = send(cast.owner, {"r0": 1, "r1": 0, "r2": 0, "r3": 1}, now)
    assert (receipt.accepted, receipt.refused) == (4, [])
    assert joining.sweep(now=now) == 4

    assert states() == dict.fromkeys(ids(4), State.JOINED)
    for width in (60, 300, 3600, 86_400):
        assert confusion(revision, width) == [[1, 1], [1, 1]]
        [span] = Marks.objects.filter(width_seconds=width)
        assert span.labels == 4
        assert span.at.timestamp() == START.timestamp() // width * width
    found = sums_of(revision, 60)
    assert found.square == pytest.approx(0.01 + 0.04 + 0.49 + 0.36, abs=1e-9)


def test_labels_that_count_nowhere_are_told_whoever_sent_them(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    """Those of an administrator, who is in no team, stood on no page."""
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    admin = UserFactory.create(username="root", is_superuser=True)
    send(admin, {"a": "many", "nobody": 1}, now)
    send(UserFactory.create(username="trudy"), {"elsewhere": 1}, now)
    joining.sweep(now=now)

    told = selectors.uncounted(revision.endpoint)
    assert [(row["sender__username"], row["state"], row["labels"]) for row in told] == [
        ("root", "waiting", 1),
        ("root", "wrong_type", 1),
    ]


def test_the_same_again_and_an_older_one_change_nothing(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now, observed_at="2030-01-07T11:30:00Z")
    joining.sweep(now=now)
    before = list(Marks.objects.order_by("pk").values())

    assert send(cast.owner, {"a": 1}, now).repeated == 1
    assert send(cast.owner, {"a": 0}, now, observed_at="2030-01-07T11:29:00Z").older == 1
    joining.sweep(now=now + timedelta(hours=1))

    assert list(Marks.objects.order_by("pk").values()) == before


def test_a_correction_takes_the_old_label_out_exactly(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    scores = np.random.default_rng(1).uniform(size=50).tolist()
    making.row_file(revision, ids(50), {"out.0": scores})
    send(cast.owner, dict.fromkeys(ids(50), 1), now)
    joining.sweep(now=now)
    before = list(Marks.objects.order_by("pk").values())

    later = now + timedelta(seconds=1)
    assert send(cast.owner, dict.fromkeys(ids(50), 0), later).corrected == 50
    joining.sweep(now=later)
    assert sum(confusion(revision)[i][1] for i in range(2)) == 0
    assert send(cast.owner, dict.fromkeys(ids(50), 1), later + timedelta(seconds=1)).corrected == 50
    joining.sweep(now=later + timedelta(seconds=1))

    assert list(Marks.objects.order_by("pk").values()) == before


def test_a_label_that_comes_before_its_prediction_waits_for_it(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    send(cast.owner, {"a": 1}, now)
    joining.sweep(now=now)
    [waits] = Feedback.objects.all()
    assert (waits.state, waits.next_try_at) == (State.WAITING, now + timedelta(seconds=10))

    soon = now + timedelta(seconds=10)
    making.row_file(revision, ["a"], {"out.0": [0.9]}, created_at=soon)
    joining.sweep(now=soon)

    assert states() == {"a": State.JOINED}
    assert confusion(revision) == [[0, 0], [0, 1]]


def test_a_label_of_nothing_is_unknown_when_it_has_waited_long_enough(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    send(cast.owner, {"nothing": 1}, now)
    joining.sweep(now=now)
    joining.sweep(now=now + timedelta(days=29))
    assert states() == {"nothing": State.WAITING}

    joining.sweep(now=now + timedelta(days=30))

    [lost] = Feedback.objects.all()
    assert (lost.state, lost.reason) == (State.UNKNOWN, "No such prediction was found")
    assert lost.next_try_at is None


def test_copies_are_counted_apart_also_when_they_come_later(
    cast: Cast, endpoint: Endpoint, now: datetime
) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    for one in (stable, candidate):
        making.baseline(one.version, SCORE)
    making.row_file(stable, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now)
    joining.sweep(now=now)

    later = now + timedelta(minutes=10)
    making.row_file(candidate, ["a"], {"out.0": [0.1]}, shadow=[True], created_at=later)
    joining.sweep(now=later)

    assert confusion(stable) == [[0, 0], [0, 1]]
    assert confusion(candidate, shadow=True) == [[0, 1], [0, 0]]
    assert not Marks.objects.filter(revision=candidate, shadow=False).exists()
    assert Feedback.objects.get().next_try_at is None


def test_what_is_no_label_of_the_model_is_in_no_sum(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, CLASS)
    making.row_file(revision, ids(3), {"out.0": ["a", "b", "c"]})
    send(cast.owner, {"r0": "a", "r1": "zebra", "r2": 7}, now)
    joining.sweep(now=now)

    assert states() == {
        "r0": State.JOINED, "r1": State.WRONG_TYPE, "r2": State.WRONG_TYPE,
    }  # fmt: skip
    reason = Feedback.objects.get(request_id="r1").reason
    assert reason == "zebra is no class of the model; it knows a, b, c"
    found = sums_of(revision, 60)
    assert isinstance(found, Classes)
    assert found.matrix.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_amounts_are_summed_in_the_labels_own_unit(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    quality = {"label_mean": 10.0, "label_std": 4.0}
    making.baseline(revision.version, VALUE, quality=quality)
    making.row_file(revision, ids(3), {"out.0": [8.0, 12.0, 10.0]})
    send(cast.owner, {"r0": 10, "r1": 11.0, "r2": 1e12}, now)
    joining.sweep(now=now)

    found = sums_of(revision, 60)
    assert isinstance(found, Values)
    assert (found.n, found.extreme) == (2, 1)
    assert (found.e, found.e_abs, found.e2, found.e4) == (1.0, 3.0, 5.0, 17.0)
    assert (found.about(0.0).y, found.about(0.0).y2) == (21.0, 221.0)


def test_of_many_rows_a_list_of_labels_says_each(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"] * 3, {"out.0": [0.9, 0.9, 0.1]}, row=[0, 1, 2])
    batch = [{"request_id": "a", "label": [1, 0]}, {"request_id": "a", "label": 0, "row": 2}]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)

    assert confusion(revision) == [[1, 0], [1, 1]]


def test_only_what_was_answered_is_joined(cast: Cast, revision: Revision, now: datetime) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ids(2), {"out.0": [None, 0.5]}, status=[500, 200], row=[0, -1])
    send(cast.owner, {"r0": 1, "r1": 1}, now)
    joining.sweep(now=now)

    assert states() == dict.fromkeys(ids(2), State.WAITING)


def test_labels_count_only_where_their_sender_may_send(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.stranger, {"a": 0}, now)
    refused = send(cast.stranger, {"a": 0}, now, endpoint="production/flights").refused
    joining.sweep(now=now)

    assert [one.code for one in refused] == ["not_found"]
    assert states() == {"a": State.WAITING}
    assert not Labelled.objects.exists()


def test_two_senders_agree_on_what_was_observed_last(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now, observed_at="2030-01-07T11:59:00Z")
    send(cast.operator, {"a": 0}, now, observed_at="2030-01-07T11:58:00Z")
    joining.sweep(now=now)

    assert confusion(revision) == [[0, 0], [0, 1]]
    assert set(Feedback.objects.values_list("state", flat=True)) == {State.JOINED}


def test_without_a_baseline_the_labels_tell_what_they_are(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.row_file(revision, ids(40), {"out.0": np.linspace(0.01, 0.99, 40)})
    few = {f"r{i}": int(i >= 20) for i in range(0, 40, 2)}
    send(cast.owner, few, now)
    joining.sweep(now=now)
    assert states() == dict.fromkeys(few, State.WAITING)  # 20 labels do not tell it

    rest = {f"r{i}": int(i >= 20) for i in range(1, 40, 2)}
    send(cast.owner, rest, now + timedelta(seconds=20))
    send(cast.owner, dict.fromkeys(few, 0), now + timedelta(seconds=19))
    joining.sweep(now=now + timedelta(seconds=20))

    measure = Measure.objects.get(revision=revision)
    assert (measure.baseline, measure.meaning["task"]) == (None, "binary")
    assert sum(map(sum, confusion(revision))) == 40


def test_a_baseline_that_comes_later_is_followed(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.row_file(revision, ids(40), {"out.0": np.linspace(0.01, 0.99, 40)})
    send(cast.owner, {f"r{i}": int(i >= 20) for i in range(40)}, now)
    joining.sweep(now=now)
    assert Measure.objects.get().ruler["positive"] == 1

    making.baseline(revision.version, SCORE | {"positive": 0})
    joining.sweep(now=now + timedelta(seconds=5))

    assert Measure.objects.get().ruler["positive"] == 0
    assert confusion(revision) == [[20, 0], [0, 20]]
    assert set(states().values()) == {State.JOINED}


def test_a_label_corrected_while_it_is_joined_is_not_lost(
    cast: Cast, revision: Revision, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now)
    search = predictions.of

    def meanwhile(batch: Batch) -> Any:
        found = search(batch)
        if batch.sent[0].label == 1:
            send(cast.owner, {"a": 0}, now + timedelta(seconds=1))
        return found

    monkeypatch.setattr(predictions, "of", meanwhile)
    joining.sweep(now=now)
    joining.sweep(now=now + timedelta(seconds=2))

    assert confusion(revision) == [[0, 0], [1, 0]]
    assert states() == {"a": State.JOINED}


def test_a_batch_that_breaks_leaves_everything_as_it_was(
    cast: Cast, revision: Revision, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(fates, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            joining.sweep(now=now)
    assert not Marks.objects.exists()
    assert not Labelled.objects.exists()

    joining.sweep(now=now)
    assert confusion(revision) == [[0, 0], [0, 1]]


def test_fine_sums_are_kept_for_a_time_and_coarse_ones_for_longer(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, SCORE)
    making.row_file(revision, ["a"], {"out.0": [0.9]})
    send(cast.owner, {"a": 1}, now)
    joining.sweep(now=now)

    def widths() -> set[int]:
        return set(Marks.objects.values_list("width_seconds", flat=True))

    retention.expire(now=now + timedelta(days=5))
    assert widths() == {300, 3600, 86_400}
    retention.expire(now=now + timedelta(days=401))
    assert widths() == {86_400}
    assert not Labelled.objects.exists()


def amounts_of(revision: Revision) -> Values:
    found = sums_of(revision, 86_400)
    assert isinstance(found, Values)
    return found


def test_amounts_that_come_one_by_one_are_all_counted(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    """The first label alone was the ruler: its spread of 0 became 1, and prices were extreme."""
    making.baseline(revision.version, VALUE)
    rng = np.random.default_rng(4)
    said = rng.normal(3e6, 1e6, 60)
    actual = said + rng.normal(0, 1e5, 60)
    making.row_file(revision, ids(60), {"out.0": said})
    for place, price in enumerate(actual.tolist()):
        at = now + timedelta(minutes=place)
        send(cast.owner, {f"r{place}": price}, at)
        joining.sweep(now=at)
        if place == 28:
            assert not Measure.objects.exists()
            [told] = selectors.uncounted(revision.endpoint)
            assert (told["reason"], told["labels"]) == ("Too few labels to tell what they are", 29)

    found = amounts_of(revision)
    assert (found.n, found.extreme) == (60, 0)
    rmse = metrics.of(found)["rmse"].value
    assert rmse == pytest.approx(float(np.sqrt(np.mean((actual - said) ** 2))), rel=1e-9)


@pytest.mark.parametrize("size", [1e-7, 1e-30, 1e12])
def test_amounts_of_any_size_have_an_error_and_a_share(
    cast: Cast, revision: Revision, now: datetime, size: float
) -> None:
    """Of labels near 1e-7 the error was 0.0, and they were all the same."""
    making.baseline(revision.version, VALUE)
    rng = np.random.default_rng(5)
    actual = size * rng.normal(5, 1, 40)
    said = actual + size * rng.normal(0, 0.5, 40)
    making.row_file(revision, ids(40), {"out.0": said})
    labels = dict(zip(ids(40), actual.tolist(), strict=True))
    send(cast.owner, {"r0": labels.pop("r0")}, now)
    joining.sweep(now=now)
    send(cast.owner, labels, now)
    joining.sweep(now=now)

    figures = metrics.of(amounts_of(revision))
    assert figures["rmse"].value == pytest.approx(sk.root_mean_squared_error(actual, said))
    assert figures["r2"].value == pytest.approx(sk.r2_score(actual, said))


def test_one_label_out_of_all_measure_is_no_ruler_and_is_told(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, VALUE)
    said = np.linspace(10, 20, 40)
    making.row_file(revision, ids(40), {"out.0": said})
    labels: dict[str, Any] = dict(zip(ids(40), (said + 1).tolist(), strict=True))
    send(cast.owner, labels | {"r7": 1e300}, now)
    joining.sweep(now=now)

    seen = selectors.measured(revision.endpoint, START, now)
    assert (seen.labels, seen.extreme) == (39, 1)
    assert seen.metrics["mae"].value == pytest.approx(1.0)


def test_amounts_that_are_mostly_zero_are_measured_by_the_errors(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, VALUE)
    making.row_file(revision, ids(80), {"out.0": np.full(80, 3e7)})
    send(cast.owner, dict.fromkeys(ids(40), 0), now)
    joining.sweep(now=now)
    send(cast.owner, {f"r{place}": 5e7 for place in range(40, 80)}, now)
    joining.sweep(now=now)

    found = amounts_of(revision)
    assert (found.n, found.extreme) == (80, 0)
    assert found.e_abs == pytest.approx(40 * 5e7)


def test_what_is_too_small_for_the_ruler_is_not_told_as_nothing(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    making.baseline(revision.version, VALUE, quality={"label_mean": 0.0, "label_std": 1e7})
    making.row_file(revision, ids(40), {"out.0": np.linspace(1, 2, 40)})
    send(cast.owner, dict(zip(ids(40), np.linspace(2, 1, 40).tolist(), strict=True)), now)
    joining.sweep(now=now)

    figures = metrics.of(amounts_of(revision), ["rmse", "r2"])
    assert {one.reason for one in figures.values()} == {metrics.TOO_SMALL}


def test_labels_that_stay_too_few_say_so_at_the_end(
    cast: Cast, revision: Revision, now: datetime
) -> None:
    """They were told as labels of no prediction, which was there."""
    making.baseline(revision.version, VALUE)
    making.row_file(revision, ids(3), {"out.0": [1.0, 2.0, 3.0]})
    send(cast.owner, {"r0": 1, "r1": 2, "nobody": 3}, now)
    joining.sweep(now=now)
    joining.sweep(now=now + timedelta(days=31))

    told = {row["reason"]: row["labels"] for row in selectors.uncounted(revision.endpoint)}
    assert told == {
        "Too few labels to tell what they are": 2, "No such prediction was found": 1,
    }  # fmt: skip
