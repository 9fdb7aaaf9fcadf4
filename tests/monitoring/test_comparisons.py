"""Versions with baselines of other data: rows of one are counted in the other's bins too."""

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from apps.baselines import distances
from apps.baselines.layout import Layout, Role, fit, pack64
from apps.baselines.meaning import Form, Meaning, Task
from apps.baselines.models import Baseline
from apps.baselines.selectors import shape
from apps.monitoring.drift import State
from apps.monitoring.models import Comparison, Counted, RowFile, Slice, Tally
from apps.monitoring.selectors import columns, sliced, versus
from apps.monitoring.selectors import tallies as reading
from apps.monitoring.services import comparisons, tallies
from apps.serving.models import Endpoint, Revision
from tests.monitoring.making import segment
from tests.monitoring.test_tallies import AT, DAY, MINUTE, asked, collect

HOUR = timedelta(hours=1)
SINCE, UNTIL = AT, AT + HOUR
pytestmark = pytest.mark.django_db


def freeze(revision: Revision, low: float, carriers: tuple[str, str], now: datetime = AT) -> Layout:
    """The bins of x from `low` to `low` + 99 and of two carriers, in force for its version."""
    table = pa.table(
        {
            "in.x": low + np.arange(100.0),
            "in.carrier": [*carriers] * 50,
            "out.0": low + np.arange(100.0) * 2,
        }
    )
    roles = {"in.x": Role.INPUT, "in.carrier": Role.INPUT, "out.0": Role.OUTPUT}
    layout = fit(table, roles, None)
    Baseline.objects.create(
        version=revision.version,
        number=revision.version.baselines.count() + 1,
        origin="training",
        state="ready",
        rows=100,
        layout=layout.as_json(),
        counts=pack64(layout.count(table)[0]),
        created_at=now,
        frozen_at=now,
    )
    return layout


def both(endpoint: Endpoint) -> tuple[Revision, Revision]:
    stable, candidate = endpoint.revisions.select_related("version", "build").order_by("number")
    return candidate, stable


def send(
    revision: Revision, values: range, carrier: str = "UA", second: float = 0, **more: object
) -> None:
    rows = [asked(second + place, (x, carrier), **more) for place, x in enumerate(values)]
    segment(revision.pk, rows)


def answered(endpoint: Endpoint) -> tuple[Revision, Revision]:
    """Both answered, each frozen with data of its own."""
    candidate, stable = both(endpoint)
    freeze(stable, 0.0, ("UA", "B6"))
    freeze(candidate, 0.5, ("UA", "DL"))
    send(stable, range(0, 100))
    send(candidate, range(40, 60), "B6")
    collect()
    while tallies.count(now=AT + MINUTE):
        pass
    return candidate, stable


def test_the_candidates_rows_are_counted_in_the_stable_ones_bins_too(endpoint: Endpoint) -> None:
    candidate, stable = answered(endpoint)
    [made] = Comparison.objects.all()
    assert (made.revision, made.other) == (candidate, stable)
    counted = Counted.objects.values_list("row_file__revision__number", "baseline__version__number")
    assert sorted(counted) == [(1, 1), (2, 1), (2, 2)]
    pair = versus.during(candidate, stable, SINCE, UNTIL)
    assert pair.one.also is not None
    assert pair.one.also == pair.other.baseline
    found = {one.label: one for one in versus.judged(pair, SINCE, UNTIL, now=AT + HOUR).columns}
    layout = shape(pair.other.baseline).layout
    ours = layout.count(rows_of(range(40, 60), "B6"))[0]
    theirs = layout.count(rows_of(range(0, 100), "UA"))[0]
    told = {one.column: one for one in distances.compare(layout, theirs, ours, is_fitted=False)}
    assert set(found) == {"x", "carrier", "out.0"}
    for name in ("in.x", "in.carrier"):
        label = name.removeprefix("in.")
        assert (found[label].js, found[label].ks) == (told[name].js, told[name].ks)
        assert (found[label].values, found[label].reference_values) == (20, 100)
    assert State.INCOMPARABLE not in {one.state for one in found.values()}
    assert versus.notes(pair) == {}


def rows_of(values: range, carrier: str) -> pa.Table:
    return pa.table(
        {
            "in.x": np.array(values, dtype=float),
            "in.carrier": [carrier] * len(values),
            "out.0": np.ones(len(values)),
        }
    )


def test_the_other_way_round_the_same_bins_are_used(endpoint: Endpoint) -> None:
    candidate, stable = answered(endpoint)
    one, other = (
        versus.during(*pair, SINCE, UNTIL) for pair in ((candidate, stable), (stable, candidate))
    )
    assert other.other.also == one.one.also == one.other.baseline
    js = [
        {each.label: each.js for each in versus.judged(pair, SINCE, UNTIL).columns}
        for pair in (one, other)
    ]
    assert js[0] == js[1]


def test_sums_of_an_endpoint_have_each_row_once(endpoint: Endpoint) -> None:
    candidate, stable = both(endpoint)
    freeze(stable, 0.0, ("UA", "B6"))
    freeze(candidate, 0.5, ("UA", "DL"))
    part = Slice.objects.create(
        endpoint=endpoint, name="UA", created_at=AT,
        condition=[{"column": "in.carrier", "op": "eq", "value": "UA"}],
    )  # fmt: skip
    send(stable, range(0, 30))
    send(candidate, range(0, 20))
    collect()
    while tallies.count(now=AT + MINUTE):
        pass
    assert Counted.objects.count() == 6
    assert sliced.total(endpoint, part, SINCE, UNTIL, set()).requests == 50
    series = sliced.series(endpoint, part, SINCE, UNTIL, 3600)
    assert [round(one.rate[0] * 3600) for one in series] == [30, 20]
    baseline = stable.version.baselines.get()
    assert reading.window(endpoint, baseline, SINCE, UNTIL, now=AT + HOUR).rows == 30
    assert reading.rows(endpoint, baseline, SINCE, UNTIL, now=AT + HOUR) == 30
    assert reading.rows(endpoint, baseline, UNTIL, UNTIL, now=AT + HOUR) == 0
    pair = versus.during(candidate, stable, SINCE, UNTIL, slice=part)
    assert pair.one.also == baseline


def test_rows_that_wait_to_be_counted_are_not_left_out_silently(endpoint: Endpoint) -> None:
    """What was counted in the other's bins is all rows of a time, or it is not used."""
    candidate, stable = answered(endpoint)
    Comparison.objects.all().delete()
    send(candidate, range(5), second=120)
    own = RowFile.objects.filter(revision=candidate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparisons, "begin", lambda **_: None)
        collect(AT + 2 * MINUTE)
        assert [file.counted.count() for file in own.order_by("first_at")] == [2, 1]
    comparisons.begin(now=AT + 3 * MINUTE)
    pair = versus.during(candidate, stable, SINCE, UNTIL)
    assert pair.one.also is None
    assert "in.x" in versus.notes(pair)
    assert versus.during(candidate, stable, SINCE, SINCE + MINUTE).one.also is not None
    assert not tallies.count(now=AT + 3 * MINUTE)
    assert [file.counted.count() for file in own] == [2, 2]
    assert versus.during(candidate, stable, SINCE, UNTIL).one.also is not None


def test_a_new_baseline_of_the_other_is_counted_in_as_well(endpoint: Endpoint) -> None:
    candidate, stable = answered(endpoint)
    freeze(stable, 0.25, ("UA", "AA"))
    while tallies.count(now=AT + MINUTE):
        pass
    pair = versus.during(candidate, stable, SINCE, UNTIL)
    assert pair.one.also is not None
    assert pair.one.also.number == 2


@pytest.mark.parametrize(
    ("last_row", "first_row", "is_counted"),
    [(timedelta(), 6 * DAY, True), (timedelta(), 8 * DAY, False), (9 * DAY, 8 * DAY, True)],
)
def test_it_ends_a_week_after_the_others_last_row(
    endpoint: Endpoint, last_row: timedelta, first_row: timedelta, is_counted: bool
) -> None:
    candidate, stable = answered(endpoint)
    send(stable, range(0, 3), second=last_row.total_seconds())
    send(candidate, range(0, 3), second=first_row.total_seconds())
    collect(AT + 10 * DAY)
    while tallies.count(now=AT + 10 * DAY):
        pass
    newest = RowFile.objects.filter(revision=candidate).latest("last_at")
    assert newest.last_at >= AT + first_row
    assert newest.counted.filter(baseline__version=stable.version).exists() is is_counted
    assert newest.counted.filter(baseline__version=candidate.version).exists()


def test_nothing_begins_without_need(endpoint: Endpoint) -> None:
    """Of one version that serves twice, of rows long ago, and where nothing is stable."""
    candidate, stable = answered(endpoint)
    Comparison.objects.all().delete()
    comparisons.begin(now=AT + 3 * DAY)
    assert not Comparison.objects.exists()
    endpoint.stable = None
    endpoint.save()
    comparisons.begin(now=AT)
    assert not Comparison.objects.exists()
    endpoint.stable = stable
    endpoint.save()
    candidate.version = stable.version
    candidate.save()
    comparisons.begin(now=AT)
    assert not Comparison.objects.exists()


def test_when_the_candidate_became_stable_the_way_stays_as_it_was(endpoint: Endpoint) -> None:
    candidate, stable = answered(endpoint)
    endpoint.stable = candidate
    endpoint.save()
    comparisons.begin(now=AT)
    [made] = Comparison.objects.all()
    assert (made.revision, made.other) == (candidate, stable)


def test_the_score_of_another_class_is_never_set_beside(endpoint: Endpoint) -> None:
    candidate, stable = both(endpoint)
    for one, positive in ((stable, 0), (candidate, 1)):
        meaning = Meaning(Task.BINARY, Form.SCORE, ("no", "yes"), positive)
        table = pa.table({"out.0": np.linspace(0, 1, 100) ** (positive + 1)})
        layout = fit(table, {"out.0": Role.OUTPUT}, meaning)
        Baseline.objects.create(
            version=one.version, number=1, origin="training", state="ready", rows=100,
            layout=layout.as_json(), counts=pack64(layout.count(table)[0]), created_at=AT,
            meaning=meaning.as_json(), frozen_at=AT,
        )  # fmt: skip
        answer = {"predictions": [0.25]}
        segment(one.pk, [asked(place, (1, "UA"), response=answer) for place in range(9)])
    collect()
    while tallies.count(now=AT + MINUTE):
        pass
    pair = versus.during(candidate, stable, SINCE, UNTIL)
    assert pair.one.also is not None
    notes = versus.notes(pair)
    assert set(notes) == {"score"}  # out.0 is of "yes" in both
    assert "the probability of yes" in notes["score"]
    found = {one.label: one for one in versus.judged(pair, SINCE, UNTIL).columns}
    assert (found["score"].js, found["out.0"].js) == (
        None,
        None if found["out.0"].js is None else found["out.0"].js,
    )


def test_copies_are_compared_with_what_callers_got(endpoint: Endpoint) -> None:
    candidate, stable = both(endpoint)
    freeze(stable, 0.0, ("UA", "B6"))
    freeze(candidate, 0.5, ("UA", "DL"))
    send(stable, range(0, 30))
    send(candidate, range(0, 20), shadow=True)
    collect()
    while tallies.count(now=AT + MINUTE):
        pass
    pair = versus.during(candidate, stable, SINCE, UNTIL, shadow=True)
    assert (pair.one.shadow, pair.other.shadow) == (True, False)
    assert (pair.one.name, pair.other.name) == ("v2 (revision 2), copies", "v1 (revision 1)")
    seen = versus.window(pair, SINCE, UNTIL)
    assert (seen.one.rows, seen.other.rows) == (20, 30)
    back = versus.during(stable, candidate, SINCE, UNTIL, shadow=True)
    assert (back.one.shadow, back.other.shadow) == (True, True)  # it had no callers
    wanted = columns.Wanted(candidate, SINCE, UNTIL, 3600, other=stable, shadow=True, column="in.x")
    assert "v2 (revision 2), copies" in columns.distribution_chart(wanted)["note"]


def test_two_revisions_of_one_version_are_one_lens(endpoint: Endpoint) -> None:
    """The same file was counted twice for them: an error each time, and no other was counted."""
    candidate, stable = both(endpoint)
    freeze(stable, 0.0, ("UA", "B6"))
    freeze(candidate, 0.5, ("UA", "DL"))
    again = Revision.objects.get(pk=stable.pk)
    again.pk, again.number = None, 3
    again.save()
    send(stable, range(0, 30))
    send(again, range(0, 30), second=3600)
    send(candidate, range(0, 20), second=60)
    collect(now=AT + 2 * HOUR)
    for forgotten in (Comparison, Counted, Tally):
        forgotten.objects.all().delete()
    Comparison.objects.bulk_create(
        Comparison(revision=candidate, other=other, created_at=AT) for other in (stable, again)
    )
    while tallies.count(now=AT + 2 * HOUR):
        pass
    counted = Counted.objects.filter(row_file__revision=candidate)
    assert sorted(counted.values_list("baseline__version__number", flat=True)) == [1, 2]


def test_after_a_way_back_only_the_last_weeks_are_compared(endpoint: Endpoint) -> None:
    candidate, stable = both(endpoint)
    freeze(stable, 0.0, ("UA", "B6"))
    freeze(candidate, 0.5, ("UA", "DL"))
    send(stable, range(0, 10))
    send(candidate, range(0, 10))
    collect()
    [first] = _windows(candidate)
    assert first[0] == AT + MINUTE - timedelta(days=7)
    RowFile.objects.filter(revision=stable).update(last_at=AT + 90 * DAY)
    [later] = _windows(candidate)
    assert later == (AT + 55 * DAY, AT + 97 * DAY)


def _windows(revision: Revision) -> list[tuple[datetime, datetime]]:
    comparisons.begin(now=AT + MINUTE)
    return [found[2:] for found in tallies._compared([revision.pk])]
