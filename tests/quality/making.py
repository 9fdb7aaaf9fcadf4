"""Files of rows and labels, made by hand."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apps.baselines import layout, packing
from apps.baselines.meaning import Meaning
from apps.baselines.models import Baseline
from apps.monitoring import histogram, places, rows
from apps.monitoring.models import LogFile, RowFile, Tally
from apps.registry.models import Version
from apps.serving.models import Revision

Column = Sequence[Any] | np.ndarray[Any, Any]
START = datetime(2030, 1, 7, 11, 0, tzinfo=UTC)


def row_file(
    revision: Revision,
    ids: Sequence[str],
    columns: Mapping[str, Column],
    *,
    at: Sequence[datetime] | datetime = START,
    created_at: datetime | None = None,
    **fixed: Any,
) -> RowFile:
    """It writes a file of rows that were answered, and its rows in the database."""
    times = [at + timedelta(seconds=i) for i in range(len(ids))] if isinstance(at, datetime) else at
    n = len(ids)
    values: dict[str, Any] = {
        "id": ids,
        "row": [0] * n,
        "at": times,
        "revision": [revision.pk] * n,
        "version": [revision.version.number] * n,
        "status": [200] * n,
        "latency_us": [1500] * n,
        "shadow": [False] * n,
        "share": [1.0] * n,
        "caller": [None] * n,
        "absent": [None] * n,
        "wrong": [None] * n,
        "extra": [None] * n,
    } | fixed
    table = pa.table(
        {
            field.name: pa.array(values.get(field.name, [None] * n), field.type)
            for field in rows.FIXED
        }
    )
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    folder = places.rows()
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{uuid.uuid4()}.parquet"
    pq.write_table(table, folder / name)
    log_file = LogFile.objects.create(
        endpoint=revision.endpoint,
        day=min(times).date(),
        path=name,
        rows=n,
        size_bytes=1,
        first_at=min(times),
        last_at=max(times),
        created_at=created_at or max(times),
    )
    return RowFile.objects.create(
        log_file=log_file,
        revision=revision,
        path=name,
        rows=n,
        size_bytes=1,
        first_at=min(times),
        last_at=max(times),
    )


def baseline(
    version: Version, meaning: Mapping[str, Any], *inputs: layout.Column, **changes: Any
) -> Baseline:
    """It freezes how a version's outputs are read, and bins of inputs; of no reference rows."""
    read = Meaning.from_json(meaning)
    score = [layout.Column(layout.SCORE, layout.Role.OUTPUT, layout.Kind.SCORE)]
    bins = layout.Layout((*inputs, *(score if read.has_score else [])), read)
    return Baseline.objects.create(
        version=version,
        number=version.baselines.count() + 1,
        origin=changes.pop("origin", "reference"),
        state="ready",
        rows=1,
        layout=bins.as_json(),
        counts=layout.pack64(np.zeros(bins.size, np.int64)),
        meaning=meaning,
        created_at=START,
        frozen_at=START,
        **changes,
    )


def tally(
    revision: Revision,
    baseline: Baseline,
    scores: Sequence[tuple[int, int, int]],
    **of: Any,
) -> None:
    """It counts rows by (bin of score, predicted class, rows) in the hour that begins at START."""
    bins = layout.Layout.from_json(baseline.layout)
    counts = np.zeros(bins.size, np.int64)
    start, _ = bins.slices[layout.SCORE]
    for place, predicted, number in scores:
        counts[start + layout.SCORE_BINS * predicted + place] += number
    rows = int(counts.sum())
    for width in (60, 300, 3600):
        Tally.objects.create(
            revision=revision,
            baseline=baseline,
            at=START,
            width_seconds=width,
            rows=rows,
            requests=rows,
            latency_bins=histogram.pack(histogram.empty()),
            counts=packing.pack(counts),
            **of,
        )


SCORE = {"task": "binary", "form": "score", "classes": ["0", "1"], "positive": 1}
CLASS = {"task": "multiclass", "form": "class", "classes": ["a", "b", "c"], "positive": -1}
VALUE = {"task": "regression", "form": "value", "classes": [], "positive": -1}
