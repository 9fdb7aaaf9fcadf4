"""Turns a table of flights into the numbers that the models take.

`ColumnTransformer` costs about 4 ms for a single row, most of it in taking a data frame apart;
a dictionary a column costs a tenth of that, and the models are asked for one row at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

NOT_SEEN = -1.0


class CodeBook(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """It gives every value of a text column a number of its own, and passes numbers through.

    `known` lists the values of some columns beforehand; the other text columns are learned from
    the training rows, where a value not seen in training becomes `NOT_SEEN`.
    """

    def __init__(
        self,
        text: Sequence[str],
        numbers: Sequence[str],
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.text = text
        self.numbers = numbers
        self.known = known

    def fit(self, rows: pd.DataFrame, late: Any = None) -> CodeBook:
        """It learns the values of the text columns that are not known beforehand."""
        known = self.known or {}
        self.codes_ = {
            column: {
                value: float(code)
                for code, value in enumerate(known.get(column) or sorted(set(rows[column])))
            }
            for column in self.text
        }
        return self

    def transform(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """It returns one row of numbers for each flight, text columns first."""
        known = self.known or {}
        columns: list[Any] = []
        for column in self.text:
            codes, values = self.codes_[column], rows[column].tolist()
            if column in known:
                columns.append([codes[value] for value in values])
            else:
                columns.append([codes.get(value, NOT_SEEN) for value in values])
        columns.extend(rows[column].to_numpy(dtype=np.float64) for column in self.numbers)
        return np.column_stack(columns)


class LateShares(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """It replaces every value of a text column by the share of its flights that came late.

    Shares of rare values are drawn towards the share of all flights, as if each had `prior_rows`
    more of them; a value not seen in training has the share of all flights.
    """

    def __init__(
        self, text: Sequence[str], numbers: Sequence[str], prior_rows: float = 100.0
    ) -> None:
        self.text = text
        self.numbers = numbers
        self.prior_rows = prior_rows

    def fit(self, rows: pd.DataFrame, late: Any) -> LateShares:
        """It counts how often the flights of each value came late."""
        labels = pd.Series(np.asarray(late, dtype=np.float64), index=rows.index)
        self.overall_ = float(labels.mean())
        self.shares_: dict[str, dict[str, float]] = {}
        for column in self.text:
            grouped = labels.groupby(rows[column])
            shares = (grouped.sum() + self.prior_rows * self.overall_) / (
                grouped.count() + self.prior_rows
            )
            self.shares_[column] = {str(value): float(share) for value, share in shares.items()}
        return self

    def transform(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """It returns one row of numbers for each flight, text columns first."""
        columns: list[Any] = [
            [self.shares_[column].get(value, self.overall_) for value in rows[column].tolist()]
            for column in self.text
        ]
        columns.extend(rows[column].to_numpy(dtype=np.float64) for column in self.numbers)
        return np.column_stack(columns)
