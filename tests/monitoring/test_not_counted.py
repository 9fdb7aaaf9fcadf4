"""What is no row of its own in the sums: rows of large requests, and values that a policy hides."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apps.baselines import packing
from apps.baselines.distances import rows_of
from apps.baselines.layout import COUNTERS
from apps.baselines.selectors import shape
from apps.monitoring import extract, shown
from apps.monitoring.drift import State, judge
from apps.monitoring.models import RowFile
from apps.monitoring.selectors import drift, health, requests
from apps.serving.models import Endpoint
from tests.monitoring.making import segment
from tests.monitoring.test_retention import keep
from tests.monitoring.test_tallies import AT, MINUTE, asked, baseline, collect, spans

pytestmark = pytest.mark.django_db


def test_a_request_of_many_rows_is_one_request_and_not_all_that_is_counted(
    endpoint: Endpoint, var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "MOST_ROWS", 10)
    baseline(endpoint)
    revision = endpoint.revisions.get(number=1)
    large = asked(0, *[(n % 100, "UA") for n in range(1000)])
    segment(revision.pk, [large | {"share": 0.5}, asked(1, (5, "B6"))])
    collect()
    (tally,) = spans().values()
    assert (tally.rows, tally.requests) == (11, 3.0)
    file = RowFile.objects.get()
    assert file.rows == 11
    table = pq.ParquetFile(var / "rows" / file.path).read()
    assert table["row"].to_pylist() == [*range(0, 1000, 100), 0]
    assert requests.left_out(endpoint, AT) == 990
    (found,) = requests.find_request(endpoint, large["id"], AT)
    assert found["request"] == large["request"]
    seen = health.of(endpoint, AT, AT + MINUTE, AT + MINUTE)
    assert shown.tiles(seen)[-1]["note"].endswith("; 990 rows of large requests in the log only")


def test_what_a_policy_redacts_is_counted_as_nothing(endpoint: Endpoint) -> None:
    made = baseline(endpoint)
    revision = endpoint.revisions.get(number=1)
    revision.build.signature = {
        "inputs": [{"name": "x", "type": "double"}, {"name": "carrier", "type": "string"}],
        "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}],
    }
    revision.build.save()
    keep(endpoint, AT, redact="[x]")
    tensors = [
        {"name": "x", "shape": [2], "datatype": "FP64", "data": [None, None]},
        {"name": "carrier", "shape": [2], "datatype": "BYTES", "data": ["UA", None]},
    ]
    segment(
        revision.pk,
        [
            asked(0, ("[redacted]", "B6"), ("[redacted]", None)),
            asked(1, format="v2", request={"inputs": tensors}, response={"outputs": []}),
        ],
    )
    collect()
    (tally,) = spans().values()
    assert tally.rows == 4
    layout = shape(made).layout
    counts = packing.unpack(tally.counts)
    assert rows_of(layout, counts).tolist() == [0, 4, 4]
    start, stop = layout.slices["in.x"]
    assert counts[start : stop + len(COUNTERS)].tolist() == [0] * (stop - start + len(COUNTERS))
    x = next(one for one in judge(layout, counts, counts, {}, {}) if one.name == "in.x")
    assert x.state is State.NOT_ENOUGH_DATA
    assert {share.state for share in x.shares} <= {State.NOT_ENOUGH_DATA, State.QUIET}
    assert not x.is_loud
    seen = drift.of(revision, AT, AT + MINUTE, now=AT + MINUTE)
    assert {one.name: one.state for one in seen.columns} == {
        "in.x": State.REDACTED,
        "in.carrier": State.NOT_ENOUGH_DATA,
        "out.0": State.NOT_ENOUGH_DATA,
    }
