"""Which questions are taken, and which are refused in words."""

import json
from datetime import datetime, timedelta

import pytest

from apps.audit.models import Event
from apps.explorer import selectors, services
from apps.explorer.models import Search
from apps.explorer.question import Question, SearchRefused, from_json
from apps.jobs.models import Job
from apps.monitoring.models import LogFile
from apps.serving.models import Endpoint
from tests.explorer.conftest import DAY, question
from tests.people import Cast

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("asks", "code"),
    [
        (question(("in.nothing", "eq", 1)), "column_unknown"),
        (question(('in.distance" or 1=1 --', "eq", 1)), "column_unknown"),
        (question(("request", "eq", "x")), "column_unknown"),
        (question(("in.distance", "eq", "far")), "value_wrong"),
        (question(("in.distance", "eq", True)), "value_wrong"),
        (question(("in.distance", "eq", float("nan"))), "value_wrong"),
        (question(("in.distance", "eq", [1])), "value_wrong"),
        (question(("in.distance", "between", [1])), "value_wrong"),
        (question(("in.distance", "in", [])), "value_wrong"),
        (question(("in.distance", "eq", None)), "value_wrong"),
        (question(("in.distance", "or 1=1", 1)), "op_unknown"),
        (question(("in.origin", "eq", True)), "value_wrong"),
        (question(("in.origin", "eq", "x" * 1001)), "value_wrong"),
        (question(("in.origin", "eq", "a\0b")), "value_wrong"),
        (question(("in.origin", "eq", "\ud800")), "value_wrong"),
        (question(*[("in.distance", "eq", 1)] * 10_000), "too_many_conditions"),
        (question(revisions=(9,)), "revision_unknown"),
        (question(since=DAY, until=DAY), "time_wrong"),
        (question(since=DAY, until=DAY - timedelta(days=1)), "time_wrong"),
        (question(since=DAY, until=DAY + timedelta(days=32)), "time_too_long"),
        (question(status="5xx or 1"), "status_wrong"),
        (question(latency_from_ms=5, latency_to_ms=4), "latency_wrong"),
        (question(latency_from_ms=float("inf")), "latency_wrong"),
        (question(limit=0), "limit_wrong"),
        (question(limit=100_001), "limit_wrong"),
        (question(order="id; drop table t"), "value_wrong"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(
    asks: Question, code: str, logged: Endpoint, cast: Cast, now: datetime
) -> None:
    with pytest.raises(SearchRefused) as refused:
        services.ask(endpoint=logged, question=asks, actor=cast.viewer, now=now)

    assert refused.value.code == code
    assert len(refused.value.message) < 3000
    assert (Search.objects.count(), Job.objects.count(), Event.objects.count()) == (0, 0, 0)


def test_a_question_is_read_as_it_was_written() -> None:
    asks = question(("in.x", "in", [1, "a"]), status="5xx", revisions=(1, 2), limit=7)

    assert from_json(json.loads(json.dumps(asks.as_json()))) == asks


def test_the_same_question_twice_is_one_search_and_there_is_a_most(
    logged: Endpoint, cast: Cast, now: datetime
) -> None:
    def ask(limit: int) -> Search:
        return services.ask(
            endpoint=logged, question=question(limit=limit), actor=cast.viewer, now=now
        )

    assert ask(1).pk == ask(1).pk
    for limit in range(2, 6):
        ask(limit)
    with pytest.raises(SearchRefused, match="5 of your searches have not ended"):
        ask(6)
    assert Search.objects.count() == 5


def test_which_files_are_looked_into(logged: Endpoint) -> None:
    assert len(selectors.files(logged, question())) == 1
    assert [len(f.rows) for f in selectors.files(logged, question())] == [2]
    assert [len(f.rows) for f in selectors.files(logged, question(revisions=(2,)))] == [1]
    later = question(since=DAY + timedelta(hours=1), until=DAY + timedelta(hours=2))
    assert selectors.files(logged, later) == []
    assert LogFile.objects.count() == 1


def test_a_condition_says_what_the_log_has(logged: Endpoint, cast: Cast, now: datetime) -> None:
    with pytest.raises(SearchRefused) as refused:
        services.ask(
            endpoint=logged, question=question(("in.dist", "eq", 1)), actor=cast.viewer, now=now
        )

    assert "'in.distance', 'in.origin', 'out.0'" in refused.value.message
