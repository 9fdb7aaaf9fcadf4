"""Reads the values of many bodies of one pattern at once. Pure.

What one body costs in calls is here paid once for hundreds: the texts around the values are
compared by array operations, and all values are parsed as one list. Each body must be, byte for
byte, what the pattern has around its values, with a value of JSON in each place; of the others
nothing is read, and whoever asked reads them one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

LONGEST_BYTES = 64  # of a value: each has a place as long as the longest
_CONTAINERS = frozenset({list, dict})
# No string of JSON goes over the end of a line, so none can begin in one value and end in another.
_NEWLINE, _COMMA = b"\n,"
_JOINT = b"],\n["

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """The text around values that stand apart from each other."""

    start: int  # how long the texts before the first value and behind the last one are
    end: int
    mark: int  # the byte behind each value but the last
    marks: int  # how often it stands in the text
    nth: Ints  # which of them end the values
    sizes: Ints  # of the texts between two values
    # The same texts by their length: their places, and one after the other.
    texts: tuple[tuple[int, Ints, Bytes], ...]


def grid(start: bytes, between: Sequence[bytes], end: bytes) -> Grid | None:
    """It gives the Grid of at least two values; None where not the same byte follows each."""
    mark = between[0][:1]
    if mark == b"\n" or any(text[:1] != mark for text in between):
        return None
    nth = list(accumulate(text.count(mark) for text in [start, *between]))
    sizes = np.array([len(text) for text in between], dtype=np.int64)
    texts = []
    for size in np.unique(sizes).tolist():
        places = np.flatnonzero(sizes == size)
        text = b"".join([between[place] for place in places.tolist()])
        texts.append((size, places, np.frombuffer(text, dtype=np.uint8)))
    return Grid(
        start=len(start),
        end=len(end),
        mark=mark[0],
        marks=nth[-1] + end.count(mark),
        nth=np.array(nth[:-1], dtype=np.int64),
        sizes=sizes,
        texts=tuple(texts),
    )


# Which of the bodies could be read, and the values of those, a list a place.
Read = tuple[list[bool], list[list[Any]]]


def apart(bodies: Sequence[bytes], known: Grid) -> Read | None:
    """It reads bodies whose values stand apart.

    They must begin and end as the pattern does, and be one line each. None: a value is no JSON,
    or not one plain value.
    """
    text = b"\n".join(bodies) + bytes(LONGEST_BYTES + 2)
    sizes = np.fromiter(map(len, bodies), np.int64, len(bodies))
    stops = np.cumsum(sizes + 1) - 1
    marks = np.flatnonzero(np.frombuffer(text, dtype=np.uint8) == known.mark)
    first = np.searchsorted(marks, stops - sizes)
    good = np.searchsorted(marks, stops) - first == known.marks
    ends = marks[first[good, None] + known.nth]
    starts = np.column_stack([(stops - sizes)[good] + known.start, ends + known.sizes])
    widths = np.column_stack([ends, stops[good] - known.end]) - starts
    # From here on each value lies in its own body, behind the one before it.
    fits = ((widths > 0) & (widths <= LONGEST_BYTES)).all(axis=1)
    for size, places, around in known.texts:
        if not fits.any():
            break
        seen = _spans(text, ends[fits][:, places].ravel(), size).reshape(-1, around.size)
        fits[np.flatnonzero(fits)] = (seen == around).all(axis=1)
    good[np.flatnonzero(good)] = fits
    if not fits.any():
        return good.tolist(), []
    values = _values(text, starts[fits].ravel(), widths[fits].ravel())
    if values is None:
        return None
    width = known.sizes.size + 1
    return good.tolist(), [values[place::width] for place in range(width)]


def _values(text: bytes, starts: Ints, widths: Ints) -> list[Any] | None:
    """It parses what stands in these places: one plain value in each, or None."""
    longest = int(widths.max())
    cells = _spans(text, starts, longest + 2).reshape(-1, longest + 2)
    cells[np.arange(longest + 2) > widths[:, None]] = _NEWLINE
    cells[np.arange(widths.size), widths] = _COMMA
    joined = b"[" + cells.tobytes().rstrip(b"\n")[:-1] + b"]"
    try:
        values = orjson.loads(joined)
    except orjson.JSONDecodeError:
        return None
    if len(values) != widths.size or not _are_plain(joined, 1, values):
        return None
    return list(values)


def _spans(text: bytes, starts: Ints, size: int) -> Bytes:
    """It copies so many bytes from each place on."""
    windows = np.ndarray((len(text) - size + 1,), dtype=f"V{size}", buffer=text, strides=(1,))
    return windows[starts].view(np.uint8)


def listed(bodies: Sequence[bytes], start: int, end: int, values: int) -> Read | None:
    """It reads bodies that have one list of values between texts of these lengths.

    They must begin and end as the pattern does, and be one line each. None: one has no list of so
    many plain values there.
    """
    inside = [body[start : len(body) - end] for body in bodies]
    joined = b"[[" + _JOINT.join(inside) + b"]]"
    try:
        rows = orjson.loads(joined)
    except orjson.JSONDecodeError:
        return None
    # Where no list is in a list, each that we opened is one of these, and there is none besides.
    if len(rows) != len(bodies) or set(map(type, rows)) != {list}:
        return None
    if set(map(len, rows)) != {values}:
        return None
    if not _are_plain(joined, len(rows) + 1, chain.from_iterable(rows)):
        return None
    return [True] * len(rows), [list(column) for column in zip(*rows, strict=True)]


def _are_plain(joined: bytes, ours: int, values: Any) -> bool:
    """It tells whether no value is a list or an object; a bracket may stand in a text."""
    if joined.count(b"[") == ours and b"{" not in joined:
        return True
    return _CONTAINERS.isdisjoint(map(type, values))
