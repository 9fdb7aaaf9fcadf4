"""Counts in logarithmic bins: exact places, exact merging, quantiles within their error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.monitoring import histogram

LATENCIES = st.lists(st.integers(10, 99_999_999), min_size=1, max_size=300)


def test_it_has_806_bins_between_two_open_ends() -> None:
    assert histogram.BINS == 808
    assert len(histogram.pack(histogram.empty())) == 3232


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


def test_packing_is_little_endian_uint32_and_saturates() -> None:
    counts = histogram.empty()
    counts[0], counts[1] = 1, 1 << 40
    assert histogram.pack(counts)[:8] == b"\x01\x00\x00\x00\xff\xff\xff\xff"


def test_bytes_of_another_shape_are_refused() -> None:
    assert histogram.unpack(b"").sum() == 0
    with pytest.raises(ValueError, match="808 bins, not 2"):
        histogram.unpack(bytes(8))


def test_the_rank_is_not_lost_to_rounding() -> None:
    counts = histogram.from_us([1000] * 7 + [9000] * 93)
    assert histogram.quantile(counts, 0.07) == pytest.approx(1.0, rel=0.011)
