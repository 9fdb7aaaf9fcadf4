"""How the bodies of requests and answers hold their values, by protocol. Pure.

Bodies that hold them in the same way have one key, and are read together.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.monitoring.rows import INPUT, MOST_COLUMNS, OUTPUT
from model_server import mlmodel


class Kind(Enum):
    """What the values of a column are."""

    NUMBER = "number"
    BOOL = "bool"
    TEXT = "text"
    JSON = "json"  # lists and objects, written as text
    ANY = "any"  # as the values show


_BY_TYPE = {
    **dict.fromkeys(("integer", "long", "float", "double"), Kind.NUMBER),
    **dict.fromkeys(("string", "binary", "datetime"), Kind.TEXT),
    "boolean": Kind.BOOL,
    "any": Kind.ANY,
}


@dataclass(frozen=True)
class Plan:
    """The inputs and outputs that a version's signature names, in its order.

    Without inputs the requests say which there are.
    """

    inputs: Mapping[str, Kind]
    outputs: tuple[str, ...] = ()
    is_tensor: bool = False  # without names of its own: values are known by their place
    # Columns of the rows that the policy hides: a null that was sent there stands for a value.
    hidden: frozenset[str] = frozenset()


def plan(signature: Mapping[str, Any], redacted: Collection[str] = ()) -> Plan:
    """It reads a build's signature, as MLflow writes it; `redacted` as a policy names columns."""
    found = mlmodel.read_signature(dict(signature))
    if found is None:
        return Plan({}, hidden=frozenset(INPUT + name for name in redacted))
    outputs = tuple(
        str(place) if spec.get("name") is None else str(spec["name"])
        for place, spec in enumerate(found.outputs)
    )
    inputs = {column.name: _BY_TYPE.get(column.type, Kind.JSON) for column in found.columns}
    hidden = {INPUT + name for name in inputs if name in redacted}
    hidden |= {f"{OUTPUT}{place}" for place, name in enumerate(outputs) if name in redacted}
    for tensor in found.tensors:
        columns = _of_tensor(tensor)
        inputs |= columns
        if tensor.name in redacted:
            hidden |= {INPUT + name for name in columns}
    is_tensor = len(found.tensors) == 1 and found.tensors[0].name is None
    kept = dict(list(inputs.items())[:MOST_COLUMNS])
    return Plan(kept, outputs, is_tensor, frozenset(hidden))


def _of_tensor(tensor: mlmodel.Tensor) -> dict[str, Kind]:
    try:
        letter = np.dtype(tensor.dtype).kind
    except TypeError:
        letter = "O"
    kind = {"b": Kind.BOOL, "i": Kind.NUMBER, "u": Kind.NUMBER, "f": Kind.NUMBER}.get(
        letter, Kind.ANY
    )
    width = 1 if len(tensor.shape) == 1 else tensor.shape[1]
    if len(tensor.shape) > 2 or width < 1:
        return {} if tensor.name is None else {tensor.name: Kind.JSON}
    return dict.fromkeys(_places(tensor.name, min(width, MOST_COLUMNS)), kind)


def _places(name: str | None, width: int) -> list[str]:
    """It names the columns of a tensor: a matrix has one a place."""
    if name is None:
        return [str(place) for place in range(width)]
    return [name] if width == 1 else [f"{name}.{place}" for place in range(width)]


MOST_DIMENSIONS = 32  # a server refuses more
MOST_TURNED = 1_000_000  # values of an answer whose objects differ in their names
_PARTS = itemgetter("name", "shape", "data")
_FIRST = itemgetter(0)
_CONTAINERS = frozenset({list, dict})


@dataclass(slots=True)
class Shape:
    """How a body holds its values: bodies of one key can be read together."""

    key: tuple[str, Any]
    rows: int
    values: Any
    places: npt.NDArray[np.int64] | None = None  # of the rows in the body; None: all of them


# The forms of a key: "lists": a list a row; "columns": a list a column; "flat": one list, row after
# row; "records": an object a row, not all with the same names. Beside it stand the columns' names,
# or how many there are. Nothing here makes more values than the body has: what is turned over
# (`joined`) was thinned before, or thousands of empty objects after one of many names would be
# gigabytes.


def asked(protocol: str, body: Any, known: Plan) -> Shape | None:
    if type(body) is not dict:
        return None
    if protocol == "v2":
        return _tensors(body.get("inputs"), known)
    if "dataframe_split" in body:
        return _split(body["dataframe_split"])
    for key in ("dataframe_records", "instances", "inputs"):
        if key in body:
            value = body[key]
            return (
                _by_column(value, known)
                if key == "inputs" and type(value) is dict
                else _rows(value)
            )
    return None


def _split(split: Any) -> Shape | None:
    if type(split) is not dict:
        return None
    names, data = split.get("columns"), split.get("data")
    if type(names) is not list or type(data) is not list or not data:
        return None
    if set(map(type, names)) != {str}:
        names = [str(name) for name in names]
    return _lists(tuple(names), data)


def _lists(names: tuple[str, ...] | int, rows: list[Any]) -> Shape | None:
    width = names if isinstance(names, int) else len(names)
    for row in rows:
        if type(row) is not list or len(row) != width:
            return None
    return Shape(("lists", names), len(rows), rows)


def _rows(value: Any) -> Shape | None:
    """It takes a list of rows, each an object, a list or, for one column, a plain value."""
    if type(value) is not list or not value:
        return None
    kinds = set(map(type, value))
    if kinds == {dict}:
        names = tuple(value[0])
        if len(value) == 1 or all(tuple(row) == names for row in value):
            return Shape(("lists", names), len(value), [list(row.values()) for row in value])
        names = tuple(dict.fromkeys(chain.from_iterable(value)))[:MOST_COLUMNS]
        return Shape(("records", names), len(value), value)
    if kinds == {list}:
        return _lists(len(value[0]), value)
    if dict in kinds or list in kinds:
        return None
    return Shape(("columns", 1), len(value), [value])


def _by_column(inputs: dict[str, Any], known: Plan) -> Shape | None:
    columns: dict[str, list[Any]] = {}
    for name, given in inputs.items():
        values = given if type(given) is list else [given]
        if name not in known.inputs and f"{name}.0" in known.inputs:
            columns |= _turned(name, values)
        else:
            columns[name] = values
    return _columns(columns)


def _turned(name: str, values: list[Any]) -> dict[str, list[Any]]:
    """It gives a column for each place in rows that are lists; others stay as they are."""
    if set(map(type, values)) != {list} or len(set(map(len, values))) != 1:
        return {name: values}
    if len(values[0]) > MOST_COLUMNS:
        return {name: values}
    turned = [list(column) for column in zip(*values, strict=True)]
    return dict(zip(_places(name, len(turned)), turned, strict=True))


def _columns(columns: Mapping[str, Any]) -> Shape | None:
    lengths = {len(values) if type(values) is list else 0 for values in columns.values()}
    if len(lengths) != 1 or 0 in lengths:
        return None
    return Shape(("columns", tuple(columns)), lengths.pop(), list(columns.values()))


def _tensors(inputs: Any, known: Plan) -> Shape | None:
    found = _same_length(inputs)
    if found is not None and (found.key[1][0] in known.inputs or len(inputs) > 1):
        return found
    read = _read_tensors(inputs)
    if read is None:
        return None
    if len(read) == 1:
        ((name, (width, data)),) = read.items()
        if width > 1 or (name not in known.inputs and known.inputs):
            return Shape(("flat", width), len(data) // width, data)
    if sum(width for width, _ in read.values()) > MOST_COLUMNS:
        return None
    columns: dict[str, list[Any]] = {}
    for name, (width, data) in read.items():
        for place, column in enumerate(_places(name, width)):
            columns[column] = data[place::width]
    return _columns(columns)


def _same_length(inputs: Any) -> Shape | None:
    """It takes the tensors that most requests hold: one a column, all of one length."""
    try:
        names, shapes, data = zip(*map(_PARTS, inputs), strict=True)
        shape = shapes[0]
        (rows,) = shape if len(shape) == 1 or shape[1:] != [1] else shape[:1]
        nested = _CONTAINERS.intersection(map(type, map(_FIRST, data)))
    except (KeyError, TypeError, IndexError, ValueError):
        return None
    if (
        not nested
        and shapes.count(shape) == len(shapes)
        and type(rows) is int
        and set(map(type, data)) == {list}
        and set(map(len, data)) == {rows}
        and set(map(type, names)) == {str}
        and len(set(names)) == len(names)
    ):
        return Shape(("columns", names), rows, data)
    return None


def _read_tensors(inputs: Any) -> dict[str, tuple[int, list[Any]]] | None:
    """It gives the width and the values in row order of each tensor, if all can be read."""
    if type(inputs) is not list or not inputs:
        return None
    found: dict[str, tuple[int, list[Any]]] = {}
    for tensor in inputs:
        if type(tensor) is not dict:
            return None
        name, shape, data = tensor.get("name"), tensor.get("shape"), tensor.get("data")
        if type(name) is not str or name in found or type(shape) is not list or not shape:
            return None
        if type(data) is not list or set(map(type, shape)) != {int} or min(shape) < 1:
            return None
        if len(shape) > MOST_DIMENSIONS:
            return None
        data = _flat(data, len(shape))
        width = 1
        for length in shape[1:]:
            width *= length
        if len(data) != shape[0] * width:
            return None
        found[name] = (width, data)
    return found


def _flat(data: list[Any], levels: int) -> list[Any]:
    for _ in range(levels):
        if list not in set(map(type, data)):
            break
        data = list(chain.from_iterable(v if type(v) is list else [v] for v in data))
    return data


def answered(protocol: str, body: Any, known: Plan) -> Shape | None:
    """It gives the outputs; whether they are of the rows that were asked, only the request says."""
    if type(body) is not dict:
        return None
    if protocol == "v2":
        return _outputs(body.get("outputs"), known)
    return _predictions(body.get("predictions"), known)


def _outputs(outputs: Any, known: Plan) -> Shape | None:
    read = _read_tensors(outputs)
    if read is None:
        return None
    if len(read) == 1:
        ((width, data),) = read.values()
        return Shape(("flat", width), len(data) // width, data)
    if sum(width for width, _ in read.values()) > MOST_COLUMNS:
        return None
    columns: dict[str, list[Any]] = {}
    for name in _in_order(tuple(read), known.outputs):
        width, data = read[name]
        columns |= {f"{name}.{place}": data[place::width] for place in range(width)}
    return _unnamed(_columns(columns))


def _predictions(value: Any, known: Plan) -> Shape | None:
    if type(value) is dict:
        order = _in_order(tuple(value), known.outputs)
        return _unnamed(_columns({name: value[name] for name in order}))
    shape = _rows(value if type(value) is list else [value])
    if shape is None or type(shape.key[1]) is int:
        return shape
    names: tuple[str, ...] = shape.key[1]
    order = _in_order(names, known.outputs)
    if shape.key[0] == "records":
        if len(names) * shape.rows > MOST_TURNED:
            return None
        return Shape(("columns", len(names)), shape.rows, _turned_over(order, shape.values))
    if order != names:
        places = [names.index(name) for name in order]
        if shape.key[0] == "columns":
            shape.values = [shape.values[place] for place in places]
        else:
            shape.values = [[row[place] for place in places] for row in shape.values]
    return _unnamed(shape)


def _in_order(names: tuple[str, ...], wanted: tuple[str, ...]) -> tuple[str, ...]:
    return wanted if len(names) == len(wanted) and set(names) == set(wanted) else names


def _unnamed(shape: Shape | None) -> Shape | None:
    if shape is not None:
        shape.key = (shape.key[0], len(shape.key[1]))
    return shape


def joined(shapes: Sequence[Shape]) -> list[Sequence[Any]]:
    """It gives the columns of bodies that have one key."""
    form, names = shapes[0].key
    if form == "lists":
        rows = chain.from_iterable([shape.values for shape in shapes])
        if (names if isinstance(names, int) else len(names)) > MOST_COLUMNS:
            return list(zip(*(row[:MOST_COLUMNS] for row in rows), strict=True))
        return list(zip(*rows, strict=True))
    if form == "records":
        return _turned_over(names, [row for shape in shapes for row in shape.values])
    if form == "flat":
        flat = list(chain.from_iterable([shape.values for shape in shapes]))
        return [flat[place::names] for place in range(min(names, MOST_COLUMNS))]
    if len(shapes) == 1:
        return list(shapes[0].values)
    by_column = zip(*[shape.values for shape in shapes], strict=True)
    return [list(chain.from_iterable(column)) for column in by_column]


def _turned_over(names: tuple[str, ...], rows: list[dict[str, Any]]) -> list[Sequence[Any]]:
    return [[row.get(name) for row in rows] for name in names]


def thinned(shape: Shape, most: int) -> Shape:
    """It keeps so many rows of a body, evenly spread, the first among them."""
    if shape.rows <= most:
        return shape
    form, names = shape.key
    places = np.arange(most) * shape.rows // most
    chosen = places.tolist()
    values: list[Any]
    if form in ("lists", "records"):
        values = [shape.values[place] for place in chosen]
    elif form == "flat":
        spans = (shape.values[place * names : (place + 1) * names] for place in chosen)
        values = list(chain.from_iterable(spans))
    else:
        values = [[column[place] for place in chosen] for column in shape.values]
    return Shape(shape.key, most, values, places)
