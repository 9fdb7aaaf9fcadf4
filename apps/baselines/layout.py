"""The bins that live data is counted in, frozen with a version's reference data. Pure.

Everything counted is a sum: counts of windows, slices and files of one layout add up exactly. What
is no value (nothing, another type, infinity) has counters of its own beside the bins.
"""

import heapq
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.baselines.meaning import INPUT, Meaning, numbers, output_names, read
from apps.baselines.texts import are_moments, hashed, named, texts

SCORE = "score"  # the column that is made of the outputs: monitoring estimates quality from it
COUNTERS = ("missing", "absent", "wrong", "non_finite", "below", "above")
MISSING, ABSENT, WRONG, NON_FINITE, BELOW, ABOVE = range(len(COUNTERS))

NUMERIC_BINS = 20
OWN_BIN_SHARE = 0.05  # of all values: one that often deserves a bin of its own
MOST_DISCRETE = 20
TIMES_EACH = 5  # seen fewer times, twenty different numbers are not all that there are
MOST_TEXTS = 49
MOST_KNOWN = 20_000
SCORE_BINS = 50
FEW_EDGES = 64  # as many comparisons are faster than searching

Counts = npt.NDArray[np.int64]
Codes = npt.NDArray[Any]
_PACKED64, _HASHES = np.dtype("<u8"), np.dtype("<u8")


class Role(StrEnum):
    INPUT = "input"
    OUTPUT = "output"


class Kind(StrEnum):
    NUMERIC = "numeric"
    DISCRETE = "discrete"  # numbers of few kinds, a bin each
    CATEGORICAL = "categorical"
    SCORE = "score"  # probability of the positive class by predicted class
    EMPTY = "empty"  # the reference has no value: one bin for whatever comes
    MOMENT = "moment"  # texts that are dates or times: one bin, since tomorrow's are always new


OF_ONE_BIN = (Kind.EMPTY, Kind.MOMENT)


@dataclass(frozen=True)
class Column:
    """The bins of one column. Behind them stand its counters, in the order of COUNTERS."""

    name: str
    role: Role
    kind: Kind
    edges: tuple[float, ...] = ()  # numeric: a bin holds what is >= its left and < its right edge
    values: tuple[float, ...] | tuple[str, ...] = ()  # discrete: in order; categorical: frequent
    # Sorted hashes of the categories beside `values`; None: too many to tell what is new.
    known: bytes | None = b""
    singles: float = 0.0  # share of the reference's rows whose category came once only
    low: float | None = None  # of the reference
    high: float | None = None

    @cached_property
    def bins(self) -> int:
        if self.kind is Kind.NUMERIC:
            return len(self.edges) + 1
        if self.kind is Kind.SCORE:
            return 2 * SCORE_BINS
        return 1 if self.kind in OF_ONE_BIN else len(self.values) + 2

    @property
    def size(self) -> int:
        return self.bins + len(COUNTERS)

    @property
    def other(self) -> int | None:
        """The bin of known categories that have none of their own."""
        return self.bins - 2 if self.kind in (Kind.DISCRETE, Kind.CATEGORICAL) else None

    @property
    def unseen(self) -> int | None:
        """The bin of what the reference never had."""
        return self.bins - 1 if self.kind in (Kind.DISCRETE, Kind.CATEGORICAL) else None

    @property
    def is_ordered(self) -> bool:
        """Whether the bins have an order that a distance may rely on."""
        return self.kind in (Kind.NUMERIC, Kind.DISCRETE, Kind.SCORE)

    def labels(self) -> list[str]:
        """It names the bins, for charts and tables."""
        if self.kind is Kind.NUMERIC:
            return _spans(self.edges)
        if self.kind is Kind.SCORE:
            return _score_spans()
        if self.kind in OF_ONE_BIN:
            return ["any value" if self.kind is Kind.EMPTY else "any time"]
        return [*(_short(value) for value in self.values), "other", "unseen"]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role.value,
            "kind": self.kind.value,
            "edges": list(self.edges),
            "values": list(self.values),
            "known": None if self.known is None else b64encode(self.known).decode(),
            "singles": self.singles,
            "low": self.low,
            "high": self.high,
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Column":
        # A database may give 1e300 back as a whole number of 301 digits.
        kind, values = Kind(found["kind"]), found["values"]
        return Column(
            name=found["name"],
            role=Role(found["role"]),
            kind=kind,
            edges=tuple(map(float, found["edges"])),
            values=tuple(map(float, values)) if kind is Kind.DISCRETE else tuple(values),
            known=None if found["known"] is None else b64decode(found["known"]),
            singles=float(found["singles"]),
            low=None if found["low"] is None else float(found["low"]),
            high=None if found["high"] is None else float(found["high"]),
        )

    @cached_property
    def known_hashes(self) -> npt.NDArray[np.uint64]:
        return np.frombuffer(self.known or b"", dtype=_HASHES)


@dataclass(frozen=True)
class Layout:
    """The bins of all columns of a version, one behind the other."""

    columns: tuple[Column, ...]
    meaning: Meaning | None = None  # how the score is read

    @cached_property
    def size(self) -> int:
        return sum(column.size for column in self.columns)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where each column's bins begin, and at last the size."""
        sizes = [column.size for column in self.columns]
        return np.cumsum([0, *sizes]).astype(np.int64)

    @cached_property
    def slices(self) -> dict[str, tuple[int, int]]:
        """Column -> where its bins begin and end."""
        starts = self.starts.tolist()
        return {
            column.name: (start, start + column.bins)
            for column, start in zip(self.columns, starts, strict=False)
        }

    @cached_property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def bin_slots(self) -> npt.NDArray[np.int64]:
        """The places of all bins, without the counters."""
        spans = [np.arange(start, stop) for start, stop in self.slices.values()]
        return np.concatenate([np.zeros(0, np.int64), *spans])

    @cached_property
    def bin_starts(self) -> npt.NDArray[np.int64]:
        """Where each column begins among `bin_slots`."""
        return np.cumsum([0, *(column.bins for column in self.columns)])[:-1].astype(np.int64)

    @cached_property
    def counter_slots(self) -> npt.NDArray[np.int64]:
        """The places of the counters, (columns, counters)."""
        stops = np.array([stop for _, stop in self.slices.values()], dtype=np.int64)
        return stops[:, None] + np.arange(len(COUNTERS))

    def as_json(self) -> dict[str, Any]:
        return {
            "columns": [column.as_json() for column in self.columns],
            "meaning": None if self.meaning is None else self.meaning.as_json(),
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Layout":
        meaning = found.get("meaning")
        return Layout(
            tuple(Column.from_json(column) for column in found["columns"]),
            None if meaning is None else Meaning.from_json(meaning),
        )

    def count(self, table: pa.Table, groups: Codes | None = None, n_groups: int = 1) -> Counts:
        """It counts rows, (n_groups, size); rows of a group below 0 are left out.

        Bins, missing, non_finite, below and above are of rows answered with 2xx; absent and wrong
        of all rows that could be read, since a model refuses what it cannot take. A value is in a
        bin or in one of the first four counters; below and above count values that are in a bin.
        """
        counts = np.zeros((n_groups, self.size), dtype=np.int64)
        if table.num_rows == 0:
            return counts
        rows = _Rows(table, groups, n_groups)
        for column, start in zip(self.columns, self.starts.tolist(), strict=False):
            part = counts[:, start : start + column.size]
            if column.kind is Kind.SCORE:
                _count_score(column, self.meaning, rows, part)
            else:
                _count_column(column, rows, part)
        return counts


def fit(table: pa.Table, roles: Mapping[str, Role], meaning: Meaning | None) -> Layout:
    """It freezes bins for the columns that have a role, in the order of the roles.

    Where the meaning tells a probability of the positive class, a column "score" follows. Columns
    of lists or bytes have no bins.
    """
    columns = [
        _fit(name, Role(role), table.column(name))
        for name, role in roles.items()
        if name in table.column_names and name != SCORE
    ]
    if meaning is not None and meaning.has_score:
        columns.append(Column(SCORE, Role.OUTPUT, Kind.SCORE))
    return Layout(tuple(column for column in columns if column is not None), meaning)


def score_bins(
    meaning: Meaning, score: npt.NDArray[np.float64], predicted: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """It gives the bin of the column "score" for each row; -1 where there is no score.

    The first SCORE_BINS are of rows that were predicted to be of another class than the positive.
    """
    none = ~np.isfinite(score)
    place = np.minimum(np.where(none, 0.0, score) * SCORE_BINS, SCORE_BINS - 1).astype(np.int64)
    return np.where(none, -1, place + SCORE_BINS * (predicted == meaning.positive))


def pack64(counts: npt.NDArray[Any]) -> bytes:
    """It writes counts as little-endian uint64."""
    return counts.astype(_PACKED64).tobytes()


def unpack64(packed: bytes | memoryview) -> Counts:
    return np.frombuffer(packed, dtype=_PACKED64).astype(np.int64)


class _Rows:
    """The rows to count: which group each is of, and what their requests did not hold."""

    def __init__(self, table: pa.Table, groups: Codes | None, n_groups: int) -> None:
        self.table, self.n_groups = table, n_groups
        place = np.zeros(table.num_rows, np.int64) if groups is None else groups.astype(np.int64)
        readable = (place >= 0) & self._holds("row", 0, np.iinfo(np.int32).max)
        self.readable = np.where(readable, place, n_groups)  # the last group is thrown away
        answered = readable & self._holds("status", 200, 299)
        self.answered = np.where(answered, place, n_groups)
        self.all_answered = n_groups == 1 and bool(answered.all())
        self.absent = self._told("absent")
        self.wrong = self._told("wrong")
        self.redacted = self._told("redacted", "")

    def _holds(self, name: str, least: int, most: int) -> npt.NDArray[np.bool_]:
        """Where a fixed column is in a span; a reference set has none of them."""
        if name not in self.table.column_names:
            return np.ones(self.table.num_rows, dtype=bool)
        values = numbers(self.table.column(name), self.table.num_rows)
        return (values >= least) & (values <= most)

    def _told(self, name: str, prefix: str = INPUT) -> dict[str, npt.NDArray[np.int64]]:
        """Column -> the rows that a list column names it in, each once."""
        if name not in self.table.column_names:
            return {}
        lists = self.table.column(name)
        if lists.null_count == len(lists):
            return {}
        lists = pa.concat_arrays(lists.chunks)
        words = pc.list_flatten(lists).dictionary_encode()
        parents = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        codes = pc.fill_null(words.indices, -1).to_numpy(zero_copy_only=False)
        return {
            prefix + word: np.unique(parents[codes == code])
            for code, word in enumerate(texts(words.dictionary))
        }

    def spread(self, codes: Codes, bins: int) -> Counts:
        """It counts answered rows by group and bin; a code of `bins` is no bin."""
        if self.all_answered:
            return np.bincount(codes, minlength=bins + 1)[None, :bins]
        keys = self.answered * (bins + 1) + codes
        shape = (self.n_groups + 1, bins + 1)
        return np.bincount(keys, minlength=shape[0] * shape[1]).reshape(shape)[:-1, :-1]

    def add(
        self, part: Counts, counter: int, of: npt.NDArray[np.int64], where: npt.NDArray[Any]
    ) -> None:
        """It adds the rows of a mask, or of a list of places, to a counter."""
        found = of[where]
        if found.size:
            part[:, counter - len(COUNTERS)] += np.bincount(found, minlength=self.n_groups + 1)[:-1]


def _count_score(column: Column, meaning: Meaning | None, rows: _Rows, part: Counts) -> None:
    if meaning is None or not output_names(rows.table):
        rows.add(part, ABSENT, rows.answered, np.ones(rows.table.num_rows, dtype=bool))
        return
    found = read(meaning, rows.table)
    score = np.full(rows.table.num_rows, np.nan) if found.score is None else found.score
    bins = score_bins(meaning, score, found.predicted)
    empty = bins < 0
    for name in output_names(rows.table):
        if name in rows.redacted:
            empty[rows.redacted[name]] = False
    rows.add(part, MISSING, rows.answered, empty)
    part[:, : column.bins] += rows.spread(np.where(bins < 0, column.bins, bins), column.bins)


def _count_column(column: Column, rows: _Rows, part: Counts) -> None:
    whole = rows.answered if column.role is Role.OUTPUT else rows.readable
    if column.name not in rows.table.column_names:
        rows.add(part, ABSENT, whole, np.ones(rows.table.num_rows, dtype=bool))
        return
    is_text = column.kind in (Kind.CATEGORICAL, Kind.MOMENT)
    values = _plain(rows.table.column(column.name), numbered=not is_text)
    empty = values.is_null().to_numpy() if values.null_count else np.zeros(len(values), dtype=bool)
    no_value = empty.copy()
    for counter, told in ((ABSENT, rows.absent), (WRONG, rows.wrong)):
        places = told.get(column.name)
        if places is not None:
            rows.add(part, counter, whole, places)
            no_value[places], empty[places] = True, False
    hidden = rows.redacted.get(column.name)
    if hidden is not None:  # counted as nothing: no one knows what it was
        no_value[hidden], empty[hidden] = True, False
    if values.null_count:
        rows.add(part, MISSING, rows.answered, empty)
    if not _fits(column, values.type):
        rows.add(part, WRONG, whole, ~no_value)
        return
    codes = _code(column, values, no_value, rows, part)
    part[:, : column.bins] += rows.spread(codes, column.bins)


def _code(
    column: Column, values: pa.ChunkedArray, no_value: npt.NDArray[Any], rows: _Rows, part: Counts
) -> Codes:
    """The bin of each row, `column.bins` for none; it counts what only numbers have."""
    if column.kind is Kind.CATEGORICAL:
        codes = _code_texts(column, values)
        return np.where(no_value, column.bins, codes) if no_value.any() else codes
    if column.kind in OF_ONE_BIN:
        return np.where(no_value, 1, 0)
    found = numbers(values, len(values))
    odd = ~np.isfinite(found)
    rows.add(part, NON_FINITE, rows.answered, odd & ~no_value)
    odd |= no_value
    codes = _among(column, found)
    if odd.any():
        codes[odd] = column.bins
        found = np.where(odd, np.nan, found)  # NaN is neither below nor above anything
    if column.low is not None and column.high is not None:
        rows.add(part, BELOW, rows.answered, found < column.low)
        rows.add(part, ABOVE, rows.answered, found > column.high)
    return codes


def _among(column: Column, found: npt.NDArray[np.float64]) -> Codes:
    codes: Codes
    if column.kind is Kind.DISCRETE:
        codes = np.full(len(found), column.bins - 1, dtype=np.uint8)
        for place, value in enumerate(column.values):
            codes[found == value] = place
        return codes
    if len(column.edges) > FEW_EDGES:
        return np.searchsorted(np.array(column.edges), found, side="right")
    codes = np.zeros(len(found), dtype=np.uint8)
    for edge in column.edges:
        codes += (found >= edge).view(np.uint8)
    return codes


def _code_texts(column: Column, values: pa.ChunkedArray) -> Codes:
    """The bin of each text, looked up once for each different one."""
    coded = pa.concat_arrays(values.dictionary_encode().chunks)
    places = np.array([*_bins_of(column, coded.dictionary), column.bins], dtype=np.int64)
    codes = pc.fill_null(coded.indices, len(places) - 1).to_numpy(zero_copy_only=False)
    found: Codes = places[codes]
    return found


def _bins_of(column: Column, words: pa.Array) -> list[int]:
    frequent = {value: place for place, value in enumerate(column.values)}
    keys = [named(text) for text in texts(words)]
    found = [frequent.get(key, column.bins - 2) for key in keys]
    if column.known is None:
        return found
    rare = [place for place, bin_ in enumerate(found) if bin_ == column.bins - 2]
    hashes = np.array([hashed(keys[place]) for place in rare], dtype=_HASHES)
    fresh = ~np.isin(hashes, column.known_hashes)
    for place in np.array(rare, dtype=np.int64)[fresh].tolist():
        found[place] = column.bins - 1
    return found


def _fit(name: str, role: Role, raw: pa.ChunkedArray) -> Column | None:
    values = _plain(raw)
    if pa.types.is_null(values.type):
        return Column(name, role, Kind.EMPTY)
    if pa.types.is_large_string(values.type):
        return _fit_texts(name, role, values)
    if not pa.types.is_float64(values.type):
        return None
    found = numbers(values, len(values))
    return _fit_numbers(name, role, np.sort(found[np.isfinite(found)]))


def _fit_numbers(name: str, role: Role, found: npt.NDArray[np.float64]) -> Column:
    """It places the edges: quantiles, and both sides of each value that is frequent."""
    if found.size == 0:
        return Column(name, role, Kind.NUMERIC)
    low, high = float(found[0]), float(found[-1])
    values, times = np.unique(found, return_counts=True)
    if len(values) <= MOST_DISCRETE and found.size >= TIMES_EACH * len(values):
        kinds = tuple(float(value) + 0.0 for value in values)  # -0.0 is 0.0
        return Column(name, role, Kind.DISCRETE, values=kinds, low=low, high=high)
    own = values[times >= OWN_BIN_SHARE * found.size]
    places = np.arange(1, NUMERIC_BINS) * found.size // NUMERIC_BINS
    with np.errstate(over="ignore"):  # nothing finite follows the greatest float
        edges = np.unique(np.concatenate([found[places], own, np.nextafter(own, np.inf)]))
    finite = edges[np.isfinite(edges)]
    return Column(name, role, Kind.NUMERIC, tuple(map(float, finite)), low=low, high=high)


def _fit_texts(name: str, role: Role, values: pa.ChunkedArray) -> Column:
    pairs = pc.value_counts(values.drop_null())
    times: dict[str, int] = {}
    for text, count in zip(texts(pairs.field(0)), pairs.field(1).to_pylist(), strict=True):
        times[named(text)] = times.get(named(text), 0) + count
    if are_moments(times):
        return Column(name, role, Kind.MOMENT)
    frequent = tuple(heapq.nsmallest(MOST_TEXTS, times, key=lambda key: (-times[key], key)))
    rest = [] if len(times) > MOST_KNOWN + len(frequent) else sorted(set(times) - {*frequent})
    hashes = np.sort(np.array([hashed(key) for key in rest], dtype=_HASHES))
    too_many = len(times) > MOST_KNOWN + len(frequent)
    once = sum(count == 1 for count in times.values())
    return Column(
        name,
        role,
        Kind.CATEGORICAL,
        values=frequent,
        known=None if too_many else hashes.tobytes(),
        singles=0.0 if too_many else once / max(sum(times.values()), 1),
    )


def _plain(column: pa.ChunkedArray, *, numbered: bool = False) -> pa.ChunkedArray:
    """It brings a column to float64, large_string or null; others stay what they are.

    `numbered`: true and false are 1 and 0, as they are where a reference set wrote them so.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type), numbered=numbered)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_boolean(kind):
        return column.cast(pa.float64() if numbered else pa.large_string())
    # Offsets of 32 bits end at 2 GB of text in one array.
    if pa.types.is_string(kind) or pa.types.is_temporal(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    return column


def _fits(column: Column, kind: pa.DataType) -> bool:
    if column.kind is Kind.EMPTY or pa.types.is_null(kind):
        return True
    if column.kind in (Kind.CATEGORICAL, Kind.MOMENT):
        return bool(pa.types.is_large_string(kind))
    return bool(pa.types.is_float64(kind))


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _spans(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["any number"]
    inner = [
        f"{low:.6g}" if np.nextafter(low, np.inf) == high else f"{low:.6g} to {high:.6g}"
        for low, high in pairwise(edges)
    ]
    return [f"below {edges[0]:.6g}", *inner, f"from {edges[-1]:.6g}"]


def _score_spans() -> list[str]:
    spans = [f"{place / SCORE_BINS:.2f}–{(place + 1) / SCORE_BINS:.2f}" for place in range(50)]
    return [f"{word} {span}" for word in ("other class", "positive") for span in spans]
