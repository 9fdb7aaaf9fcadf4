"""Counts of latencies in logarithmic bins: any quantile within 1.1 %, and sums that merge exactly.

Bin 0 holds what was faster than 0.01 ms, the last what took 100 s or more; between them each bin's
upper edge is GAMMA times its lower one. A quantile answers the value of its bin that is nowhere
further than (GAMMA - 1) / (GAMMA + 1) = 1.0 % from the bin's edges.
"""

from collections.abc import Iterable, Sequence
from math import ceil, log

import numpy as np
import numpy.typing as npt

from apps.baselines import packing
from apps.baselines.packing import Packed

GAMMA = 1.0202
LEAST_MS = 0.01
MOST_MS = 100_000.0
INNER = ceil(log(MOST_MS / LEAST_MS) / log(GAMMA))
BINS = INNER + 2  # with the two open ends

Counts = npt.NDArray[np.int64]


def empty() -> Counts:
    return np.zeros(BINS, dtype=np.int64)


def from_us(latencies: npt.ArrayLike) -> Counts:
    """It counts latencies, given in microseconds."""
    return np.bincount(places_of(latencies), minlength=BINS).astype(np.int64)


def places_of(latencies: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """It gives the bin of each latency, given in microseconds."""
    ms = np.asarray(latencies, dtype=np.float64) / 1000.0
    # Nothing has a logarithm below zero; a clock that ran backwards counts as "too fast to tell".
    places = np.floor(np.log(np.maximum(ms, LEAST_MS) / LEAST_MS) / log(GAMMA)) + 1
    places[ms < LEAST_MS] = 0
    places[ms >= MOST_MS] = BINS - 1
    found: npt.NDArray[np.int64] = np.minimum(places, BINS - 1).astype(np.int64)
    return found


def merge(*parts: Counts) -> Counts:
    """It adds counts; the order makes no difference."""
    total = empty()
    for part in parts:
        total += part
    return total


def quantile(counts: npt.NDArray[np.integer], share: float) -> float | None:
    """It gives the latency in ms that `share` of the counted ones did not exceed.

    By nearest rank: the ceil(share * n)-th smallest. None when nothing was counted. What fell into
    an open end is said to be that end's edge.
    """
    cumulated = np.cumsum(counts, dtype=np.int64)
    total = int(cumulated[-1])
    if total == 0:
        return None
    # The rounding of 0.07 * 100 to 7.000000000000001 must not ask for the eighth.
    rank = min(max(ceil(share * total - 1e-9), 1), total)
    return value_of(int(np.searchsorted(cumulated, rank)))


def quantiles(matrix: Counts, shares: Sequence[float]) -> npt.NDArray[np.float64]:
    """It gives the same of many rows of counts at once, a column a share; NaN for an empty row."""
    found = np.full((len(matrix), len(shares)), np.nan)
    occupied = np.flatnonzero(matrix.any(axis=0))
    if not occupied.size:
        return found
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    # One row behind the other, each rank behind the ranks of the rows before: one search finds all.
    cumulated = np.cumsum(matrix[:, first:last])
    ends = cumulated[last - first - 1 :: last - first]
    before = np.concatenate([[0], ends[:-1]])
    totals = ends - before
    ranks = np.clip(
        np.ceil(np.outer(totals, shares) - 1e-9).astype(np.int64), 1, np.maximum(totals, 1)[:, None]
    )
    places = np.searchsorted(cumulated, before[:, None] + ranks)
    starts = (last - first) * np.arange(len(matrix))
    some = totals > 0
    found[some] = _VALUES[(places - starts[:, None])[some] + first]
    return found


def value_of(place: int) -> float:
    """It gives the latency in ms that stands for a bin."""
    if place <= 0:
        return LEAST_MS
    if place >= BINS - 1:
        return MOST_MS
    lower = LEAST_MS * GAMMA ** (place - 1)
    return lower * 2 * GAMMA / (1 + GAMMA)


_VALUES = np.array([value_of(place) for place in range(BINS)])


def pack(counts: Counts) -> bytes:
    """It writes the counts as a row keeps them: nothing for none; else the first occupied bin in
    two bytes, little-endian, and the counts from there to the last occupied one.

    Latencies of one model lie in a fifth of the bins: a chart reads that much less.
    """
    occupied = np.flatnonzero(counts)
    if not occupied.size:
        return b""
    first, last = int(occupied[0]), int(occupied[-1])
    return first.to_bytes(2, "little") + packing.pack(counts[first : last + 1])


def unpack(packed: Packed) -> Counts:
    """It reads what `pack` wrote. Raises: ValueError as `add`."""
    counts = empty()
    add(counts, packed)
    return counts


def add(counts: Counts, packed: Packed) -> None:
    """It adds what `pack` wrote to counts.

    Raises: ValueError when the bytes are of no histogram with so many bins.
    """
    if not packed:
        return
    first, more = int.from_bytes(packed[:2], "little"), packing.read(packed, 2)
    if first + more.size > BINS:
        raise ValueError(f"A latency histogram has {BINS} bins, not {first + more.size}")
    counts[first : first + more.size] += more


def gathered(rows: Iterable[tuple[int, Packed]], size: int) -> Counts:
    """It adds what `pack` wrote of many rows, each to the place it names, into (size, BINS).

    Raises: ValueError as `add`.
    """
    counts = np.zeros((size, BINS), dtype=np.int64)
    for place, packed in rows:
        add(counts[place], packed)
    return counts
