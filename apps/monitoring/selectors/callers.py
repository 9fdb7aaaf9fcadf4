"""Who asks: an endpoint's requests by caller, from its files of rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apps.monitoring import places
from apps.monitoring.models import RowFile
from apps.serving.models import Endpoint

# A page waits for the answer: some files, evenly spread over the time, tell it well enough.
MOST_FILES = 40
ENOUGH_ROWS = 1_000_000
_COLUMNS = ["caller", "at", "row", "shadow"]


@dataclass(frozen=True)
class Mix:
    """Caller ("" for those that gave no name) -> share of the requests that were looked at."""

    requests: int
    shares: Mapping[str, float]


def mix(endpoint: Endpoint, since: datetime, until: datetime) -> Mix:
    """It tells who asked in a span of time, shadows left out; of much, evenly spread parts."""
    files = RowFile.objects.filter(
        revision__endpoint=endpoint, last_at__gte=since, first_at__lt=until
    )
    found: Counter[str] = Counter()
    for path in _spread(list(files.order_by("last_at").values_list("path", "rows"))):
        found += _callers(path, since, until)
    whole = found.total()
    return Mix(whole, {name: count / whole for name, count in found.most_common()})


def _spread(files: Sequence[tuple[str, int]]) -> list[str]:
    rows = sum(size for _, size in files)
    every = max(-(-len(files) // MOST_FILES), -(-rows // ENOUGH_ROWS), 1)
    return [path for path, _ in files[(every - 1) // 2 :: every]]


def _callers(path: str, since: datetime, until: datetime) -> Counter[str]:
    try:
        rows = pq.read_table(places.rows() / path, columns=_COLUMNS)
    except (OSError, pa.ArrowException):
        return Counter()  # its time was over since it was looked up
    span = pc.and_(pc.greater_equal(rows["at"], since), pc.less(rows["at"], until))
    first = pc.and_(pc.less_equal(rows["row"], 0), pc.invert(rows["shadow"]))
    counts = rows.filter(pc.and_(span, first))["caller"].value_counts().to_pylist()
    return Counter({one["values"] or "": one["counts"] for one in counts})
