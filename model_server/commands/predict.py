"""It answers a whole table, batch by batch, for validation runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

from model_server import reports
from model_server.answers import plain
from model_server.errors import BadRequest, described
from model_server.opening import open_model
from model_server.payload import Named, from_split


def predict(*, model: Path, data: Path, out: Path, batch: int) -> int:
    """It writes one prediction a row, or the error that stopped it; returns 0 or 1."""
    report: dict[str, Any] = {
        "ok": False,
        "rows": 0,
        "predictions": [],
        "seconds": None,
        "error": None,
    }
    stage, loaded = "load", None
    try:
        loaded = open_model(model)
        stage = "data"
        table = from_split(orjson.loads(data.read_bytes()))
        stage = "predict"
        predictions: list[Any] = []
        start = time.perf_counter()
        for first in range(0, table.rows, batch):
            part = _part(table, first, batch)
            try:
                answered = plain(loaded.call(loaded.prepare(part)))
            except BadRequest as error:
                raise BadRequest(f"in the rows from {first}: {error}") from error
            if not isinstance(answered, list) or len(answered) != part.rows:
                raise ValueError("the model did not return one prediction a row")
            predictions.extend(answered)
        seconds = round(time.perf_counter() - start, 4)
        done = {"ok": True, "rows": table.rows, "predictions": predictions, "seconds": seconds}
        reports.write(out, {**report, **done})
        return 0
    except (Exception, SystemExit) as error:  # noqa: BLE001 - loading runs the model's own code
        report["error"] = described(error, stage=stage)
        reports.write(out, report)
        return 1
    finally:
        if loaded is not None:
            loaded.close()


def _part(table: Named, first: int, count: int) -> Named:
    columns = {name: values[first : first + count] for name, values in table.columns.items()}
    return Named(columns, min(count, table.rows - first))
