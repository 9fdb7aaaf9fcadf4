"""Turns captured requests and answers into rows with a column a feature. Pure.

Requests of one shape (the same form, the same names) are taken together, so that what is done for
each value is done by C code: a list of lists is turned over, a column becomes an array at once.
Only columns that hold what their type does not allow are looked at value by value.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from apps.monitoring import bodies, shapes
from apps.monitoring.many import Group
from apps.monitoring.rows import FIXED, INPUT, MOST_COLUMNS, MOST_ROWS, OUTPUT
from apps.monitoring.shapes import Kind, Plan, Shape

TEXT_BYTES = 64 << 10  # of a longer text only its beginning is a value here; the log has all of it
# Of values of one part, nulls included: callers that name their columns anew each time would
# otherwise make two thousand columns of fifty thousand nulls.
MOST_CELLS = 16_000_000
# Inputs of one part, those that are not there included. A part is 4 MiB of bodies and has fewer;
# 20 KB of zeros, one a row, to a model of a hundred inputs are a million. Requests beyond it have
# one row each.
MOST_ROOM = 4_000_000
REDACTED = "[redacted]"  # model_server.redaction puts it in a value's place
_LISTS = pa.list_(pa.string())
_TOLD = ("absent", "wrong", "extra", "redacted")
_FROM_LOG = [name for name in FIXED.names if name not in ("row", *_TOLD)]


_ARROW = {
    Kind.NUMBER: pa.float64(),
    Kind.BOOL: pa.bool_(),
    Kind.TEXT: pa.string(),
    Kind.JSON: pa.string(),
    Kind.ANY: pa.null(),
}
_FITS: dict[Kind, frozenset[type]] = {
    Kind.NUMBER: frozenset({int, float}),
    Kind.BOOL: frozenset({bool}),
    Kind.TEXT: frozenset({str}),
}


_Found = tuple[Shape | None, Shape | None]  # what was asked, what was answered


@dataclass
class Requests:
    """Captured requests, one place each in every list and in `log`."""

    log: pa.Table
    format: Sequence[str]
    status: Sequence[int]
    bodies: Sequence[tuple[Any, Any]]  # what was asked and answered: as parsed, or a Shape already
    groups: Sequence[Group] = ()  # of requests that were read together; they have no bodies there


@dataclass(frozen=True)
class Extracted:
    """The rows of requests."""

    table: pa.Table  # the columns of rows.py
    left_out: int  # rows of requests that were thinned


def rows_of(requests: Requests, known: Plan) -> Extracted:
    """It gives the rows of requests, in their order. Whatever they hold, it raises nothing."""
    alike: dict[Any, list[int]] = defaultdict(list)
    found: list[_Found] = []
    grouped = {place for group in requests.groups for place in group.places}
    left_out, room = 0, MOST_ROOM
    for group in requests.groups:
        room -= group.asked.rows * _width(group.asked, known)
    for place, (request, response) in enumerate(requests.bodies):
        if place in grouped:
            found.append((None, None))
            continue
        protocol = requests.format[place]
        asked = request if type(request) is Shape else shapes.asked(protocol, request, known)
        answer = None
        if asked is not None and requests.status[place] < 400:
            answer = _answer(protocol, response, asked, known)
        if asked is not None:
            most = min(MOST_ROWS, max(room // _width(asked, known), 1))
            if asked.rows > most:
                left_out += asked.rows - most
                asked = shapes.thinned(asked, most)
                answer = answer and shapes.thinned(answer, most)
            room -= asked.rows * _width(asked, known)
        found.append((asked, answer))
        alike[asked and asked.key, answer and answer.key].append(place)
    cells = _Cells(known, sum(asked.rows if asked else 1 for asked, _ in found))
    for group in requests.groups:
        cells.add_group(group)
    for places in alike.values():
        cells.add(places, [found[place] for place in places])
    return Extracted(cells.table(requests.log), left_out)


def _width(asked: Shape, known: Plan) -> int:
    """How many inputs each row of it has, with those that it lacks."""
    names = asked.key[1]
    width = names if isinstance(names, int) else len(names)
    return max(min(width, MOST_COLUMNS), len(known.inputs), 1)


def _answer(protocol: str, response: Any, asked: Shape, known: Plan) -> Shape | None:
    is_read = type(response) is Shape
    answer = response if is_read else shapes.answered(protocol, response, known)
    return answer if answer is not None and answer.rows == asked.rows else None


def joined(tables: Iterable[pa.Table]) -> pa.Table:
    """It puts the rows of one revision together, each column in one type.

    A column that was number in one and text in another is text.
    """
    parts = list(tables)
    types: dict[str, pa.DataType] = {}
    for part in parts:
        for name, kind in zip(part.column_names, part.schema.types, strict=True):
            seen = types.get(name, pa.null())
            types[name] = kind if seen in (pa.null(), kind) else _wider(seen, kind)
    names = [*FIXED.names, *_kept([name for name in types if name not in FIXED.names], parts)]
    columns = [pa.field(name, _known(types[name])) for name in names[len(FIXED) :]]
    schema = pa.schema([*FIXED, *columns])
    return pa.concat_tables([_cast(part, schema) for part in parts])


def _kept(names: list[str], parts: list[pa.Table]) -> list[str]:
    rows = sum(part.num_rows for part in parts)
    most = min(MOST_COLUMNS, max(4 * MOST_CELLS // max(rows, 1), 1))
    inputs = [name for name in names if name.startswith(INPUT)]
    return (inputs + [name for name in names if name not in inputs])[:most]


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    return one if other == pa.null() else pa.string()


def _known(kind: pa.DataType) -> pa.DataType:
    return pa.float64() if kind == pa.null() else kind  # nothing but nulls: no one knows


def _cast(part: pa.Table, schema: pa.Schema) -> pa.Table:
    if part.schema.equals(schema):
        return part
    columns = []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name not in part.column_names:
            columns.append(pa.nulls(part.num_rows, kind))
        else:
            column = part[name]
            columns.append(column if column.type == kind else column.cast(kind))
    return pa.table(columns, schema=schema)


@dataclass
class _Column:
    kind: Kind
    values: list[Any] = field(default_factory=list)

    def put(self, values: Iterable[Any], row: int) -> None:
        """It puts values from a row on; the rows before, that it has no values of, are null."""
        if len(self.values) < row:
            self.values.extend([None] * (row - len(self.values)))
        self.values.extend(values)


class _Cells:
    """The values of all rows, column by column, as they are put together."""

    def __init__(self, known: Plan, rows: int) -> None:
        self._known = known
        self._names = tuple(known.inputs)
        self._columns = {INPUT + name: _Column(kind) for name, kind in known.inputs.items()}
        self._most = min(MOST_COLUMNS, max(MOST_CELLS // max(rows, 1), 1))
        self._rows = 0
        self._request: list[npt.NDArray[Any]] = []
        self._row: list[npt.NDArray[Any]] = []
        self._absent: list[list[str] | None] = []
        self._extra: list[list[str] | None] = []

    def add(self, places: Sequence[int], found: Sequence[_Found]) -> None:
        """It adds the rows of requests of one shape."""
        asked = [shape for shape, _ in found if shape is not None]
        absent = extra = None
        if not asked:
            lengths = np.ones(len(places), dtype=np.int64)
            rows = np.full(len(places), -1, dtype=np.int32)
        else:
            lengths = np.array([shape.rows for shape in asked], dtype=np.int64)
            starts = np.cumsum(lengths) - lengths
            rows = (np.arange(lengths.sum()) - np.repeat(starts, lengths)).astype(np.int32)
            for start, shape in zip(starts.tolist(), asked, strict=True):
                if shape.places is not None:
                    rows[start : start + shape.rows] = shape.places
            absent, extra = self._inputs(asked)
            self._outputs([shape for _, shape in found if shape is not None])
        self._absent.extend([absent] * rows.size)
        self._extra.extend([extra] * rows.size)
        self._request.append(np.repeat(np.array(places, dtype=np.int64), lengths))
        self._row.append(rows)
        self._rows += int(rows.size)

    def add_group(self, group: Group) -> None:
        """It adds requests that were read together."""
        absent, extra = self._inputs([group.asked])
        self._outputs([group.answered])
        rows = len(group.places)
        self._absent.extend([absent] * rows)
        self._extra.extend([extra] * rows)
        self._request.append(np.array(group.places, dtype=np.int64))
        self._row.append(np.zeros(rows, dtype=np.int32))
        self._rows += rows

    def _inputs(self, asked: Sequence[Shape]) -> tuple[list[str] | None, list[str] | None]:
        """It takes the inputs, and tells which are missing and which nobody knows."""
        columns = shapes.joined(asked)
        names = self._named(asked[0].key[1], len(columns))
        extra = []
        for name, values in zip(names, columns, strict=False):
            if (name in self._known.inputs) if self._names else self._has(INPUT + name):
                self._columns[INPUT + name].put(values, self._rows)
            else:
                extra.append(name)
        absent = [] if names == self._names else sorted(set(self._names) - set(names))
        return absent or None, extra[:MOST_COLUMNS] or None

    def _named(self, names: tuple[str, ...] | int, width: int) -> tuple[str, ...]:
        if isinstance(names, int):
            named = names == len(self._names)
            return self._names if named else tuple(str(place) for place in range(width))
        if self._known.is_tensor and len(names) == len(self._names):
            return self._names
        return names

    def _has(self, name: str) -> bool:
        """It makes room for a column that no signature speaks of, as long as there is some."""
        if name not in self._columns and len(self._columns) < self._most:
            self._columns[name] = _Column(Kind.ANY)
        return name in self._columns

    def _outputs(self, answers: Sequence[Shape]) -> None:
        if answers:
            for place, values in enumerate(shapes.joined(answers)):
                if self._has(f"{OUTPUT}{place}"):
                    self._columns[f"{OUTPUT}{place}"].put(values, self._rows)

    def table(self, log: pa.Table) -> pa.Table:
        request = np.concatenate(self._request) if self._request else np.zeros(0, np.int64)
        row = np.concatenate(self._row) if self._row else np.zeros(0, np.int32)
        wrong: dict[int, list[str]] = defaultdict(list)
        redacted: dict[int, list[str]] = defaultdict(list)
        arrays = {}
        for name, column in self._columns.items():
            column.put((), self._rows)
            array, misfits, hidden = typed(column.values, column.kind)
            arrays[name] = array
            column.values = []
            for place in misfits:
                wrong[place].append(name.removeprefix(INPUT))
            if name in self._known.hidden:
                hidden = self._sent(name, row, array)
            for place in hidden:
                redacted[place].append(name)
        fixed = log.select(_FROM_LOG)
        is_whole = request.size == log.num_rows and bool((request == np.arange(request.size)).all())
        fixed = fixed if is_whole else fixed.take(pa.array(request))
        columns = {name: fixed[name] for name in _FROM_LOG} | {
            "row": pa.array(row),
            "absent": _lists_of(self._absent),
            "wrong": self._told(wrong),
            "extra": _lists_of(self._extra),
            "redacted": self._told(redacted),
        }
        for name in _TOLD:
            if columns[name] is None:
                columns[name] = pa.nulls(self._rows, _LISTS)
        kinds = [pa.field(name, values.type) for name, values in arrays.items()]
        made = pa.table(
            [*(columns[name] for name in FIXED.names), *arrays.values()],
            schema=pa.schema([*FIXED, *kinds]),
        )
        order = np.lexsort((row, request))
        if (order == np.arange(order.size)).all():
            return made
        return made.take(pa.array(order))

    def _told(self, names: dict[int, list[str]]) -> pa.Array | None:
        return _lists_of([names.get(place) for place in range(self._rows)] if names else [])

    def _sent(self, name: str, row: npt.NDArray[Any], values: pa.Array) -> list[int]:
        """It gives the rows in which a hidden column was sent: a tensor of numbers has nulls."""
        empty = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False) & (row >= 0))
        plain = name.removeprefix(INPUT)
        return [place for place in empty.tolist() if plain not in (self._absent[place] or ())]


def _lists_of(values: list[list[str] | None]) -> pa.Array | None:
    return pa.array(values, _LISTS) if any(values) else None


def typed(values: list[Any], kind: Kind) -> tuple[pa.Array, list[int], list[int]]:
    """It gives a column's values, and where those of another type were and where redacted ones.

    Both are null.
    """
    kinds = set(map(type, values))
    kinds.discard(type(None))
    if kind is Kind.ANY:
        kind = _seen(kinds)
    if kind is Kind.ANY:
        return pa.nulls(len(values)), [], []
    hidden: list[int] = []
    if str in kinds and REDACTED in values:
        hidden = [place for place, value in enumerate(values) if value == REDACTED]
        values = [None if value == REDACTED else value for value in values]
    if kind is Kind.JSON:
        return _cut(pa.array([_json(value) for value in values], pa.string())), [], hidden
    misfits: list[int] = []
    if not kinds <= _FITS[kind]:
        fits = _FITS[kind] | {type(None)}
        misfits = [place for place, value in enumerate(values) if type(value) not in fits]
        values = [value if type(value) in fits else None for value in values]
    return _array(values, kind), misfits, hidden


def _seen(kinds: set[type]) -> Kind:
    if not kinds:
        return Kind.ANY
    return next((kind for kind, fits in _FITS.items() if kinds <= fits), Kind.JSON)


def _array(values: list[Any], kind: Kind) -> pa.Array:
    if kind is Kind.TEXT:
        return _cut(pa.array(values, pa.string()))
    try:
        return pa.array(values, _ARROW[kind])
    except pa.ArrowInvalid:  # an integer that no float64 is equal to
        return pa.array([None if value is None else _float(value) for value in values])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else bodies.text(value).decode()


def _cut(texts: pa.Array) -> pa.Array:
    longest = pc.max(pc.binary_length(texts)).as_py()
    if longest is None or longest <= TEXT_BYTES:
        return texts
    return pa.array([text and _shortened(text) for text in texts.to_pylist()], pa.string())


def _shortened(text: str) -> str:
    return text.encode()[:TEXT_BYTES].decode("utf-8", "ignore")
