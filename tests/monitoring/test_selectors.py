"""What charts and analyses ask: sums over spans, series on aligned buckets."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.monitoring.models import Rollup
from apps.monitoring.selectors import requests as selectors
from apps.monitoring.services import rollups
from apps.monitoring.sums import Answers, Sums, by_span
from apps.serving.models import Endpoint, Revision
from tests.monitoring.making import START_US

AT = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
pytestmark = pytest.mark.django_db


def seen(
    revision: Revision,
    second: int,
    statuses: list[int],
    us: int = 2000,
    origin: Rollup.From = Rollup.From.GATEWAY,
) -> None:
    import numpy as np

    size = len(statuses)
    answers = Answers(
        np.full(size, START_US + second * 1_000_000),
        np.array(statuses),
        np.full(size, us),
        np.zeros(size, dtype=np.bool_),
    )
    rollups.add({(revision.pk, start): sums for start, sums in by_span(answers)}, origin)


def test_compare_sums_whole_spans_since_a_moment(endpoint: Endpoint) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    seen(candidate, 0, [500] * 9)  # the span in which the step was reached
    seen(candidate, 10, [200, 200, 500, 404], us=4000)
    seen(candidate, 20, [200])
    seen(candidate, 20, [200] * 50, origin=Rollup.From.SERVER)
    seen(stable, 10, [200] * 3)
    mine, theirs = selectors.compare(
        candidate=candidate, stable=stable, since=AT + 3 * SECOND, now=AT + 60 * SECOND
    )
    assert theirs is not None
    assert (mine.requests, mine.client_errors, mine.server_errors) == (5, 1, 1)
    assert (mine.latency_count, int(mine.bins.sum())) == (3, 3)
    assert mine.error_rate == 0.2
    assert mine.p50_ms == pytest.approx(4.0, rel=0.011)
    assert (theirs.requests, theirs.error_rate) == (3, 0.0)


def test_compare_shadow_holds_copies_against_what_the_stable_servers_did(
    endpoint: Endpoint,
) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    server, shadow = Rollup.From.SERVER, Rollup.From.SHADOW
    seen(candidate, 0, [500] * 9, origin=shadow)  # the span in which the step was reached
    seen(candidate, 10, [200, 200, 500, 404], us=4000, origin=shadow)
    seen(candidate, 10, [200] * 7, origin=server)
    seen(stable, 10, [200] * 3, origin=server)
    seen(stable, 20, [503], origin=server)
    seen(stable, 10, [200] * 5)  # what callers got
    seen(stable, 10, [200] * 6, origin=shadow)
    seen(stable, 70, [200], origin=server)
    window = {"since": AT + 3 * SECOND, "now": AT + 60 * SECOND}
    mine, theirs = selectors.compare_shadow(candidate=candidate, stable=stable, **window)
    assert theirs is not None
    assert (mine.requests, mine.client_errors, mine.server_errors) == (4, 1, 1)
    assert mine.latency_count == 2
    assert mine.p50_ms == pytest.approx(4.0, rel=0.011)
    assert (theirs.requests, theirs.server_errors) == (4, 1)
    mine, nobody = selectors.compare_shadow(candidate=candidate, stable=None, **window)
    assert (mine.requests, nobody) == (4, None)


def test_compare_without_a_stable_revision_or_requests(endpoint: Endpoint) -> None:
    candidate = endpoint.revisions.get(number=2)
    mine, theirs = selectors.compare(candidate=candidate, stable=None, since=AT, now=AT)
    assert theirs is None
    assert (mine.requests, mine.error_rate, mine.p95_ms) == (0, None, None)


def test_series_have_the_same_buckets(endpoint: Endpoint) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    seen(stable, 0, [200] * 30, us=1000)
    seen(stable, 20, [200] * 30, us=1000)
    seen(stable, 30, [200] * 3 + [500] * 3 + [400] * 6)
    seen(candidate, 60, [200] * 60)  # begins where the window ends
    (one,) = selectors.series(endpoint, AT + 5 * SECOND, AT + 60 * SECOND, 30)
    assert one.revision == stable
    assert one.at == [AT, AT + 30 * SECOND]
    assert one.rate == [2.0, 0.4]
    assert one.errors == [0.0, 0.1]
    assert one.client_errors == [0.0, 0.2]
    assert one.p50_ms == [pytest.approx(1.0, rel=0.011), pytest.approx(2.0, rel=0.011)]
    longer = selectors.series(endpoint, AT, AT + 61 * SECOND, 30)
    assert [each.revision for each in longer] == [stable, candidate]
    assert longer[1].rate == [0.0, 0.0, 2.0]
    assert longer[1].p99_ms[:2] == [None, None]
    assert longer[0].at == longer[1].at


@pytest.mark.parametrize(
    ("seconds", "step", "words"),
    [(60, 15, "multiple of 10"), (60, 0, "multiple of 10"), (0, 10, "must lie after"),
     (20_010, 10, "2001 points are too many")],
)  # fmt: skip
def test_series_refuse_what_cannot_be_drawn(
    endpoint: Endpoint, seconds: int, step: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        selectors.series(endpoint, AT, AT + seconds * SECOND, step)


def test_totals_by_revision(endpoint: Endpoint) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    seen(stable, 0, [200, 500])
    seen(stable, 10, [200])
    seen(candidate, 20, [200])
    totals = selectors.totals(endpoint, AT, AT + 20 * SECOND)
    assert {pk: sums.requests for pk, sums in totals.items()} == {stable.pk: 3}
    assert selectors.last_at(endpoint) == AT + 20 * SECOND


def test_sums_add_up() -> None:
    one, two = Sums(requests=1, latency_count=2), Sums(requests=3, server_errors=1)
    one.add(two)
    assert (one.requests, one.server_errors, one.latency_count) == (4, 1, 2)
    assert two.requests == 3
