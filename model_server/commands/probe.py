"""It proves that a model loads and answers its own input example."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

from model_server import reports
from model_server.answers import plain
from model_server.errors import described
from model_server.loading import LoadedModel
from model_server.opening import open_model

SHOWN_PREDICTIONS = 5


def probe(*, model: Path, out: Path) -> int:
    """It writes what it saw, whatever happens, and returns 0 only if all went well."""
    report: dict[str, Any] = {
        "ok": False,
        "load_seconds": None,
        "python": platform.python_version(),
        "loader": None,
        "signature": None,
        "example": None,
        "error": None,
    }
    stage, loaded = "load", None
    start = time.perf_counter()
    try:
        loaded = open_model(model)
        report["load_seconds"] = round(time.perf_counter() - start, 4)
        report["loader"] = loaded.loader
        signature = loaded.card.signature
        if signature is not None:
            report["signature"] = {"inputs": signature.inputs, "outputs": signature.outputs}
        stage = "example"
        report["example"] = _example(loaded)
        reports.write(out, {**report, "ok": True})
        return 0
    except (Exception, SystemExit) as error:  # noqa: BLE001 - loading runs the model's own code
        if stage == "load":
            report["load_seconds"] = round(time.perf_counter() - start, 4)
        report["error"] = described(error, stage=stage)
        reports.write(out, report)
        return 1
    finally:
        if loaded is not None:
            loaded.close()


def _example(loaded: LoadedModel) -> dict[str, Any]:
    start = time.perf_counter()
    found = loaded.answer_example()
    seconds = round(time.perf_counter() - start, 6)
    if found is None:
        return {"found": False, "rows": 0, "seconds": 0.0, "predictions": []}
    rows, result = found
    predictions = plain(result)
    shown = predictions[:SHOWN_PREDICTIONS] if isinstance(predictions, list) else [predictions]
    return {"found": True, "rows": rows, "seconds": seconds, "predictions": shown}
