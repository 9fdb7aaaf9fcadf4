"""How much each input matters to a version: as its run wrote it down, or by permuting it.

Nothing of the model is loaded here: files of the run are read, or the model is asked in its own
environment.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from apps.baselines import columns, quality
from apps.baselines.meaning import INPUT, Meaning, Read, Task, read
from apps.baselines.reference import Reference
from apps.builds import predictions
from apps.builds.models import Build
from apps.builds.predictions import Asked
from apps.core.errors import Unavailable
from apps.jobs.services import Failed
from apps.registry.services import artifacts

log = logging.getLogger(__name__)
MOST_ROWS = 2_000
MOST_FEATURES = 60
MOST_CELLS = 8_000_000  # of all copies together
MOST_BYTES = 256 * 1024**2
TIMEOUT_SECONDS = 60.0
SEED = 20130101

Tick = Callable[[], None]


def of_run(build: Build, features: Sequence[str]) -> dict[str, float]:
    """What MLflow's autologging wrote as feature_importance_*.json; {} where it did not."""
    try:
        told = artifacts.run_importance(build.version)
    except Unavailable as down:
        log.info("No importance of %s read: %s", build.version, down.message)
        return {}
    known = {name: _number(value) for name, value in told.items() if name in features}
    return _shares({f"{INPUT}{name}": value for name, value in known.items()})


def by_permuting(
    build: Build, rows: Reference, meaning: Meaning, *, tick: Tick
) -> dict[str, float]:
    """It permutes one input after the other and asks the model about all copies at once.

    With labels an input's weight is by how much the error grows (Breiman 2001), without them by
    how much the answers move. {} where that would cost too much, or the model did not answer.
    """
    table, labels = _sample(rows)
    width, count = len(rows.features), table.num_rows
    if width < 2 or width > MOST_FEATURES or (width + 1) * table.nbytes > MOST_BYTES:
        return {}
    order = np.random.default_rng(SEED).permutation(count)
    copies = [table, *(_permuted(table, name, order) for name in rows.features)]
    asked = Asked(pa.concat_tables(copies), "", rows.dataset.name, rows.dataset.label_column)
    try:
        answers = predictions.of(
            build=build, asked=asked, tick=tick, timeout_seconds=TIMEOUT_SECONDS
        )
    except Failed as failure:
        log.info("No importance of %s: %s", build.version, failure)
        return {}
    said = pa.table(columns.outputs(answers.predictions, build.signature))
    whole = said.slice(0, count)
    truth = None if labels is None else quality.truth(meaning, labels)
    names = _names(build, rows.features)
    return _shares(
        {
            names[place]: _effect(meaning, whole, said.slice(count * (place + 1), count), truth)
            for place in range(width)
        }
    )


def _names(build: Build, features: Sequence[str]) -> list[str]:
    """Inputs without names are known by their place, as `columns.inputs` has it."""
    declared = build.signature.get("inputs") or []
    by_place = bool(declared) and not any(spec.get("name") is not None for spec in declared)
    return [f"{INPUT}{place if by_place else name}" for place, name in enumerate(features)]


def _sample(rows: Reference) -> tuple[pa.Table, pa.ChunkedArray | None]:
    most = max(min(MOST_ROWS, MOST_CELLS // (len(rows.features) + 1) ** 2), 1)
    step = max(rows.rows / most, 1.0)
    places = pa.array((np.arange(min(rows.rows, most)) * step).astype(np.int64))
    labels = rows.labels
    return rows.inputs.take(places), None if labels is None else labels.take(places)


def _permuted(table: pa.Table, name: str, order: npt.NDArray[np.int64]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.field(place), table.column(place).take(pa.array(order)))


def _effect(
    meaning: Meaning, whole: pa.Table, permuted: pa.Table, truth: npt.NDArray[Any] | None
) -> float:
    before, after = read(meaning, whole), read(meaning, permuted)
    if truth is not None:
        errors = [_error(meaning, found, truth) for found in (before, after)]
        if None not in errors:
            return max((errors[1] or 0.0) - (errors[0] or 0.0), 0.0)
    return _moved(meaning, before, after)


def _error(meaning: Meaning, found: Read, truth: npt.NDArray[Any]) -> float | None:
    """The mean squared error of a score or a number, the share of wrong classes."""
    if meaning.task is Task.REGRESSION:
        gaps = (found.predicted - truth) ** 2
    elif found.score is not None:
        gaps = np.where(truth < 0, np.nan, (found.score - (truth == meaning.positive)) ** 2)
    elif meaning.task.has_classes:
        gaps = np.where(truth < 0, np.nan, found.predicted != truth)
    else:
        return None
    known = gaps[np.isfinite(gaps)]
    return float(known.mean()) if known.size else None


def _moved(meaning: Meaning, before: Read, after: Read) -> float:
    if before.score is not None and after.score is not None:
        gaps = np.abs(before.score - after.score)
    elif meaning.task.has_classes:
        gaps = (before.predicted != after.predicted).astype(np.float64)
    else:
        gaps = np.abs(before.predicted - after.predicted)
    known = gaps[np.isfinite(gaps)]
    return float(known.mean()) if known.size else 0.0


def _shares(weights: Mapping[str, float]) -> dict[str, float]:
    """They sum to 1; {} where none has a weight."""
    finite = {name: w for name, w in weights.items() if math.isfinite(w) and w >= 0}
    total = math.fsum(finite.values())
    if not total or not math.isfinite(total):
        return {}
    return {name: weight / total for name, weight in finite.items()}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
