"""Counts as the bytes that a row keeps. Pure.

A byte says how wide each count is, 1, 2 or 4 bytes; the counts follow, little-endian and unsigned,
as wide as the largest of them needs. Most spans of time are short, and their counts small.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Packed = bytes | memoryview
MOST = 2**32 - 1
_WIDTHS = {width: np.dtype(f"<u{width}") for width in (1, 2, 4)}


def pack(counts: npt.NDArray[np.integer]) -> bytes:
    """It writes counts; what is more than MOST is written as MOST, which is nearer than zero."""
    most = int(counts.max(initial=0))
    if most > MOST:
        counts, most = np.minimum(counts, MOST), MOST
    width = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
    return b"%c%b" % (width, counts.astype(_WIDTHS[width]).tobytes())


def read(packed: Packed, start: int = 0) -> npt.NDArray[np.unsignedinteger]:
    """It gives the counts behind `start` as they lie there: as narrow numbers, not to be changed.

    Raises: ValueError for what `pack` did not write.
    """
    if len(packed) <= start:
        raise ValueError("There are no counts in it")
    kind = _WIDTHS.get(packed[start])
    if kind is None:
        raise ValueError(f"Counts are 1, 2 or 4 bytes wide, not {packed[start]}")
    return np.frombuffer(memoryview(packed)[start + 1 :], kind)


def unpack(packed: Packed) -> Counts:
    """It reads what `pack` wrote. Raises: ValueError as `read`."""
    return read(packed).astype(np.int64)


def total(rows: Iterable[Packed], size: int) -> Counts:
    """It adds up what `pack` wrote of many rows, each of so many counts.

    Raises: ValueError when a row holds another number of counts.
    """
    found = np.zeros(size, np.int64)
    for counts in _stacked([read(row) for row in rows], size):
        found += counts.sum(axis=0, dtype=np.int64)
    return found


def _stacked(
    rows: Sequence[npt.NDArray[np.unsignedinteger]], size: int
) -> Iterable[npt.NDArray[np.unsignedinteger]]:
    """It puts rows of one width together: one sum over them is quicker than one for each."""
    if any(row.size != size for row in rows):
        raise ValueError(f"Each row has {size} counts")
    for kind in _WIDTHS.values():
        alike = [row for row in rows if row.dtype == kind]
        if alike:
            yield np.stack(alike)
