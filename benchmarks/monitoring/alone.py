"""The drift of one window in a process of its own: `REVISION SINCE UNTIL TIMES`."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime

import django

from benchmarks.monitoring.memory import peak_mb


def main(revision: str, since: str, until: str, times: str) -> None:
    """It prints the median time in seconds and the most memory in MiB, as JSON."""
    django.setup()
    from apps.monitoring.selectors import drift
    from apps.serving.models import Revision
    from benchmarks.serving.figures import median

    row = Revision.objects.get(pk=revision)
    taken = []
    for _ in range(int(times) + 1):  # the first one opens the connection
        start = time.perf_counter()
        drift.of(row, datetime.fromisoformat(since), datetime.fromisoformat(until))
        taken.append(time.perf_counter() - start)
    print(json.dumps({"seconds": median(taken[1:]), "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
