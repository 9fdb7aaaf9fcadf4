"""The data whose truth is known is the same everywhere and changes where it says."""

import numpy as np
import pytest

from benchmarks.monitoring import truth
from benchmarks.monitoring.truth import CASES, CHANGED, ROWS, UNCHANGED


def test_there_are_thirty_features() -> None:
    assert len(truth.NAMES) == 30
    assert {*truth.NUMERIC, *truth.CATEGORICAL} == {*truth.NAMES}
    assert len({len(values) for values in truth.VALUES.values()}) > 5


def test_a_window_is_the_same_whenever_it_is_drawn() -> None:
    first, again, other = (truth.digest(truth.window(UNCHANGED, 100, index)) for index in (3, 3, 4))
    assert first == again != other


def test_a_checksum_goes_on_over_windows() -> None:
    one, two = (truth.window(UNCHANGED, 10, index) for index in range(2))
    assert truth.digest(two, truth.digest(one)) != truth.digest(two)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_what_a_case_names_changes(case: truth.Case) -> None:
    """Windows of two cases are drawn from different seeds, so that only shares can be compared."""
    rows = 20_000
    reference, seen = truth.reference(), truth.window(case, rows, 0)
    far = {name for name in truth.NAMES if _gap(name, reference[name], seen[name]) > 0.03}
    assert far == ({case.feature} if case.feature else set())


def test_what_was_never_seen_is_in_no_unchanged_row() -> None:
    unseen = len(truth.VALUES["unseen"]) - 1
    assert not (truth.reference()["unseen"] == unseen).any()
    case = next(one for one in CHANGED if one.name == "unseen")
    share = (truth.window(case, 20_000, 0)["unseen"] == unseen).mean()
    assert share == pytest.approx(0.05, abs=0.005)


def test_windows_have_the_lengths_that_are_judged() -> None:
    for rows in ROWS:
        table = truth.window(UNCHANGED, rows, 1)
        assert {len(values) for values in table.values()} == {rows}


def _gap(name: str, reference: truth.Values, seen: truth.Values) -> float:
    """The largest gap of the cumulated shares."""
    places = np.unique(np.quantile(reference[~np.isnan(reference)], np.arange(0.02, 1, 0.02)))
    if name in truth.VALUES:
        places = np.arange(-1, len(truth.VALUES[name]))
    gaps = [abs(float((reference <= at).mean() - (seen <= at).mean())) for at in places]
    return max(gaps)
