"""What windows of the development set are drawn from is what its rows would be counted as."""

import numpy as np
import pyarrow as pa
import pytest

from apps.baselines.layout import Role, fit
from benchmarks.monitoring import development, truth
from benchmarks.monitoring.development import COLUMNS, Numbers, Words


@pytest.mark.parametrize("one", COLUMNS, ids=lambda one: one.name)
def test_the_shares_of_bins_are_those_of_many_rows(one: Numbers | Words) -> None:
    rng = np.random.default_rng(1)
    table = pa.table({"in.x": one.draw(rng, 5_000)})
    layout = fit(table, {"in.x": Role.INPUT}, None)
    [column] = layout.columns
    expected = np.zeros(layout.size)
    for share, slots in one.cells(column):
        expected[list(slots)] += share * (1 - one.missing)
    expected[column.bins] = one.missing
    counted = layout.count(pa.table({"in.x": one.draw(rng, 200_000)}))[0] / 200_000
    assert expected[: column.bins + 1].sum() == pytest.approx(1, abs=1e-9)
    deviation = np.sqrt(expected * (1 - expected) / 200_000)
    assert (np.abs(counted - expected) <= 5 * deviation + 1e-5).all()


def test_it_is_other_data_than_what_is_measured_with() -> None:
    assert development.SEED != truth.SEED
    assert len(COLUMNS) == 30


def test_unchanged_windows_are_quiet() -> None:
    rng = np.random.default_rng(2)
    assert development.false_alarms(rng, 5_000, 1_000, 100) == {"any": 0}
