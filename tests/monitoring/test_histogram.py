"""Counts in logarithmic bins: exact places, exact merging, quantiles within their error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring import histogram

LATENCIES = st.lists(st.integers(10, 99_999_999), min_size=1, max_size=300)


def test_it_has_806_bins_between_two_open_ends() -> None:
    assert histogram.BINS == 808


@pytest.mark.parametrize(
    ("microseconds", "place"),
    [(0, 0), (9, 0), (10, 1), (11, 5), (99_999_999, 806), (100_000_000, 807), (10**12, 807)],
)
def test_each_latency_has_one_place(microseconds: int, place: int) -> None:
    counts = histogram.from_us([microseconds])
    assert counts.sum() == 1
    assert int(counts.argmax()) == place


def test_it_counts_nothing_from_nothing() -> None:
    counts = histogram.from_us([])
    assert counts.tolist() == histogram.empty().tolist()
    assert histogram.quantile(counts, 0.5) is None


@given(LATENCIES, st.sampled_from([0.0, 0.01, 0.5, 0.95, 0.99, 0.999, 1.0]))
def test_a_quantile_lies_within_its_error(latencies: list[int], share: float) -> None:
    exact = float(np.quantile(latencies, share, method="inverted_cdf")) / 1000
    seen = histogram.quantile(histogram.from_us(latencies), share)
    assert seen is not None
    assert abs(seen / exact - 1) <= 0.011


@given(LATENCIES, LATENCIES)
def test_merging_counts_what_counting_all_at_once_does(left: list[int], right: list[int]) -> None:
    merged = histogram.merge(histogram.from_us(left), histogram.from_us(right))
    assert merged.tolist() == histogram.from_us(left + right).tolist()


@given(LATENCIES)
def test_packed_counts_come_back(latencies: list[int]) -> None:
    counts = histogram.from_us(latencies)
    assert histogram.unpack(histogram.pack(counts)).tolist() == counts.tolist()


@pytest.mark.parametrize(
    ("occupied", "packed"),
    [
        ({}, ""),
        ({0: 1}, "0000 01 01"),
        ({258: 7, 260: 255}, "0201 01 07 00 ff"),
        ({258: 7, 260: 256}, "0201 02 0700 0000 0001"),
        ({0: 1, 1: 65_536}, "0000 04 01000000 00000100"),
        ({0: 1, 1: 1 << 40}, "0000 04 01000000 ffffffff"),  # full is nearer than zero
        ({807: 3}, "2703 01 03"),
    ],
)
def test_it_packs_from_the_first_to_the_last_occupied_bin(
    occupied: dict[int, int], packed: str
) -> None:
    counts = histogram.empty()
    counts[list(occupied)] = list(occupied.values())
    assert histogram.pack(counts) == bytes.fromhex(packed)
    assert (histogram.unpack(bytes.fromhex(packed)) == np.minimum(counts, 2**32 - 1)).all()


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        ("28030101", "808 bins, not 809"),
        ("2703010101", "808 bins, not 809"),
        ("00", "no counts"),
        ("0000", "no counts"),
        ("00000301", "1, 2 or 4 bytes"),
        ("00000201", "multiple"),
    ],
)
def test_bytes_of_another_shape_are_refused(packed: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        histogram.unpack(bytes.fromhex(packed))


@given(st.lists(st.tuples(st.integers(0, 3), LATENCIES), max_size=8))
def test_rows_are_gathered_at_the_places_they_name(rows: list[tuple[int, list[int]]]) -> None:
    packed = [(place, histogram.pack(histogram.from_us(some))) for place, some in rows]
    found = histogram.gathered([*packed, (3, b"")], 4)
    for place in range(4):
        whole = [one for at, some in rows if at == place for one in some]
        assert found[place].tolist() == histogram.from_us(whole).tolist()


@given(
    st.lists(st.lists(st.integers(0, 200_000_000), max_size=40), max_size=6),
    st.lists(st.sampled_from([0.0, 0.07, 0.5, 0.95, 0.99, 0.999, 1.0]), max_size=4),
)
def test_quantiles_of_many_rows_are_those_of_each(
    rows: list[list[int]], shares: list[float]
) -> None:
    matrix = np.array([histogram.from_us(row) for row in rows]).reshape(-1, histogram.BINS)
    found = histogram.quantiles(matrix, shares)
    assert found.shape == (len(rows), len(shares))
    expected = [[histogram.quantile(row, share) for share in shares] for row in matrix]
    assert [[None if x != x else x for x in row] for row in found.tolist()] == expected


def test_the_rank_is_not_lost_to_rounding() -> None:
    counts = histogram.from_us([1000] * 7 + [9000] * 93)
    assert histogram.quantile(counts, 0.07) == pytest.approx(1.0, rel=0.011)
