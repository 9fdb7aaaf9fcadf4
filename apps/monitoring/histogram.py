"""Counts of latencies in logarithmic bins: any quantile within 1.1 %, and sums that merge exactly.

Bin 0 holds what was faster than 0.01 ms, the last what took 100 s or more; between them each bin's
upper edge is GAMMA times its lower one. A quantile answers the value of its bin that is nowhere
further than (GAMMA - 1) / (GAMMA + 1) = 1.0 % from the bin's edges.
"""

from collections.abc import Sequence
from math import ceil, log

import numpy as np
import numpy.typing as npt

GAMMA = 1.0202
LEAST_MS = 0.01
MOST_MS = 100_000.0
INNER = ceil(log(MOST_MS / LEAST_MS) / log(GAMMA))
BINS = INNER + 2  # with the two open ends

Counts = npt.NDArray[np.int64]
_PACKED = np.dtype("<u4")
_LIMIT = int(np.iinfo(_PACKED).max)


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


def quantiles(matrix: npt.NDArray[np.integer], shares: Sequence[float]) -> npt.NDArray[np.float64]:
    """It gives the same of many rows of counts at once, a column a share; NaN for an empty row."""
    cumulated = np.cumsum(matrix, axis=1, dtype=np.int64)
    totals = cumulated[:, -1]
    found = np.full((len(matrix), len(shares)), np.nan)
    for column, share in enumerate(shares):
        ranks = np.clip(np.ceil(share * totals - 1e-9), 1, np.maximum(totals, 1))
        places = (cumulated < ranks[:, None]).sum(axis=1)
        found[:, column] = _VALUES[np.minimum(places, BINS - 1)]
    found[totals == 0] = np.nan
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
    """It writes the counts as a row keeps them: little-endian uint32."""
    # Four thousand million answers in one bin of one span: full is nearer the truth than zero.
    return np.minimum(counts, _LIMIT).astype(_PACKED).tobytes()


def unpack(packed: bytes | memoryview) -> Counts:
    """It reads what `pack` wrote; a row without any is empty.

    Raises: ValueError when the bytes hold another number of bins.
    """
    counts = np.frombuffer(packed, dtype=_PACKED)
    if counts.size == 0:
        return empty()
    if counts.size != BINS:
        raise ValueError(f"A latency histogram has {BINS} bins, not {counts.size}")
    return counts.astype(np.int64)


def unpack_many(packed: Sequence[bytes | memoryview]) -> npt.NDArray[np.int64]:
    """It reads what `pack` wrote of many rows, into a matrix with a row each.

    Raises: ValueError when the bytes hold another number of bins.
    """
    size = BINS * _PACKED.itemsize
    whole = [bytes(one) or bytes(size) for one in packed]
    if any(len(one) != size for one in whole):
        raise ValueError(f"A latency histogram has {BINS} bins")
    counts = np.frombuffer(b"".join(whole), dtype=_PACKED)
    return counts.reshape(len(whole), BINS).astype(np.int64)
