"""What a model's answers say: classes, scores, or numbers. Pure: tables in, arrays out.

The outputs of a row stand in columns `out.0`, `out.1` and so on. What they mean is found once, on
the reference data and its labels, and then read the same way for every row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

INPUT, OUTPUT = "in.", "out."  # before the name of an input, and the place of an output
MOST_CLASSES = 1_000
MOST_MEASURED = 20  # classes with a figure of their own; the others are one class, "other"
MOST_NUMBERED_CLASSES = 20  # whole numbers of more kinds than this are amounts
SUMS_TO_ONE = 1e-3  # float32 probabilities of a thousand classes are that far off

Floats = npt.NDArray[np.float64]


class Task(StrEnum):
    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    UNKNOWN = "unknown"

    @property
    def has_classes(self) -> bool:
        return self in (Task.BINARY, Task.MULTICLASS)


class Form(StrEnum):
    PROBABILITIES = "probabilities"  # one column a class
    SCORE = "score"  # one column: the probability of the last class
    CLASS = "class"  # one column: the class itself
    VALUE = "value"  # one column: a number; of a binary task a margin, above 0 for the last class


@dataclass(frozen=True)
class Meaning:
    """How a version's outputs are read."""

    task: Task
    form: Form
    classes: tuple[str, ...] = ()  # as texts, in the model's order
    positive: int = -1  # which of them the score speaks of; -1: not known

    def as_json(self) -> dict[str, Any]:
        return {
            "task": self.task.value,
            "form": self.form.value,
            "classes": list(self.classes),
            "positive": self.positive,
        }

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Meaning":
        return Meaning(
            Task(found["task"]),
            Form(found["form"]),
            tuple(found["classes"]),
            int(found["positive"]),
        )

    @property
    def has_score(self) -> bool:
        """Whether a probability of the positive class can be read."""
        if self.task is not Task.BINARY or self.positive < 0:
            return False
        return self.form in (Form.PROBABILITIES, Form.SCORE)

    @cached_property
    def places(self) -> dict[str, int]:
        return {same(name): place for place, name in enumerate(self.classes)}


UNKNOWN = Meaning(Task.UNKNOWN, Form.VALUE)


@dataclass(frozen=True)
class Read:
    """What each row's outputs say."""

    score: Floats | None  # probability of the positive class, NaN where the row has none
    predicted: npt.NDArray[Any]  # int64 place of the class, -1 for none; or float64, NaN for none
    each: Floats | None = None  # (rows, classes): the probability of each, where the form has them


def measured(each: Floats) -> Floats:
    """It joins the probabilities of the classes after the first MOST_MEASURED in one column."""
    if each.shape[1] <= MOST_MEASURED:
        return each
    rest = np.minimum(each[:, MOST_MEASURED:].sum(axis=1), 1.0)
    return np.column_stack([each[:, :MOST_MEASURED], rest])


def infer(
    outputs: pa.Table, labels: "pa.Array | pa.ChunkedArray | None", positive_class: str
) -> Meaning:
    """It finds out what outputs mean, by their shape and by the labels of the same rows.

    `positive_class` names the class that a binary score is wanted of; empty: the last one, as
    scikit-learn orders them. A name that is no class leaves it not known.
    """
    names = output_names(outputs)
    told = _classes(labels)
    if len(names) > 1:
        return _of_vector(outputs, names, told, positive_class)
    if not names:
        return UNKNOWN
    column = outputs.column(names[0])
    if not _is_number(column.type):
        return _of_texts(column, told, positive_class)
    return _of_numbers(_finite(column), labels, told, positive_class)


def read(meaning: Meaning, table: pa.Table) -> Read:
    """It reads the outputs of every row; rows that cannot be read have none."""
    columns = [_find(table, place) for place in range(max(_width(meaning), 1))]
    first = columns[0]
    if meaning.form is Form.PROBABILITIES and meaning.task.has_classes:
        return _read_probabilities(meaning, columns, table.num_rows)
    if not meaning.task.has_classes:
        return Read(None, _nan_for_odd(numbers(first, table.num_rows)))
    if meaning.form is Form.CLASS:
        return Read(None, _places(meaning, first, table.num_rows))
    values = _nan_for_odd(numbers(first, table.num_rows))
    if meaning.form is Form.VALUE:
        return Read(None, _sides(values, 0.0, strictly=True))
    values[(values < 0) | (values > 1)] = np.nan
    predicted = _sides(values, 0.5, strictly=False)
    if meaning.positive < 0:
        return Read(None, predicted)
    return Read(values if meaning.positive == 1 else 1 - values, predicted)


def label_of(meaning: Meaning, value: Any) -> int | float | None:
    """It brings a label into the form of `Read.predicted`; None when it is of another type."""
    if meaning.task.has_classes:
        return meaning.places.get(same(value)) if isinstance(value, str | int | float) else None
    if meaning.task is not Task.REGRESSION or isinstance(value, bool):
        return None
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def same(value: Any) -> str:
    """1, 1.0, True and "1" are one class: Parquet, JSON and YAML each write it their way."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    words = str(value).strip()
    if words.endswith(".0") and words[:-2].lstrip("-").isdigit():
        words = words[:-2]
    return {"true": "1", "false": "0"}.get(words.lower(), words)


def output_names(table: pa.Table) -> list[str]:
    """It gives the columns of outputs, in the order of their places."""
    found = [name for name in table.column_names if name.startswith(OUTPUT)]
    return sorted(found, key=lambda name: (len(name), name))


def numbers(column: "pa.ChunkedArray | None", rows: int) -> Floats:
    """It gives a column as float64, NaN where it holds none. Not to be written into."""
    if column is None or not (_is_number(column.type) or pa.types.is_boolean(column.type)):
        return np.full(rows, np.nan)
    # Beyond 2^53 the nearest float stands for a whole number: bins are far wider than that.
    whole = column.cast(pa.float64(), safe=False)
    values: Floats = whole.to_numpy()
    return values


def _find(table: pa.Table, place: int) -> "pa.ChunkedArray | None":
    name = f"{OUTPUT}{place}"
    return table.column(name) if name in table.column_names else None


def _width(meaning: Meaning) -> int:
    return len(meaning.classes) if meaning.form is Form.PROBABILITIES else 1


def _nan_for_odd(values: Floats) -> Floats:
    return np.where(np.isfinite(values), values, np.nan)


def _read_probabilities(
    meaning: Meaning, columns: "Sequence[pa.ChunkedArray | None]", rows: int
) -> Read:
    each = np.stack([numbers(column, rows) for column in columns])
    whole = np.isfinite(each).all(axis=0) & (each >= 0).all(axis=0) & (each <= 1).all(axis=0)
    predicted = np.where(whole, each.argmax(axis=0), -1).astype(np.int64)
    if meaning.positive < 0:
        return Read(None, predicted, each.T)
    return Read(np.where(whole, each[meaning.positive], np.nan), predicted, each.T)


def _sides(values: Floats, middle: float, *, strictly: bool) -> npt.NDArray[np.int64]:
    """1 at and above the middle (or strictly above), else 0; -1 for no number."""
    above = values > middle if strictly else values >= middle
    return np.where(np.isnan(values), -1, above).astype(np.int64)


def _places(meaning: Meaning, column: "pa.ChunkedArray | None", rows: int) -> npt.NDArray[np.int64]:
    if column is None or pa.types.is_nested(column.type):
        return np.full(rows, -1, dtype=np.int64)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    coded = column.dictionary_encode().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):  # of no rows
        return np.full(rows, -1, dtype=np.int64)
    known = [meaning.places.get(same(value), -1) for value in coded.dictionary.to_pylist()]
    codes = pc.fill_null(coded.indices, len(known)).to_numpy(zero_copy_only=False)
    places: npt.NDArray[np.int64] = np.array([*known, -1], dtype=np.int64)[codes]
    return places


def _of_vector(
    outputs: pa.Table, names: list[str], told: tuple[str, ...], positive_class: str
) -> Meaning:
    columns = [outputs.column(name) for name in names]
    if not all(_is_number(column.type) for column in columns):
        return UNKNOWN
    each = np.stack([numbers(column, outputs.num_rows) for column in columns])
    each = each[:, np.isfinite(each).all(axis=0)]
    if each.shape[1] == 0 or each.min() < 0 or each.max() > 1:
        return UNKNOWN
    if np.abs(each.sum(axis=0) - 1).max() > SUMS_TO_ONE:
        return UNKNOWN
    # Labels of fewer classes than the model knows do not say which of them they are.
    classes = told if len(told) == len(names) else tuple(map(str, range(len(names))))
    return _classified(Form.PROBABILITIES, classes, positive_class)


def _of_texts(column: pa.ChunkedArray, told: tuple[str, ...], positive_class: str) -> Meaning:
    seen = _classes(column)
    classes = told if {same(c) for c in seen} <= {same(c) for c in told} else _merged(seen, told)
    if not classes or len(classes) > MOST_CLASSES:
        return UNKNOWN
    return _classified(Form.CLASS, classes, positive_class)


def _of_numbers(
    values: Floats,
    labels: "pa.Array | pa.ChunkedArray | None",
    told: tuple[str, ...],
    positive_class: str,
) -> Meaning:
    is_share = bool(values.size and values.min() >= 0 and values.max() <= 1)
    if labels is None or not told:
        return _of_bare_numbers(values, is_share, positive_class)
    if _counts_as_classes(labels):
        if len(told) == 1 and same(told[0]) in ("0", "1"):
            told = ("0", "1")  # a reference without a single positive still is one of two classes
        if {same(float(value)) for value in np.unique(values)[: MOST_CLASSES + 1]} <= {
            same(name) for name in told
        }:
            return _classified(Form.CLASS, told, positive_class)
        if len(told) == 2:
            return _classified(Form.SCORE if is_share else Form.VALUE, told, positive_class)
    return Meaning(Task.REGRESSION, Form.VALUE) if _is_number(labels.type) else UNKNOWN


def _of_bare_numbers(values: Floats, is_share: bool, positive_class: str) -> Meaning:
    """Without labels, shares may be probabilities and whole numbers classes: only some are sure."""
    kinds = np.unique(values)
    if kinds.size == 0:
        return UNKNOWN
    if set(kinds.tolist()) <= {0.0, 1.0}:
        return _classified(Form.CLASS, ("0", "1"), positive_class)
    if is_share:
        named = same(positive_class) in ("0", "1")
        return _classified(Form.SCORE, ("0", "1"), positive_class) if named else UNKNOWN
    if kinds.size <= MOST_NUMBERED_CLASSES and (kinds == np.floor(kinds)).all():
        return UNKNOWN
    return Meaning(Task.REGRESSION, Form.VALUE)


def _classified(form: Form, classes: tuple[str, ...], positive_class: str) -> Meaning:
    task = Task.BINARY if len(classes) <= 2 else Task.MULTICLASS
    if positive_class:
        places = {same(name): place for place, name in enumerate(classes)}
        positive = places.get(same(positive_class), -1)
    else:
        positive = len(classes) - 1 if task is Task.BINARY else -1
    return Meaning(task, form, classes, positive)


def _classes(values: "pa.Array | pa.ChunkedArray | None") -> tuple[str, ...]:
    """The distinct values as texts, in scikit-learn's order; none when there are too many."""
    if values is None or pa.types.is_nested(values.type):
        return ()
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    found = pc.unique(values)
    if len(found) > MOST_CLASSES + 1:  # of which one may be null
        return _all_numbers(found)
    kinds = [value for value in found.to_pylist() if value is not None and value == value]
    return tuple(_named(value) for value in sorted(kinds))


def _all_numbers(found: "pa.Array | pa.ChunkedArray") -> tuple[str, ...]:
    """Labels of many kinds are amounts, if they are numbers; one stands for all."""
    return ("0",) if _is_number(found.type) else ()


def _named(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return same(value) if isinstance(value, float) else str(value)


def _merged(seen: tuple[str, ...], told: tuple[str, ...]) -> tuple[str, ...]:
    known = {same(name): name for name in (*seen, *told)}
    return tuple(sorted(known.values()))


def _counts_as_classes(labels: "pa.Array | pa.ChunkedArray") -> bool:
    if not _is_number(labels.type):
        return True
    kinds = np.unique(_finite(labels))
    return kinds.size <= MOST_NUMBERED_CLASSES and bool((kinds == np.floor(kinds)).all())


def _finite(column: "pa.Array | pa.ChunkedArray") -> Floats:
    values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    found: Floats = values[np.isfinite(values)]
    return found


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )
