"""Reads bodies that differ from earlier ones in their values only, without parsing the rest. Pure.

A caller sends the same names, shapes and punctuation with each request, and only the values are
new. What is between the values is compared as bytes with a body that was parsed before; what
stands in their places is parsed as one list. A body that differs in anything else is no match, and
is parsed as a whole by whoever asked: a pattern never decides what is valid. `alike.py` reads many
bodies of one pattern together.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
from typing import Any

import orjson

from apps.monitoring import alike, shapes
from apps.monitoring.rows import MOST_COLUMNS
from apps.monitoring.shapes import Plan, Shape

LARGEST_BYTES = 64 << 10  # of a longer body the values are most of it
MOST_PATTERNS = 4  # of one protocol and side: each miss has tried all of them
# To learn one takes as long as to parse some hundred bodies, and callers who never send the same
# twice must not pay for it each time.
BODIES_A_LESSON = 500
MOST_CREDIT = 8 * BODIES_A_LESSON
PROTOCOLS = ("mlflow", "v1", "v2")  # what a line calls its own is a stranger's text
DEEPEST = 16
# What stands under these says how the values are to be read, wherever it is.
_FIXED_KEYS = frozenset({"name", "shape", "datatype", "columns"})
_TOKEN = re.compile(rb'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+)', re.DOTALL)
_CONTAINERS = frozenset({list, dict})
_COMMA = re.compile(rb"\s*,\s*")
# Between two slots: no string of JSON goes over the end of a line, so none can begin in one slot
# and end in another.
_JOINT = b",\n"

# The member of V2 that is another in each body and no value of a row: first in a request, and where
# a model server writes it in an answer. Plain characters only, so that what is left is JSON exactly
# when all of it is.
_ID = re.compile(
    rb'\{((?:"model_name":"[ !#-\[\]-~]*",)?(?:"model_version":"[ !#-\[\]-~]*",)?)'
    rb'"id":"[ !#-\[\]-~]*",'
)
_NAMED_WITHIN = 500  # bytes: what stands before the member

Side = Callable[[str, Any, Plan], Shape | None]


@dataclass(slots=True)
class Pattern:
    """Bodies with one text around their values."""

    # Before the first slot and behind the last one.
    start: bytes
    end: bytes
    # Of more than one slot: what stands before each of them, and maybe elsewhere; what follows the
    # slot in each piece between two of those; and how many bytes that is together.
    delimiter: bytes
    tails: tuple[bytes, ...]
    fixed: int
    slots: int
    values: int  # one in each slot, or all in one
    # Of more than one slot: the pieces in which they stand, in their order.
    pieces: Callable[[list[bytes]], tuple[bytes, ...]]
    order: tuple[int, ...] | None  # the places of the values in row order, where it is not theirs
    key: tuple[str, Any]
    rows: int
    grid: alike.Grid | None  # of more than one slot

    def read_many(self, bodies: Sequence[bytes]) -> tuple[list[bool], Shape] | None:
        """It tells which bodies are of this pattern, and gives the values of those together.

        They must begin and end as it does. None: they must be read one by one.
        """
        if self.rows > 1:
            return None
        if self.slots == 1:
            found = alike.listed(bodies, len(self.start), len(self.end), self.values)
        else:
            found = None if self.grid is None else alike.apart(bodies, self.grid)
        if found is None:
            return None
        good, columns = found
        if self.order is not None and columns:
            columns = [columns[place] for place in self.order]
        return good, Shape(("columns", self.key[1]), sum(good), columns)

    def read(self, body: bytes) -> Shape | None:
        """It gives the values of a body, if it is of this pattern."""
        # The first comparison is all that a body of another pattern costs.
        if not (body.startswith(self.start) and body.endswith(self.end)):
            return None
        if self.slots == 1:
            joined = body[len(self.start) : len(body) - len(self.end)]
        else:
            pieces = body.split(self.delimiter)
            if len(pieces) != len(self.tails):
                return None
            joined = _JOINT.join(self.pieces([*map(bytes.removesuffix, pieces, self.tails)]))
            # So few bytes are left only when each piece ended as it should and those without a
            # slot are empty.
            if len(joined) != len(body) - self.fixed:
                return None
        try:
            values = orjson.loads(b"[" + joined + b"]")
        except orjson.JSONDecodeError:
            return None
        if len(values) != self.values:
            return None
        # A bracket may stand in a text; one that opens a list could close what was around a slot.
        if (b"[" in joined or b"{" in joined) and not _CONTAINERS.isdisjoint(map(type, values)):
            return None
        if self.order is not None:
            values = [values[place] for place in self.order]
        if self.rows == 1:
            return Shape(self.key, 1, [values])
        width = self.values // self.rows
        rows = [values[first : first + width] for first in range(0, self.values, width)]
        return Shape(self.key, self.rows, rows)


class Patterns:
    """What was learnt of the bodies of one revision."""

    def __init__(self, known: Plan) -> None:
        self.known = known
        self._asked: dict[str, list[Pattern]] = {}  # by protocol; what was met last comes first
        self._answered: dict[str, list[Pattern]] = {}
        self._credit = MOST_CREDIT

    def asked(self, protocol: str, body: bytes) -> Shape | None:
        body = without_id(protocol, body)
        learnt = self._asked.get(protocol)
        if learnt and (found := learnt[0].read(body)) is not None:
            return found
        return self._look(self._asked, shapes.asked, protocol, body)

    def answered(self, protocol: str, body: bytes) -> Shape | None:
        body = without_id(protocol, body)
        learnt = self._answered.get(protocol)
        if learnt and (found := learnt[0].read(body)) is not None:
            return found
        return self._look(self._answered, shapes.answered, protocol, body)

    @property
    def is_taught(self) -> bool:
        """It tells whether there is something to read many bodies by."""
        return bool(self._asked and self._answered)

    def pairs(self, protocol: str) -> list[tuple[Pattern, Pattern]]:
        """It gives what was learnt of one protocol: what may be asked and answered."""
        answers = self._answered.get(protocol, [])
        return [(asked, other) for asked in self._asked.get(protocol, []) for other in answers]

    def _look(
        self, side: dict[str, list[Pattern]], shape: Side, protocol: str, body: bytes
    ) -> Shape | None:
        if len(body) > LARGEST_BYTES or protocol not in PROTOCOLS:
            return None
        learnt = side.get(protocol, [])
        for place, pattern in enumerate(learnt[1:], start=1):
            if (found := pattern.read(body)) is not None:
                learnt.insert(0, learnt.pop(place))
                return found
        self._credit = min(self._credit + 1, MOST_CREDIT)
        if self._credit < BODIES_A_LESSON:
            return None
        self._credit -= BODIES_A_LESSON
        new = learn(protocol, body, shape, self.known)
        found = None if new is None else new.read(body)
        if new is None or found is None:
            return None
        side[protocol] = [new, *learnt[: MOST_PATTERNS - 1]]
        return found


def without_id(protocol: str, body: bytes) -> bytes:
    """It takes out of a V2 body the id that its caller gave it, where one stands in front."""
    if protocol != "v2" or b'"id":"' not in body[:_NAMED_WITHIN]:
        return body
    found = _ID.match(body)
    return body if found is None else b"{" + found[1] + body[found.end() :]


def learn(protocol: str, body: bytes, side: Side, known: Plan) -> Pattern | None:
    """It makes a pattern of a body, if it can be read as rows and its values stand apart."""
    try:
        orjson.loads(body)  # the scan below takes what is no JSON
        shape = side(protocol, _marked(body), known)
    except (ValueError, StopIteration):
        return None
    if shape is None:
        return None
    columns = shapes.joined([shape])
    cells = [column[row] for row in range(shape.rows) for column in columns]
    width = len(columns)
    if not cells or set(map(type, cells)) != {_Value}:
        return None
    if width > MOST_COLUMNS or (isinstance(shape.key[1], int) and shape.key[1] != width):
        return None
    return _pattern(body, cells, ("lists", shape.key[1]), shape.rows)


def _pattern(body: bytes, cells: list["_Value"], key: tuple[str, Any], rows: int) -> Pattern | None:
    values = sorted({cell.start: cell for cell in cells}.values(), key=lambda cell: cell.start)
    slots = _slots(body, values)
    if len(values) != len(cells) or len(slots) not in (1, len(values)):
        return None
    starts = [start for start, _ in slots]
    ends = [0, *(end for _, end in slots)]
    before = [body[end:start] for end, start in zip(ends, starts, strict=False)]
    delimiter = before[0]
    for text in before[1:]:
        delimiter = _common_end(delimiter, text)
    if not delimiter or any(delimiter in body[start:end] for start, end in slots):
        return None
    lengths = {start: end - start for start, end in slots}
    tails, slotted, at = [], [], 0
    for place, piece in enumerate(body.split(delimiter)):
        if at in lengths:
            slotted.append(place)
        tails.append(piece[lengths.pop(at, 0) :])
        at += len(piece) + len(delimiter)
    if lengths:
        return None  # of delimiters that overlap, the split takes the first
    place_of = {value.start: place for place, value in enumerate(values)}
    order = tuple(place_of[cell.start] for cell in cells)
    inside = sum(end - start for start, end in slots)
    end = body[slots[-1][1] :]
    return Pattern(
        start=before[0],
        end=end,
        delimiter=delimiter,
        tails=tuple(tails),
        fixed=len(body) - inside - len(_JOINT) * (len(slots) - 1),
        slots=len(slots),
        values=len(values),
        pieces=itemgetter(*slotted) if len(slotted) > 1 else tuple,
        order=None if order == tuple(range(len(order))) else order,
        key=key,
        rows=rows,
        grid=alike.grid(before[0], before[1:], end) if len(slots) > 1 else None,
    )


def _common_end(one: bytes, other: bytes) -> bytes:
    pairs = zip(reversed(one), reversed(other), strict=False)
    size = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return one[len(one) - size :]


def _slots(body: bytes, values: list["_Value"]) -> list[tuple[int, int]]:
    """It gives where values stand; those of one list together."""
    slots: list[tuple[int, int]] = []
    for value in values:
        if slots and _COMMA.fullmatch(body, slots[-1][1], value.start):
            slots[-1] = (slots[-1][0], value.end)
        else:
            slots.append((value.start, value.end))
    return slots


@dataclass(slots=True, frozen=True)
class _Value:
    """Stands for a value, where one that is parsed would not say where it was."""

    start: int
    end: int


_Tokens = Iterator[re.Match[bytes]]


def _marked(body: bytes) -> Any:
    """It parses JSON, with a _Value for each value that may be another in the next body.

    Raises: ValueError where a key comes twice or it is nested too deep: that is no pattern.
    """
    tokens = _TOKEN.finditer(body)
    return _value(tokens, next(tokens), is_fixed=False, depth=0)


def _value(tokens: _Tokens, first: re.Match[bytes], *, is_fixed: bool, depth: int) -> Any:
    if depth > DEEPEST:
        raise ValueError("It is nested too deep")
    if first[1] == b"{":
        return _object(tokens, is_fixed=is_fixed, depth=depth)
    if first[1] == b"[":
        items: list[Any] = []
        for token in tokens:
            if token[1] == b"]":
                break
            if token[1] != b",":
                items.append(_value(tokens, token, is_fixed=is_fixed, depth=depth + 1))
        return items
    return orjson.loads(first[1]) if is_fixed else _Value(*first.span(1))


def _object(tokens: _Tokens, *, is_fixed: bool, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for token in tokens:
        if token[1] == b"}":
            break
        if token[1] == b",":
            continue
        key = orjson.loads(token[1])
        if key in found:
            raise ValueError(f"{key!r} comes twice")
        next(tokens)  # the colon
        fixed = is_fixed or key in _FIXED_KEYS
        found[key] = _value(tokens, next(tokens), is_fixed=fixed, depth=depth + 1)
    return found
