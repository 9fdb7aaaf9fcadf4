"""Two revisions' rows of the same time: exact in the same bins, in words where bins differ."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from apps.baselines import distances, packing
from apps.baselines.layout import COUNTERS
from apps.baselines.selectors import shape
from apps.monitoring.drift import State
from apps.monitoring.models import Slice, Tally
from apps.monitoring.selectors import columns, versus
from apps.monitoring.selectors.versus import NothingToCompare
from apps.serving.models import Endpoint, Revision
from tests.monitoring import making
from tests.monitoring.tallied import flights, freeze, tally
from tests.monitoring.test_retention import keep
from tests.people import Cast, bearer

NOON = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
HOUR = timedelta(hours=1)
DAY = {"since": (NOON - 22 * HOUR).isoformat(), "until": (NOON + 2 * HOUR).isoformat()}
ONE, TWO = "v1 (revision 1)", "v2 (revision 2)"
pytestmark = pytest.mark.django_db


@pytest.fixture
def endpoint(cast: Cast, now: datetime, var: object) -> Endpoint:
    return making.endpoint(cast.team, now)


def pair_of(endpoint: Endpoint) -> tuple[Revision, Revision]:
    """The candidate and the stable one."""
    stable, candidate = endpoint.revisions.select_related("version", "build").order_by("number")
    return candidate, stable


def alike(endpoint: Endpoint, now: datetime, **live: Any) -> tuple[Revision, Revision]:
    """Both versions were frozen with the same data; the candidate's rows may differ."""
    candidate, stable = pair_of(endpoint)
    reference = flights(1, 20_000)
    first, second = (freeze(one.build, reference, now) for one in (candidate, stable))
    tally(candidate, first, NOON, flights(2, 2_000, **live))
    tally(stable, second, NOON, flights(3, 3_000))
    return candidate, stable


def unlike(endpoint: Endpoint, now: datetime) -> tuple[Revision, Revision]:
    """The stable version was frozen with other distances and other airports."""
    candidate, stable = pair_of(endpoint)
    first = freeze(candidate.build, flights(1, 20_000), now)
    second = freeze(stable.build, flights(4, 20_000, airports=(0.5, 0.5, 0.0)), now)
    tally(candidate, first, NOON, flights(2, 2_000))
    tally(stable, second, NOON, flights(3, 3_000))
    return candidate, stable


def ask(client: Client, cast: Cast, endpoint: Endpoint, path: str, **query: object) -> Any:
    address = f"/api/v1/endpoints/{endpoint.pk}/{path}?{urlencode({**DAY, **query})}"
    return client.get(address, headers=bearer(cast.viewer))


# ---- what is compared ------------------------------------------------------------------------


def test_in_the_same_bins_the_comparison_is_exact(endpoint: Endpoint, now: datetime) -> None:
    candidate, stable = alike(endpoint, now, shift=0.8)
    pair = versus.of(candidate, stable)
    found = versus.judged(pair, NOON - HOUR, NOON + HOUR)
    layout = shape(found.baseline).layout if found.baseline else None
    assert layout is not None
    expected = {
        one.column: one
        for one in distances.compare(
            layout, layout.count(flights(3, 3_000))[0],
            layout.count(flights(2, 2_000, shift=0.8))[0], is_fitted=False,
        )
    }  # fmt: skip
    assert {one.name for one in found.columns} == set(expected)
    for one in found.columns:
        told = expected[one.name]
        assert (one.js, one.psi, one.ks, one.p) == (told.js, told.psi, told.ks, told.p)
        assert (one.values, one.reference_values) == (2_000, 3_000)
    states = {one.label: one.state for one in found.columns}
    assert (states["distance"], states["hour"]) == (State.CRITICAL, State.QUIET)
    assert (found.rows, found.widened, versus.notes(pair)) == (2_000, False, {})


def test_rows_of_another_time_slice_or_of_copies_are_not_in_it(
    endpoint: Endpoint, now: datetime
) -> None:
    candidate, stable = alike(endpoint, now)
    part = Slice.objects.create(endpoint=endpoint, name="far", condition=[], created_at=now)
    pair = versus.of(candidate, stable)
    for one, many in ((pair.one, 600), (pair.other, 700)):
        tally(one.revision, one.baseline, NOON - 10 * HOUR, flights(5, 50))
        tally(one.revision, one.baseline, NOON, flights(6, many), part=part)
    Tally.objects.filter(slice=part, revision=stable).update(shadow=True)
    seen = versus.window(pair, NOON - HOUR, NOON + HOUR)
    assert (seen.one.rows, seen.other.rows) == (2_000, 3_000)
    seen = versus.window(pair, NOON - HOUR, NOON + HOUR, slice=part)
    assert (seen.one.rows, seen.other.rows) == (600, 0)


def test_columns_with_other_bins_are_not_judged_but_their_missing_values_are(
    endpoint: Endpoint, now: datetime
) -> None:
    candidate, stable = unlike(endpoint, now)
    pair = versus.of(candidate, stable)
    tally(candidate, pair.one.baseline, NOON, flights(7, 2_000, missing=0.5))
    found = {one.label: one for one in versus.judged(pair, NOON - HOUR, NOON + HOUR).columns}
    delay = found["dep_delay"]
    assert (delay.state, delay.js, delay.psi, delay.ks, delay.p) == (
        State.INCOMPARABLE, None, None, None, None,
    )  # fmt: skip
    assert (delay.missing.state, delay.missing.reference) == (State.CRITICAL, 0.0)
    assert delay.missing.window == pytest.approx(0.25, abs=0.02)
    assert (found["origin"].state, found["origin"].values) == (State.QUIET, 4_000)
    assert found["hour"].state == State.QUIET  # numbers of few kinds have the same bins
    notes = versus.notes(pair)
    assert notes["in.origin"] == "compared by the 2 values named in both, all others as one"
    assert notes["in.distance"].startswith(f"the bins of {TWO} and {ONE} were made of other data")
    assert "in.hour" not in notes


def test_a_column_that_only_one_has_is_named(endpoint: Endpoint, now: datetime) -> None:
    candidate, stable = pair_of(endpoint)
    table = flights(1, 5_000)
    freeze(candidate.build, table, now)
    freeze(stable.build, table.drop_columns(["in.hour"]), now)
    assert versus.notes(versus.of(candidate, stable)) == {"in.hour": f"only {TWO} has it"}


@pytest.mark.parametrize("whose", [0, 1])
def test_a_column_that_the_policy_hides_is_told_as_redacted(
    endpoint: Endpoint, now: datetime, whose: int
) -> None:
    """Though only one of the two has no rows of it, since that one's were all kept out."""
    keep(endpoint, now, redact="[distance, hour]")
    pair_of_both = pair_of(endpoint)
    for at, one in enumerate(pair_of_both):
        table = flights(1, 20_000)
        baseline = freeze(one.build, table, now)
        tally(one, baseline, NOON, flights(2, 2_000))
        if at == whose:
            spans = shape(baseline).layout.slices
            start, stop = spans["in.distance"][0], spans["in.distance"][1] + len(COUNTERS)
            for row in Tally.objects.filter(revision=one):
                held = packing.unpack(row.counts).copy()
                held[start:stop] = 0
                row.counts = packing.pack(held)
                row.save()
    found = versus.judged(versus.of(*pair_of_both), NOON - HOUR, NOON + HOUR)
    states = {one.label: one.state for one in found.columns}
    assert states["distance"] is State.REDACTED
    assert states["hour"] is State.QUIET  # both had it, whatever the policy says by now


def test_revisions_without_a_column_in_common_are_compared_in_none(
    endpoint: Endpoint, now: datetime
) -> None:
    candidate, stable = pair_of(endpoint)
    table = flights(1, 5_000)
    freeze(candidate.build, table.select(["in.hour"]), now)
    freeze(stable.build, table.select(["in.distance"]), now)
    pair = versus.of(candidate, stable)
    assert list(versus.judged(pair, NOON - HOUR, NOON + HOUR).columns) == []
    assert set(versus.notes(pair)) == {"in.hour", "in.distance"}


def test_without_a_baseline_of_both_it_is_refused(endpoint: Endpoint, now: datetime) -> None:
    candidate, stable = pair_of(endpoint)
    freeze(candidate.build, flights(1, 2_000), now)
    for one, other in ((candidate, stable), (stable, candidate)):
        with pytest.raises(NothingToCompare, match="Version 1 has no baseline yet"):
            versus.of(one, other)


def test_two_revisions_of_one_version_share_all_bins(endpoint: Endpoint, now: datetime) -> None:
    _, stable = pair_of(endpoint)
    again = Revision.objects.create(
        endpoint=endpoint, number=3, version=stable.version, build=stable.build, created_at=now
    )
    baseline = freeze(stable.build, flights(1, 5_000), now)
    tally(stable, baseline, NOON, flights(2, 1_000))
    tally(again, baseline, NOON, flights(2, 1_000))
    pair = versus.of(again, stable)
    assert {one.js for one in versus.judged(pair, NOON - HOUR, NOON + HOUR).columns} == {0.0}
    assert (pair.one.name, pair.other.name) == ("v1 (revision 3)", ONE)


def test_it_takes_four_queries(
    endpoint: Endpoint, now: datetime, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    candidate, stable = alike(endpoint, now)
    versus.of(candidate, stable)
    with django_assert_num_queries(4):  # two baselines in force, the tallies of either
        versus.judged(versus.of(candidate, stable), NOON - HOUR, NOON + HOUR)


def test_a_stretch_has_rows_enough_of_both(endpoint: Endpoint, now: datetime) -> None:
    candidate, stable = pair_of(endpoint)
    reference = flights(1, 20_000)
    first, second = (freeze(one.build, reference, now) for one in (candidate, stable))
    for hour, ours, theirs in ((1, 900, 300), (2, 900, 300), (3, 0, 5_000), (4, 500, 500)):
        for one, baseline, many in ((candidate, first, ours), (stable, second, theirs)):
            if many:
                tally(one, baseline, NOON - (5 - hour) * HOUR, flights(hour, many))
    wanted = columns.Wanted(candidate, NOON - 5 * HOUR, NOON, 3600, other=stable)
    found = columns.stretched(wanted)
    assert found.at == [NOON - 4 * HOUR, NOON - 2 * HOUR, NOON]
    assert {len(values) for values in found.js.values()} == {2}


# ---- over HTTP -------------------------------------------------------------------------------


def test_drift_between_revisions(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    alike(endpoint, now, shift=0.8)
    found = ask(client, cast, endpoint, "drift", revision=2, compare=1).json()
    assert (found["revision"], found["other"], found["against"]) == (2, 1, "revision")
    assert (found["rows"], found["notes"], found["widened"]) == (2_000, {}, False)
    assert (found["columns"][0]["name"], found["columns"][0]["state"]) == (
        "in.distance", "critical",
    )  # fmt: skip
    assert found["columns"][0]["reference_rows"] == 3_000
    same = ask(client, cast, endpoint, "drift", compare="2,1").json()
    assert same == found
    turned = ask(client, cast, endpoint, "drift", compare=2).json()
    assert (turned["revision"], turned["other"], turned["rows"]) == (1, 2, 3_000)
    assert turned["columns"][0]["js"] == pytest.approx(found["columns"][0]["js"], abs=1e-12)
    own = ask(client, cast, endpoint, "drift", revision=2, compare=2).json()
    assert (own["against"], own["other"]) == ("baseline", None)
    for query in ({"compare": 9}, {"compare": "1,9"}, {"compare": "1,2,3"}):
        answer = ask(client, cast, endpoint, "drift", **query)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid"), query


def test_charts_of_two_revisions(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    alike(endpoint, now, shift=0.8)
    asked = {"revision": 2, "compare": 1}
    chart = ask(client, cast, endpoint, "charts/distribution", **asked, column="in.origin").json()
    assert chart["table"]["columns"] == ["values", ONE, TWO]
    assert [trace["name"] for trace in chart["figure"]["data"]] == [ONE, TWO]
    assert [trace["marker"]["color"] for trace in chart["figure"]["data"]] == [
        "var(--series-0)", "var(--series-1)",
    ]  # fmt: skip
    stable = flights(3, 3_000)["in.origin"].to_pylist()
    assert chart["table"]["rows"][0][:2] == ["JFK", stable.count("JFK") / 3_000]
    assert chart["note"] == f"{TWO} against {ONE}, rows of the same time."
    chart = ask(client, cast, endpoint, "charts/drift", **asked).json()
    assert chart["table"]["unit"] == f"JS* from {ONE}"
    [row] = chart["table"]["rows"]
    assert chart["table"]["columns"][1] == "distance"
    assert row[1] > 0.2
    assert chart["note"] == f"{TWO} against {ONE}, rows of the same time."


def test_charts_where_bins_differ(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    unlike(endpoint, now)
    asked = {"revision": 2, "compare": 1}
    chart = ask(client, cast, endpoint, "charts/distribution", **asked, column="in.origin").json()
    assert [row[0] for row in chart["table"]["rows"]] == ["JFK", "LGA", "other", "unseen"]
    assert "origin: compared by the 2 values named in both" in chart["note"]
    chart = ask(client, cast, endpoint, "charts/distribution", **asked, column="in.distance").json()
    assert chart["note"].startswith("How far apart distance is cannot be told: the bins of")
    assert chart["table"]["unit"] == "share of values, each in spans of its own"
    first = [row[1] for row in chart["table"]["rows"] if row[1] is not None]
    second = [row[2] for row in chart["table"]["rows"] if row[2] is not None]
    assert (len(first), len(second)) == (20, 20)
    assert sum(first) == pytest.approx(1, abs=0.002)  # but for what lies beyond the reference
    for trace in chart["figure"]["data"]:
        x, y = trace["x"], trace["y"]
        area = sum(height * (x[at + 1] - x[at]) for at, height in enumerate(y[:-1]))
        assert area == pytest.approx(1, abs=0.002)
    assert chart["figure"]["layout"]["annotations"][0]["text"] == (
        "Bins of their own: no distance can be told"
    )
    chart = ask(client, cast, endpoint, "charts/drift", **asked).json()
    assert set(chart["table"]["columns"]) == {"at", "origin", "hour"}
    assert "distance: the bins of" in chart["note"]


def test_a_column_of_another_kind_is_drawn_beside_it(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    candidate, stable = pair_of(endpoint)
    table = flights(1, 5_000)
    odd = table.set_column(
        table.column_names.index("in.hour"), "in.hour", [["early"] * 4_000 + ["late"] * 1_000]
    )
    tally(candidate, freeze(candidate.build, table, now), NOON, flights(2, 1_000))
    tally(stable, freeze(stable.build, odd, now), NOON, odd)
    asked = {"revision": 2, "compare": 1, "column": "in.hour"}
    chart = ask(client, cast, endpoint, "charts/distribution", **asked).json()
    rows = chart["table"]["rows"]
    assert rows[0] == ["early", 0.8, None]
    assert rows[1] == ["late", 0.2, None]
    assert [row[0] for row in rows[2:4]] == ["other", "unseen"]
    assert (rows[4][0], rows[4][1]) == ("5", None)
    assert f"{TWO} counts numbers of few kinds, {ONE} categories" in chart["note"]


def test_both_kinds_of_pictures_are_drawn(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    unlike(endpoint, now)
    asked = {"revision": 2, "compare": 1, "format": "png"}
    for kind, column in (("distribution", "in.origin"), ("distribution", "in.distance"),
                         ("drift", "")):  # fmt: skip
        answer = ask(client, cast, endpoint, f"charts/{kind}", **asked, column=column)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png"), kind
        assert answer.content[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_cannot_be_compared_is_said_in_words(
    cast: Cast, endpoint: Endpoint, now: datetime, client: Client
) -> None:
    candidate, stable = pair_of(endpoint)
    table = flights(1, 5_000)
    freeze(candidate.build, table, now)
    for path in ("drift", "charts/drift", "charts/distribution"):
        refused = ask(client, cast, endpoint, path, revision=2, compare=1, column="in.hour")
        assert (refused.status_code, refused.json()["code"]) == (409, "no_baseline"), path
    freeze(stable.build, table.drop_columns(["in.hour"]), now)
    asked = {"revision": 2, "compare": 1, "column": "in.hour"}
    refused = ask(client, cast, endpoint, "charts/distribution", **asked)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_column")
    assert refused.json()["message"] == f"hour: only {TWO} has it"


def test_unusable_values_of_both_are_drawn(endpoint: Endpoint, now: datetime) -> None:
    candidate, stable = unlike(endpoint, now)
    tally(candidate, versus.side(candidate).baseline, NOON, flights(7, 2_000, missing=0.5))
    span = (NOON - HOUR, NOON + HOUR, 3600)
    chart = columns.missing_chart(columns.Wanted(candidate, *span, other=stable))
    table = chart["table"]
    assert table["columns"] == ["at", f"dep_delay, {TWO}"]  # the other's are all there
    assert table["rows"][0][1] == pytest.approx(0.25, abs=0.02)
    tally(stable, versus.side(stable).baseline, NOON, flights(8, 3_000, missing=0.2))
    both = columns.Wanted(candidate, *span, other=stable, column="in.dep_delay")
    assert columns.missing_chart(both)["table"]["columns"] == [
        "at", f"dep_delay, {TWO}", f"dep_delay, {ONE}",
    ]  # fmt: skip
