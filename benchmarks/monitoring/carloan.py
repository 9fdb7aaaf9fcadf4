"""The car-loan set that comes with NannyML: which windows changed, and how good scores were there.

Ten windows of 5,000 rows. Five columns change in the last five, as the set's makers say and as
every tool sees; the other three never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import accuracy_score, roc_auc_score

from apps.monitoring.rows import INPUT, OUTPUT
from benchmarks.monitoring.aims import CarLoan

ROWS = 5_000  # of a window
FIRST_CHANGED = 5  # the window
CHANGED = ("car_value", "salary_range", "repaid_loan_on_prev_car", "loan_length", "y_pred_proba")
UNCHANGED = ("debt_to_income_ratio", "size_of_downpayment", "driver_tenure")
COLUMNS = (*CHANGED, *UNCHANGED)
CATEGORICAL = ("salary_range", "repaid_loan_on_prev_car", "size_of_downpayment")
SCORE, LABEL, ANSWER = "y_pred_proba", "repaid", "y_pred"


@dataclass(frozen=True)
class Loans:
    """The set as it lies on disk: analysis rows have their labels beside them."""

    reference: Path
    analysis: Path

    @property
    def question(self) -> dict[str, Any]:
        """What a peer is asked about it."""
        return {
            "reference": str(self.reference),
            "analysis": str(self.analysis),
            "rows": ROWS,
            "columns": COLUMNS,
            "categorical": CATEGORICAL,
        }

    def rows(self, path: Path) -> pa.Table:
        """It gives rows with the columns of a file of rows."""
        table = pq.read_table(path, columns=list(COLUMNS))
        named = {name: f"{OUTPUT}0" if name == SCORE else INPUT + name for name in COLUMNS}
        return table.rename_columns(named)

    def labels(self, path: Path) -> pa.ChunkedArray:
        return pq.read_table(path, columns=[LABEL]).column(LABEL).cast(pa.int64())

    def windows(self) -> list[pa.Table]:
        return cut(self.rows(self.analysis))

    def realised(self) -> tuple[list[float], list[float]]:
        """It gives the real AUC and accuracy of each window."""
        table = pq.read_table(self.analysis, columns=[SCORE, ANSWER, LABEL])
        aucs, accuracies = [], []
        for part in cut(table):
            labels = part.column(LABEL).to_numpy()
            aucs.append(float(roc_auc_score(labels, part.column(SCORE).to_numpy())))
            accuracies.append(float(accuracy_score(labels, part.column(ANSWER).to_numpy())))
        return aucs, accuracies


def cut(table: pa.Table) -> list[pa.Table]:
    """It cuts rows into windows."""
    return [table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS)]


def judged(tool: str, fired: Sequence[Sequence[str]]) -> CarLoan:
    """It holds what a tool said of each window against what changed."""
    places = [(place, name) for place in range(len(fired)) for name in COLUMNS]
    changed = {(place, name) for place, name in places if _is_changed(place, name)}
    said = {(place, name) for place, names in enumerate(fired) for name in names}
    wrong = sorted(said - changed)
    return CarLoan(
        tool,
        found=len(said & changed),
        changed=len(changed),
        wrong=len(wrong),
        unchanged=len(places) - len(changed),
        wrongly=[f"window {place + 1}: {name}" for place, name in wrong],
    )


def error(estimated: Sequence[float], real: Sequence[float]) -> float:
    """It gives the mean absolute error."""
    return float(np.abs(np.subtract(estimated, real)).mean())


def _is_changed(place: int, name: str) -> bool:
    return place >= FIRST_CHANGED and name in CHANGED
