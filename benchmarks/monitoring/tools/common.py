"""What the scripts in the peers' environments share. They know numpy, pandas and `truth`.

`python -m benchmarks.monitoring.tools.<peer> TASK JSON` prints one line of JSON at its end.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.monitoring import truth
from benchmarks.monitoring.memory import peak_mb

Task = Callable[[dict[str, Any]], dict[str, Any]]


def main(tasks: Mapping[str, Task]) -> None:
    """It does the one task that is asked for."""
    answer = tasks[sys.argv[1]](json.loads(sys.argv[2]))
    print(json.dumps({**answer, "peak_mb": peak_mb()}))


def frame(table: truth.Table) -> pd.DataFrame:
    """It gives drawn rows as people would hold them: numbers, and texts or None."""
    columns = {}
    for name in truth.NAMES:
        if name in truth.VALUES:
            texts = np.array([*truth.VALUES[name], None], dtype=object)
            columns[name] = pd.Series(texts[table[name]], dtype=object)
        else:
            columns[name] = pd.Series(table[name])
    return pd.DataFrame(columns)


class Timer:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """It gives the seconds since it was made or last asked."""
        now = time.perf_counter()
        took, self._start = now - self._start, now
        return took
