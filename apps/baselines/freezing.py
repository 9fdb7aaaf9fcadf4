"""Freezes rows into what live data is compared with. Pure: a table in, facts out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from apps.baselines import distances, quality
from apps.baselines.layout import (
    Counts,
    Layout,
    Role,
    fit,
    pack64,
)
from apps.baselines.meaning import INPUT, OUTPUT, Form, Meaning, infer, read

BLOCKS = 10
LABEL = "the label"

Tick = Callable[[], None]


@dataclass(frozen=True)
class Facts:
    """What a baseline row holds of its rows."""

    layout: Layout
    counts: Counts
    natural: dict[str, dict[str, float]]
    sorted_by: list[str]  # columns for which the rows cannot be in the order of time
    meaning: Meaning | None
    calibration: dict[str, Any]
    quality: dict[str, float]

    def fields(self) -> dict[str, Any]:
        return {
            "layout": self.layout.as_json(),
            "counts": pack64(self.counts),
            "natural": self.natural,
            "meaning": {} if self.meaning is None else self.meaning.as_json(),
            "calibration": self.calibration,
            "quality": self.quality,
        }


def freeze(
    table: pa.Table,
    labels: "pa.ChunkedArray | None",
    positive_class: str,
    *,
    is_timed: bool,
    tick: Tick,
) -> Facts:
    """It fits bins to the columns `in.…` and `out.…` and counts them.

    `labels` are of the same rows. Without outputs there is no score and no quality. `is_timed`: the
    rows are in the order of time. Else they are taken to be, unless they are sorted by something:
    ten blocks of those are as far from each other as can be, and any drift would be usual.
    """
    answers = table.select([name for name in table.column_names if name.startswith(OUTPUT)])
    meaning = infer(answers, labels, positive_class) if answers.num_columns else None
    tick()
    layout = fit(table, _roles(table, meaning), meaning)
    tick()
    counted = layout.count(table, _blocks(table.num_rows), BLOCKS)
    tick()
    found: dict[str, Any] = {"calibration": {}, "quality": {}}
    if meaning is not None and labels is not None:
        said, truth = read(meaning, answers), quality.truth(meaning, labels)
        found["quality"] = quality.measure(meaning, said, truth)
        found["calibration"] = quality.calibration(meaning, said, truth)
    natural = distances.natural(layout, counted)
    by = [] if is_timed else distances.sorted_by({**natural, **_of_labels(labels)})
    if by:
        natural = distances.without_order(natural)
    return Facts(layout, counted.sum(axis=0), natural, by, meaning, **found)


def _of_labels(labels: "pa.ChunkedArray | None") -> dict[str, dict[str, float]]:
    """How far the labels of any block are from the others': a training set is often sorted by them,
    and no input need show it."""
    if labels is None:
        return {}
    table = pa.table({LABEL: labels})
    layout = fit(table, {LABEL: Role.OUTPUT}, None)
    return distances.natural(layout, layout.count(table, _blocks(table.num_rows), BLOCKS))


def _roles(table: pa.Table, meaning: Meaning | None) -> dict[str, Role]:
    starts = {INPUT: Role.INPUT, OUTPUT: Role.OUTPUT}
    if meaning is not None and meaning.form is Form.PROBABILITIES and meaning.has_score:
        # Both columns of a binary model's probabilities say what the score says: counted three
        # times, one change would be three alarms.
        del starts[OUTPUT]
    return {
        name: role
        for start, role in starts.items()
        for name in table.column_names
        if name.startswith(start)
    }


def _blocks(rows: int) -> npt.NDArray[np.int64]:
    """Which of the ten blocks of time each row is in."""
    return np.arange(rows) * BLOCKS // max(rows, 1)
