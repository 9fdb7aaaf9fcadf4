"""Tiny models. Their code travels inside the pickle: a model's environment has no such file."""

import os
import sys
import time
from typing import Any

import cloudpickle
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

TRAINING = pd.DataFrame(
    {"distance": [100.0, 300.0, 2000.0, 2500.0], "hour": [6.0, 9.0, 18.0, 21.0]}
)
LATE = [0, 0, 1, 1]
MANY = 10  # more rows than callers and input examples bring, fewer than a holdout has


class Slow(BaseEstimator):  # type: ignore[misc]  # sklearn has no types
    """Takes its time for many rows at once: enough to be killed in the middle."""

    def predict(self, rows: Any) -> Any:
        if len(rows) > MANY:
            time.sleep(4)
        return (rows["distance"] > 1000).astype("int64").to_numpy()


class Unloadable(BaseEstimator):  # type: ignore[misc]
    """Reads in again only where it was trained."""

    def __init__(self) -> None:
        self.trained_by = os.getpid()

    def predict(self, rows: Any) -> Any:
        return (rows["distance"] > 1000).astype("int64").to_numpy()

    def __setstate__(self, state: Any) -> None:
        if state["trained_by"] != os.getpid():
            raise RuntimeError("made with a library that is not here")
        self.__dict__.update(state)


def made(kind: str) -> Any:
    """It gives a model of this kind, ready to answer."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    if kind == "quick":
        return LogisticRegression().fit(TRAINING, LATE)
    return {"slow": Slow, "unloadable": Unloadable}[kind]()
