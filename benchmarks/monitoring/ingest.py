"""Predictions a second from sealed segments to committed Parquet, rows, rollups and tallies.

It fills a spool in a temporary data directory and runs the collector's ticks until nothing waits;
then it looks whether everything was counted exactly.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.monitoring import panel

if TYPE_CHECKING:
    from apps.serving.models import Revision

PREDICTIONS = 1_000_000
FEATURES = 30
REFERENCE_ROWS = 20_000
MOST_SECONDS = 300
SEGMENT_BYTES = 8 << 20
NAMES = [f"feature_{place:02d}" for place in range(FEATURES)]
SIGNATURE = {
    "inputs": [{"name": name, "type": "double"} for name in NAMES],
    "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}],
}
Bodies = tuple[str, dict[str, Any], dict[str, Any]]


def split(row: list[float], score: float) -> Bodies:
    request = {"dataframe_split": {"columns": NAMES, "data": [row]}}
    return "mlflow", request, {"predictions": [[1 - score, score]]}


def tensors(row: list[float], score: float) -> Bodies:
    inputs = [
        {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
        for name, value in zip(NAMES, row, strict=True)
    ]
    return "v2", {"inputs": inputs}, _outputs(score)


def named(row: list[float], score: float) -> Bodies:
    """Tensors in a body that has an id of its own, which the answer repeats."""
    given = f"{int(row[0] * 1e6):016x}"
    protocol, request, response = tensors(row, score)
    head = {"model_name": "bench", "model_version": "1", "id": given}
    return protocol, {"id": given, **request}, head | {"outputs": response["outputs"]}


def matrix(row: list[float], score: float) -> Bodies:
    inputs = [{"name": "input", "shape": [1, FEATURES], "datatype": "FP64", "data": row}]
    return "v2", {"inputs": inputs}, _outputs(score)


def _outputs(score: float) -> dict[str, Any]:
    output = {"name": "output", "datatype": "FP64", "shape": [1, 2], "data": [1 - score, score]}
    return {"model_name": "bench", "model_version": "1", "outputs": [output]}


SHAPES: dict[str, Callable[[list[float], float], Bodies]] = {
    "dataframe_split": split,
    "V2, a tensor a column": tensors,
    "V2, the same with ids": named,
    "V2, one matrix": matrix,
}


def run(predictions: int = PREDICTIONS) -> dict[str, Any]:
    """It gives `predictions_per_second` and `cpu_us_per_prediction` by shape.

    Without what PostgreSQL took. The database must be there and may be changed.
    """
    measured = {name: _rate(shape, predictions) for name, shape in SHAPES.items()}
    return {
        "predictions_per_second": {name: rate for name, (rate, _) in measured.items()},
        "cpu_us_per_prediction": {name: cpu for name, (_, cpu) in measured.items()},
    }


def _rate(shape: Callable[[list[float], float], Bodies], predictions: int) -> tuple[float, float]:
    from django.utils import timezone

    from apps.monitoring.collector import Collector

    now = timezone.now()
    with _data_directory() as var:
        revision = _deployed(now)
        _fill(var / "spool" / str(revision.pk), revision.pk, shape, predictions, now)
        moments = [now]
        works = Collector(now=lambda: moments[-1])
        began, cpu = time.perf_counter(), _cpu_seconds()
        while works.tick() or any(var.glob("spool/*/*.seg")):
            moments.append(moments[-1] + timedelta(seconds=20))  # the last rows need not wait
            if time.perf_counter() - began > MOST_SECONDS:
                raise TimeoutError(f"The collector did not end in {MOST_SECONDS} s")
        taken = time.perf_counter() - began
        works.close(wait=True)  # of processes that run no one tells the time
        cpu = _cpu_seconds() - cpu
        _check(revision, predictions)
    return predictions / taken, cpu / predictions * 1e6


def _cpu_seconds() -> float:
    """It gives the time of this process and of those that it ended, not that of the database."""
    mine = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in mine)


@contextmanager
def _data_directory() -> Iterator[Path]:
    """It lets the product work in a directory that goes when it is done."""
    from django.conf import settings

    kept = settings.STACK
    with tempfile.TemporaryDirectory(prefix="ingest-") as made:
        settings.STACK = dataclasses.replace(kept, var=Path(made))
        try:
            yield Path(made)
        finally:
            settings.STACK = kept


def _deployed(now: datetime) -> Revision:
    """It makes a revision whose version has a baseline in force."""
    from apps.baselines.layout import Role, fit, pack64
    from apps.baselines.meaning import Form, Meaning, Task
    from apps.baselines.models import Baseline
    from tests.factories.serving import RevisionFactory

    revision: Revision = RevisionFactory.create()
    revision.build.signature = SIGNATURE
    revision.build.save()
    rng = np.random.default_rng(1)
    score = rng.random(REFERENCE_ROWS)
    table = pa.table(
        {f"in.{name}": rng.normal(size=REFERENCE_ROWS) for name in NAMES}
        | {"out.0": 1 - score, "out.1": score}
    )
    roles = {
        name: Role.INPUT if name.startswith("in.") else Role.OUTPUT for name in table.column_names
    }
    meaning = Meaning(Task.BINARY, Form.PROBABILITIES, ("0", "1"), 1)
    layout = fit(table, roles, meaning)
    Baseline.objects.create(
        version=revision.version, number=1, origin="training", state="ready", rows=table.num_rows,
        layout=layout.as_json(), counts=pack64(layout.count(table)[0]), meaning=meaning.as_json(),
        created_at=now, frozen_at=now,
    )  # fmt: skip
    return revision


def _fill(
    spool: Path,
    revision: int,
    shape: Callable[[list[float], float], Bodies],
    predictions: int,
    now: datetime,
) -> None:
    """It writes segments as a model server would have, over the last minutes."""
    spool.mkdir(parents=True)
    rng = np.random.default_rng(2)
    started_us = int((now - timedelta(minutes=5)).timestamp() * 1e6)
    lines: list[bytes] = []
    size = sequence = 0
    for first in range(0, predictions, 10_000):
        rows = rng.normal(size=(min(10_000, predictions - first), FEATURES)).round(6).tolist()
        for place, row in enumerate(rows):
            form, request, response = shape(row, round(float(place % 997) / 997, 6))
            lines.append(_line(first + place, started_us, predictions, form, request, response))
            size += len(lines[-1])
            if size >= SEGMENT_BYTES:
                _seal(spool, revision, sequence, lines)
                lines, size, sequence = [], 0, sequence + 1
    _seal(spool, revision, sequence, lines)


def _line(
    number: int, started_us: int, of: int, form: str, request: object, response: object
) -> bytes:
    record = {
        "id": f"{number:08d}-0000-4000-8000-000000000000",
        "ts": started_us + number * 240_000_000 // of,
        "status": 200, "us": 1000 + number % 5000, "format": form, "caller": "bench",
        "shadow": False, "request": request, "response": response, "error": "",
    }  # fmt: skip
    return orjson.dumps(record) + b"\n"


def _seal(spool: Path, revision: int, sequence: int, lines: list[bytes]) -> None:
    if lines:
        (spool / f"{revision}.0.1-1.{sequence:08d}.seg").write_bytes(b"".join(lines))


def _check(revision: Revision, predictions: int) -> None:
    """It raises where something was counted twice or not at all."""
    from django.db.models import Sum

    from apps.monitoring.models import LogFile, Rollup, RowFile, Tally
    from apps.monitoring.windows import ROLLUPS, TALLIES

    def same(what: str, seen: float | None) -> None:
        if seen != predictions:
            raise AssertionError(f"{what}: {seen} instead of {predictions}")

    mine = Rollup.objects.filter(revision=revision)
    for width in ROLLUPS:
        same(f"rollups of {width} s", _sum(mine.filter(width_seconds=width), "requests"))
    tallies = Tally.objects.filter(revision=revision)
    for width in TALLIES:
        same(f"tallies of {width} s", _sum(tallies.filter(width_seconds=width), "rows"))
    same(
        "the log", LogFile.objects.filter(endpoint=revision.endpoint).aggregate(n=Sum("rows"))["n"]
    )
    same("rows", RowFile.objects.filter(revision=revision).aggregate(n=Sum("rows"))["n"])


def _sum(rows: Any, column: str) -> Any:
    from django.db.models import Sum

    return rows.aggregate(total=Sum(column))["total"]


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mlops_portal.settings")
    panel.choose()
    import django

    django.setup()
    with panel.running():
        seen = run()
        for name, rate in seen["predictions_per_second"].items():
            cpu = seen["cpu_us_per_prediction"][name]
            sys.stdout.write(f"{name}: {rate:,.0f} predictions a second, {cpu:.1f} us each\n")


if __name__ == "__main__":
    main()
