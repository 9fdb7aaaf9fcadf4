"""Quality without labels, for models with scores: confidence-based, from binned scores. Pure.

What the reference's labels said of each bin of scores is taken to hold still. It sees that other
rows come, never that the same rows now mean something else (concept drift).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from apps.quality import areas, metrics
from apps.quality.marks import BINS
from apps.quality.metrics import DRAWS, FEWEST, SEED, Figure

BLIND = "estimate; blind to concept drift"
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def shares_of(calibration: Mapping[str, Any]) -> Floats | None:
    """It reads the share of positive labels by score bin; None when the reference had no labels.

    A bin without such rows lies between its neighbours.
    """
    kept: Sequence[float | None] = calibration.get("shares", ())
    known = [place for place, share in enumerate(kept) if share is not None]
    if len(kept) != BINS or not known:
        return None
    values = [float(kept[place] or 0.0) for place in known]
    return np.interp(np.arange(BINS), known, values)


def estimate(shares: Floats, counts: Ints) -> dict[str, Figure]:
    """It estimates what labels would say of rows counted by (score bin, predicted class).

    Intervals: what labels drawn by these shares would have given (95 %).
    """
    n = int(counts.sum())
    if n < FEWEST:
        few = f"Fewer than {FEWEST} rows: {n}"
        names = ("accuracy", "roc_auc", "precision", "recall", "f1")
        return {name: Figure(None, reason=few) for name in names}
    positives = counts * shares[:, None]
    drawn = np.random.default_rng(SEED).binomial(
        counts, shares[:, None], size=(DRAWS, *counts.shape)
    )
    here, there = _figures(positives, counts), _figures(drawn.astype(float), counts)
    return {name: _figure(float(here[name]), there[name]) for name in here}


def _figure(value: float, drawn: Floats) -> Figure:
    if not np.isfinite(value):
        return Figure(None, reason="Only one class was foretold")
    return Figure(value, *metrics.between(drawn))


def _figures(positives: Floats, counts: Ints) -> dict[str, Floats]:
    """`positives`: by (..., bin, predicted class), of as many rows as `counts` says."""
    negatives = counts - positives
    hits, false = positives[..., 1].sum(axis=-1), negatives[..., 1].sum(axis=-1)
    missed, right = positives[..., 0].sum(axis=-1), negatives[..., 0].sum(axis=-1)
    return {
        "accuracy": (hits + right) / counts.sum(),
        "roc_auc": areas.auc(positives.sum(axis=-1), negatives.sum(axis=-1)),
        "precision": areas.divided(hits, hits + false),
        "recall": areas.divided(hits, hits + missed),
        "f1": areas.divided(2 * hits, 2 * hits + false + missed),
    }
