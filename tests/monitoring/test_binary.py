"""Rows in PostgreSQL's own format: the same values, seen by whoever counts queries."""

from datetime import UTC, datetime

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.monitoring.models import Rollup
from apps.monitoring.selectors import binary
from tests.factories.monitoring import RollupFactory

AT = datetime(2030, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def test_rows_are_as_django_gives_them() -> None:
    RollupFactory.create(at=AT, requests=3)
    columns = ("revision_id", "origin", "at", "width_seconds", "log_latency_sum", "latency_bins")
    query = Rollup.objects.filter(at__gte=AT).order_by("width_seconds").values_list(*columns)
    found = binary.rows(*query.query.sql_with_params())
    assert found == list(query)
    assert found[0][2].utcoffset() == AT.utcoffset()
    assert isinstance(found[0][5], bytes)


def test_a_query_that_django_knows_to_be_empty_has_no_rows() -> None:
    RollupFactory.create(at=AT)
    rows = Rollup.objects.values_list("requests")
    assert binary.of(rows.filter(revision__in=[])) == []
    assert binary.of(rows) == list(rows)


def test_it_is_counted_as_a_query() -> None:
    with CaptureQueriesContext(connection) as seen:
        assert binary.rows("select %s::int + 1", [2]) == [(3,)]
    assert [query["sql"] for query in seen.captured_queries] == ["select $1::int + 1"]


def test_it_reads_in_the_transaction_that_is_open() -> None:
    with transaction.atomic():
        RollupFactory.create(at=AT)
        query = Rollup.objects.values_list("pk")
        assert len(binary.rows(*query.query.sql_with_params())) == Rollup.objects.count() > 0


def test_its_errors_are_those_of_django() -> None:
    with pytest.raises(DataError), transaction.atomic():
        binary.rows("select 1 / %s::int", [0])
    assert binary.rows("select %s::int", [1]) == [(1,)]
