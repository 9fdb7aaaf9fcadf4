"""Counts as bytes: exactly these bytes, exactly the same counts back, and exact sums of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.baselines import packing

SIZE = 5
COUNT = st.integers(0, 300) | st.integers(0, 70_000) | st.integers(0, 2**32 - 1)
ROWS = st.lists(st.lists(COUNT, min_size=SIZE, max_size=SIZE), max_size=8)


@pytest.mark.parametrize(
    ("counts", "packed"),
    [
        ([], "01"),
        ([0, 255], "01 00 ff"),
        ([0, 256], "02 0000 0001"),
        ([1, 65_535], "02 0100 ffff"),
        ([1, 65_536], "04 01000000 00000100"),
        ([1, 2**32 + 5], "04 01000000 ffffffff"),
    ],
)
def test_counts_are_as_wide_as_the_largest_needs(counts: list[int], packed: str) -> None:
    assert packing.pack(np.array(counts, dtype=np.int64)) == bytes.fromhex(packed)
    expected = [min(count, packing.MOST) for count in counts]
    assert packing.unpack(memoryview(bytes.fromhex(packed))).tolist() == expected


@given(ROWS)
def test_the_total_is_the_sum_of_each(rows: list[list[int]]) -> None:
    packed = [packing.pack(np.array(row, dtype=np.int64)) for row in rows]
    found = packing.total(packed, SIZE)
    assert found.dtype == np.int64
    assert found.tolist() == [sum(row[place] for row in rows) for place in range(SIZE)]


@pytest.mark.parametrize(
    ("packed", "words"),
    [("", "no counts"), ("0301", "1, 2 or 4 bytes wide, not 3"), ("0201", "multiple")],
)
def test_what_pack_did_not_write_is_refused(packed: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        packing.unpack(bytes.fromhex(packed))


@pytest.mark.parametrize("size", [1, 3])
def test_a_row_of_another_layout_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="has 2 counts"):
        packing.total(
            [packing.pack(np.ones(2, np.int64)), packing.pack(np.ones(size, np.int64))], 2
        )
