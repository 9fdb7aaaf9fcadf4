"""The library alone: one row after the other, in a loop, for so many seconds.

`library_loop.py MODEL ROWS SECONDS`. Run in the model's own environment; prints calls a second.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np

WARM_SECONDS = 0.3


def main(model: str, rows: str, seconds: float) -> float:
    """It predicts as long as asked and gives the calls a second."""
    predict = joblib.load(model).predict
    single = [np.array([row]) for row in json.loads(Path(rows).read_text())]
    _loop(predict, single, WARM_SECONDS)
    return _loop(predict, single, seconds)


def _loop(predict: Callable[[Any], Any], single: list[Any], seconds: float) -> float:
    start, calls = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds:
        predict(single[calls % len(single)])
        calls += 1
    return calls / took


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
