"""The monitoring page of an endpoint: what it says in its first line, and where it leads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import User
from apps.monitoring.models import Rollup, Slice, Tally
from apps.serving.models import Endpoint, Environment, Revision
from tests.factories.audit import EventFactory
from tests.factories.monitoring import RollupFactory, SliceFactory
from tests.factories.serving import RevisionFactory
from tests.monitoring.tallied import flights, freeze, tally
from tests.pages.stage import stage
from tests.people import Cast

HOUR = timedelta(hours=1)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def endpoint(cast: Cast) -> Endpoint:
    cache.clear()
    made = stage(cast).endpoint
    Revision.objects.filter(endpoint=made).update(created_at=datetime.now(UTC) - 60 * 24 * HOUR)
    made.refresh_from_db()
    return made


def recent(hours: float = 2) -> datetime:
    return datetime.now(UTC) - hours * HOUR


def compared(endpoint: Endpoint, **live: Any) -> None:
    """It makes a baseline and 2,000 rows of the last hours."""
    assert endpoint.stable is not None
    baseline = freeze(endpoint.stable.build, flights(1, 20_000), recent())
    tally(endpoint.stable, baseline, recent(), flights(2, 2_000, **live))


def page(cast: Cast, endpoint: Endpoint, query: str = "", user: User | None = None) -> str:
    address = f"/endpoints/production/{endpoint.name}/monitoring{query}"
    answer = client_of(user or cast.viewer).get(address)
    assert answer.status_code == 200
    return answer.content.decode()


def test_without_a_baseline_it_tells_the_next_step(cast: Cast, endpoint: Endpoint) -> None:
    text = page(cast, endpoint)
    assert "No baseline yet: v1 has nothing to compare its rows with" in text
    assert reverse("dataset-register", args=[endpoint.model.name]) in text
    assert "mlflow.log_input(" in text
    assert "charts/traffic" in text
    assert "charts/drift" not in text


def test_quiet_columns_are_said_to_look_like_the_reference(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint)
    text = page(cast, endpoint)
    assert "Inputs look like the reference" in text
    assert "5 columns of 2 k rows in 1 d" in text
    assert text.count('class="mini"') == 5


def test_drifted_columns_stand_first_and_lead_to_their_values(
    cast: Cast, endpoint: Endpoint
) -> None:
    compared(endpoint, shift=1.5, new=0.05)
    text = page(cast, endpoint)
    assert "2 of 5 columns drifted: distance (critical), origin" in text
    assert "never seen before" in text
    assert text.index('column=in.distance#distribution">distance') < text.index(">hour<")
    chosen = page(cast, endpoint, "?column=in.distance&window=7d")
    assert "charts/distribution?only=figure&amp;window=7d" in chosen
    assert "column=in.distance" in chosen


def test_too_few_rows_say_how_many_are_needed(cast: Cast, endpoint: Endpoint) -> None:
    assert endpoint.stable is not None
    baseline = freeze(endpoint.stable.build, flights(1, 20_000), recent())
    tally(endpoint.stable, baseline, recent(), flights(2, 213))
    text = page(cast, endpoint)
    assert "Not enough data: 213 rows in 1 d, 500 needed" in text


def test_tiles_say_what_callers_got(cast: Cast, endpoint: Endpoint) -> None:
    Rollup.objects.all().delete()
    for origin, ms in ((Rollup.From.GATEWAY, 20.0), (Rollup.From.SERVER, 15.0)):
        RollupFactory.create(
            revision=endpoint.stable, at=recent(), requests=1000, server_errors=20,
            client_errors=5, origin=origin, ms=ms,
        )  # fmt: skip
    text = page(cast, endpoint)
    for figure in ("<span>1 k</span>", "<span>2 %</span>", "<span>0.5 %</span>",
                   "<span>20 ms</span>", "<span>25.9 %</span>"):  # fmt: skip
        assert figure in text, figure
    assert "Last request 2 h ago" in text


def test_only_a_short_window_at_the_present_follows_it(cast: Cast, endpoint: Endpoint) -> None:
    assert f'data-live="endpoint:{endpoint.pk}"' in page(cast, endpoint)
    for query in ("?window=30d", "?until=2030-01-01T00:00:00Z"):
        assert f'data-live="endpoint:{endpoint.pk}"' not in page(cast, endpoint, query), query


def test_what_happened_is_listed_with_its_time(cast: Cast, endpoint: Endpoint) -> None:
    EventFactory.create(
        team_id=cast.team.pk, model_name=endpoint.model.name, environment="production",
        verb="traffic.changed", at=recent(), evidence={"weights": {"1": 75, "2": 25}}, url="/x",
        reason="Step 2",
    )  # fmt: skip
    text = page(cast, endpoint)
    assert '<a href="/x">v2 25 %</a>' in text
    assert "Step 2" in text


def test_a_slice_is_made_shown_and_retired(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint)
    client = client_of(cast.owner)
    base = f"/endpoints/production/{endpoint.name}"
    wrong = client.post(f"{base}/slices", {"name": "x", "column": "in.origin", "op": "eq"})
    assert wrong.status_code == 422
    assert "Say what it is compared with." in wrong.content.decode()
    assert not Slice.objects.exists()
    given = {"name": "From JFK", "column": "in.origin", "op": "eq", "value": "JFK"}
    made = client.post(f"{base}/slices", given)
    part = Slice.objects.get()
    assert (made.status_code, made.headers["Location"]) == (
        302, f"{base}/monitoring?slice={part.pk}",
    )  # fmt: skip
    taken = client.post(f"{base}/slices", given)
    assert taken.status_code == 422
    assert "There is a slice &#x27;From JFK&#x27; already" in taken.content.decode()
    text = page(cast, endpoint, f"?slice={part.pk}", cast.owner)
    assert "origin is JFK" in text
    assert f'data-confirm="Retire the slice {part.name}?"' in text
    assert "Make a slice" not in page(cast, endpoint)
    retire = f"{base}/slices/{part.pk}/retire"
    assert client_of(cast.viewer).post(retire).status_code == 403
    assert client.post(retire).headers["Location"] == f"{base}/monitoring#slices"
    part.refresh_from_db()
    assert part.retired_at is not None
    assert "origin is JFK" not in page(cast, endpoint)


def test_the_table_of_a_chart_has_the_same_window(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint)
    client = client_of(cast.viewer)
    base = f"/endpoints/{endpoint.pk}/charts"
    text = client.get(f"{base}/distribution/table?window=24h&column=in.origin").content.decode()
    assert '<th scope="row" class="nowrap">JFK</th>' in text
    assert "share of rows" in text
    text = client.get(f"{base}/missing/table?window=24h").content.decode()
    assert '<th scope="col" class="num">each column</th>' in text
    assert "Nothing was measured" not in text
    assert client.get(f"{base}/traffic/table?window=5y").status_code == 404
    assert client.get(f"{base}/distribution/table?window=24h").status_code == 409


def test_the_table_of_a_time_without_a_zone_or_that_has_none(
    cast: Cast, endpoint: Endpoint
) -> None:
    client = client_of(cast.viewer)
    base = f"/endpoints/{endpoint.pk}/charts/traffic/table"
    assert client.get(f"{base}?until=2030-01-01T10:00:00").status_code == 200
    assert client.get(f"{base}?until=2030-01-01T10:00:00Z").status_code == 200
    for query in (
        "window=24h&step=15",  # no multiple of a rollup's width
        "window=24h&until=2030-01-01T00:00:00Z&since=2031-01-01T00:00:00Z",
        "until=9999-12-31T23:59:59Z",
        "window=24h&revision=99",
        "until=soon",
    ):
        assert client.get(f"{base}?{query}").status_code == 404, query


def test_the_table_of_an_endpoint_without_a_revision_is_empty(
    cast: Cast, endpoint: Endpoint
) -> None:
    edge = Environment.objects.create(name="edge", order=9, backend="local")
    bare = Endpoint.objects.create(
        model=endpoint.model, environment=edge, name="refused", created_at=recent()
    )
    text = client_of(cast.viewer).get(f"/endpoints/{bare.pk}/charts/traffic/table")
    assert "Nothing was measured in this time." in text.content.decode()


def test_five_revisions_and_a_week_take_a_fixed_number_of_queries(
    cast: Cast, endpoint: Endpoint
) -> None:
    compared(endpoint)
    for _ in range(3):
        RevisionFactory.create(endpoint=endpoint)
    client = client_of(cast.viewer)
    address = f"/endpoints/production/{endpoint.name}/monitoring?window=7d"
    client.get(address)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(address)
        return len(asked)

    before = queries()
    for revision in endpoint.revisions.all():
        for days in range(6):
            RollupFactory.create(revision=revision, at=recent(24 * days + 1))
    for _ in range(3):
        SliceFactory.create(endpoint=endpoint)
    assert queries() == before
    assert before <= 35


def test_the_pages_of_an_endpoint_are_linked_from_each(cast: Cast, endpoint: Endpoint) -> None:
    overview = f"/endpoints/production/{endpoint.name}"
    tab = f'<a href="{overview}/monitoring"'
    assert f"{tab}>Monitoring</a>" in client_of(cast.viewer).get(overview).content.decode()
    text = page(cast, endpoint)
    assert f'{tab} aria-current="page">Monitoring</a>' in text
    assert f'<a href="{overview}">Overview</a>' in text


# ---- another revision ------------------------------------------------------------------------


def beside(endpoint: Endpoint, *, alike: bool) -> str:
    """It gives the candidate rows that lie further, and the address that compares both.

    `alike`: both were frozen with the same data; else the candidate with other, of two airports.
    """
    assert endpoint.stable is not None
    for revision, shift in ((endpoint.stable, 0.0), (endpoint.revisions.get(number=2), 1.5)):
        reference = flights(1, 20_000)
        if shift and not alike:
            reference = flights(2, 20_000, airports=(0.5, 0.5, 0.0))
        baseline = freeze(revision.build, reference, recent())
        tally(revision, baseline, recent(), flights(7, 2_000, shift=shift))
    return "?revision=2&compare=1"


def test_columns_of_two_revisions_are_compared_on_the_page(cast: Cast, endpoint: Endpoint) -> None:
    query = beside(endpoint, alike=True)
    text = page(cast, endpoint, f"{query}&column=in.distance")
    assert "1 of 5 columns drifted: distance (critical)" in text
    assert "v2 (revision 2) against v1 (revision 1), 2 k rows" in text
    assert "Distance from v1 (revision 1)" in text
    assert "each point needs 500 rows of both" in text
    assert "2 k values against 2 k of v1 (revision 1)" in text
    assert text.count('class="mini"') == 5
    assert "with bins that differ" not in text
    assert "charts/distribution?only=figure&amp;window=24h&amp;revision=2&amp;compare=1" in text


def test_columns_with_bins_of_their_own_say_why_they_are_not_compared(
    cast: Cast, endpoint: Endpoint
) -> None:
    query = beside(endpoint, alike=False)
    text = page(cast, endpoint, f"{query}&column=in.distance")
    assert "Those that can be compared look like v1 (revision 1)" in text
    assert "cannot be compared: dep_delay, distance, out.0" in text
    assert text.count("bins differ") == 3
    assert "4 columns with bins that differ" in text
    assert "were made of other data" in text
    assert "compared by the 2 values named in both, all others as one" in text
    table = client_of(cast.viewer).get(
        f"/endpoints/{endpoint.pk}/charts/distribution/table{query}&window=24h&column=in.distance"
    ).content.decode()  # fmt: skip
    assert "How far apart distance is cannot be told" in table
    assert '<th scope="col" class="num">v1 (revision 1)</th>' in table


def test_revisions_without_a_column_in_common_do_not_look_alike(
    cast: Cast, endpoint: Endpoint
) -> None:
    assert endpoint.stable is not None
    for revision, name in (
        (endpoint.stable, "in.distance"),
        (endpoint.revisions.get(number=2), "in.hour"),
    ):
        baseline = freeze(revision.build, flights(1, 20_000).select([name]), recent())
        tally(revision, baseline, recent(), flights(7, 2_000).select([name]))
    text = page(cast, endpoint, "?revision=2&compare=1")
    assert "No column can be compared with v1 (revision 1)" in text
    assert "They have no column in common." in text
    assert "look like" not in text


def test_a_revision_without_a_baseline_is_named(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint)
    for query in ("?compare=2", "?revision=2&compare=1"):
        text = page(cast, endpoint, query)
        assert "No baseline yet: v2 has nothing to compare its rows with" in text, query
        assert "charts/drift" not in text, query


def test_a_revision_is_not_compared_with_itself(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint)
    text = page(cast, endpoint, "?compare=1")
    assert "v1 against the reference, 2 k rows" in text
    assert "Inputs look like the reference" in text


# ---- the line on the model's page ------------------------------------------------------------


def line(cast: Cast, endpoint: Endpoint) -> str:
    answer = client_of(cast.viewer).get(f"/endpoints/production/{endpoint.name}/drift")
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_models_page_asks_for_the_line_of_each_endpoint(cast: Cast, endpoint: Endpoint) -> None:
    text = client_of(cast.viewer).get(f"/models/{endpoint.model.name}").content.decode()
    assert f'hx-get="/endpoints/production/{endpoint.name}/drift"' in text
    assert text.count("Reading drift") == 1  # nothing serves in staging


def test_the_line_says_what_drifted_and_leads_there(cast: Cast, endpoint: Endpoint) -> None:
    compared(endpoint, shift=1.5)
    text = line(cast, endpoint)
    assert "tone-bad" in text
    monitoring = f"/endpoints/production/{endpoint.name}/monitoring"
    assert f'<a href="{monitoring}">1 of 5 columns drifted: distance (critical)</a>' in text
    assert "furthest, by the hour: lowest 0.548, highest 0.548, last –" in text


def test_the_line_of_quiet_few_and_no_rows(cast: Cast, endpoint: Endpoint) -> None:
    assert "v1 has nothing to compare its rows with" in line(cast, endpoint)
    assert endpoint.stable is not None
    baseline = freeze(endpoint.stable.build, flights(1, 20_000), recent())
    assert "Not enough data: 0 rows in 1 d, 500 needed" in line(cast, endpoint)
    tally(endpoint.stable, baseline, recent(30), flights(2, 5_000))  # before the last day
    tally(endpoint.stable, baseline, recent(), flights(2, 213))
    text = line(cast, endpoint)
    assert "Not enough data: 213 rows in 1 d, 500 needed" in text
    assert "not measured yet" in text
    tally(endpoint.stable, baseline, recent(), flights(3, 2_000))
    assert "Inputs look like the reference" in line(cast, endpoint)


def test_the_line_of_an_endpoint_without_a_version(cast: Cast, endpoint: Endpoint) -> None:
    endpoint.stable = None
    endpoint.save()
    assert "No version serves here" in line(cast, endpoint)
    stranger = client_of(cast.stranger).get(f"/endpoints/production/{endpoint.name}/drift")
    assert stranger.status_code == 404


def copied(endpoint: Endpoint) -> Revision:
    """A candidate that answered 40 copies, beside a stable one that answered 90 callers."""
    candidate = RevisionFactory.create(endpoint=endpoint, number=7)
    at = recent()
    for revision, origin, requests in (
        (endpoint.stable, Rollup.From.GATEWAY, 90),
        (endpoint.stable, Rollup.From.SERVER, 90),
        (candidate, Rollup.From.SHADOW, 40),
    ):
        RollupFactory.create(revision=revision, origin=origin, at=at, requests=requests)
    return candidate


def test_a_version_that_is_tried_out_is_shown_by_its_copies(cast: Cast, endpoint: Endpoint) -> None:
    candidate = copied(endpoint)
    assert 'name="rows"' in page(cast, endpoint)
    text = page(cast, endpoint, f"?revision={candidate.number}&compare=1")
    assert '<option value="copies" selected>' in text
    assert "origin=shadow" in text
    assert "<span>40</span>" in text
    text = page(cast, endpoint, f"?revision={candidate.number}&rows=callers")
    assert '<option value="callers" selected>' in text
    assert "origin=shadow" not in text
    assert "<span>90</span>" in page(cast, endpoint)


def test_where_nothing_is_copied_nobody_is_asked(cast: Cast, endpoint: Endpoint) -> None:
    assert 'name="rows"' not in page(cast, endpoint)


def test_copies_are_compared_with_what_callers_got(cast: Cast, endpoint: Endpoint) -> None:
    candidate = copied(endpoint)
    assert endpoint.stable is not None
    reference = flights(1, 20_000)
    for one, rows in (
        (candidate, flights(2, 2_000, shift=1.5)),
        (endpoint.stable, flights(3, 900)),
    ):
        tally(one, freeze(one.build, reference, recent()), recent(), rows)
    Tally.objects.filter(revision=candidate).update(shadow=True)
    query = f"?revision={candidate.number}&compare=1"
    text = page(cast, endpoint, query)
    name = f"v{candidate.version.number} (revision {candidate.number})"
    assert f"Copies that {name} answered, against v1 (revision 1), 2 k rows" in text
    assert "1 of 5 columns drifted: distance (critical)" in text
    text = page(cast, endpoint, f"{query}&column=in.distance")
    assert "2 k values against 900 of v1 (revision 1)" in text
    assert "Not enough data: 0 rows" in page(cast, endpoint, f"{query}&rows=callers")
