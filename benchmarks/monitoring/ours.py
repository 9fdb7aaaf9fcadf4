"""This product's own judgement, by the same modules that ship."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from apps.baselines.freezing import freeze
from apps.baselines.layout import SCORE, Counts
from apps.monitoring import drift
from apps.monitoring.drift import ColumnDrift
from apps.monitoring.rows import INPUT, OUTPUT
from benchmarks.monitoring import truth

SCORES = f"{OUTPUT}0"


class Judge:
    """Windows against one reference, in whose rows the score is named `score`."""

    def __init__(self, rows: pa.Table, labels: pa.ChunkedArray, score: str) -> None:
        self.facts = freeze(rows, labels, "1", is_timed=False, tick=_nothing)
        self._score = score

    def count(self, rows: pa.Table) -> Counts:
        """It counts rows in the bins of the reference."""
        counts: Counts = self.facts.layout.count(rows)[0]
        return counts

    def fired(self, rows: pa.Table) -> list[str]:
        """It names what the panel calls drifted in one window, and odd shares of no values too."""
        columns = self.judged(self.count(rows))
        return sorted({self._named(one.name) for one in columns if one.is_loud})

    def judged(self, counts: Counts) -> list[ColumnDrift]:
        """It judges what was counted in one window."""
        facts = self.facts
        return drift.judge(facts.layout, facts.counts, counts, facts.natural, {})

    def _named(self, column: str) -> str:
        return self._score if column in (SCORES, SCORE) else column.removeprefix(INPUT)


def of_truth() -> Judge:
    """It freezes the reference of known truth, with labels that the scores speak of."""
    table = truth.reference()
    rng = np.random.default_rng([truth.SEED, 6])
    labels = rng.random(truth.REFERENCE_ROWS) < table[truth.SCORE]
    return Judge(as_rows(table), pa.chunked_array([labels.astype(np.int64)]), truth.SCORE)


def as_rows(table: truth.Table) -> pa.Table:
    """It gives drawn rows with the columns of a file of rows."""
    return _arrow(table, lambda name: SCORES if name == truth.SCORE else INPUT + name)


def as_held(table: truth.Table) -> pa.Table:
    """It gives drawn rows with the features' own names, as a file for anyone."""
    return _arrow(table, str)


def _arrow(table: truth.Table, named: Callable[[str], str]) -> pa.Table:
    columns = {}
    for name in truth.NAMES:
        values = table[name]
        if name in truth.VALUES:
            places = pa.array(values, mask=values < 0)
            coded = pa.DictionaryArray.from_arrays(places, pa.array(truth.VALUES[name]))
            columns[named(name)] = coded.dictionary_decode()
        else:
            columns[named(name)] = pa.array(values, from_pandas=True)  # NaN is a missing value
    return pa.table(columns)


def _nothing() -> None:
    """It has no job to tell that it is alive."""
