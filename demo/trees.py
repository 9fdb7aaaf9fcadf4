"""Boosted trees that answer one row at a time without waking other threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

FEW_ROWS = 1000


class QuickTrees(HistGradientBoostingClassifier):  # type: ignore[misc]
    """It is scikit-learn's classifier, but few rows are answered by the calling thread alone.

    The original starts all threads once a tree, even for a single row. On a busy machine they
    wait for each other: one answer in a hundred then took 0.3 s instead of a few milliseconds.
    """

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """It returns the probability of each class, one row for each row of `X`."""
        if len(X) > FEW_ROWS:
            return np.asarray(super().predict_proba(X))
        # Made once in each process: looking for the loaded thread pools takes milliseconds.
        if "_threads" not in self.__dict__:
            self._threads = ThreadpoolController()
        with self._threads.limit(limits=1, user_api="openmp"):
            return np.asarray(super().predict_proba(X))

    def __getstate__(self) -> dict[str, Any]:
        """It leaves the thread pools out of the pickle: they belong to one process."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_threads", None)
        return state
