"""It leaves out what libraries do anew for every row, where a trial shows that nothing changes.

One row costs scikit-learn's linear models 240 us, nearly all of it for looking at the input. Here
the same operations run in the same order on rows that need no looking at; what the library may
refuse or treat otherwise goes to the library, so that it is refused in the library's words.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_server.loading import direct, lightgbm, linear, trees, xgboost
from model_server.loading.direct import Array, Call

# Of more rows the overhead is a small part, and the library may use several threads.
MAX_ROWS = {**dict.fromkeys(trees.FORESTS, 1000), **dict.fromkeys(trees.BINNED, 8)}
_SCALERS = {"MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"}
_TREES = trees.FORESTS | trees.BOOSTED | trees.BINNED
_CHANGES: dict[str, tuple[tuple[Any, str, str], ...]] = {
    "StandardScaler": ((np.subtract, "with_mean", "mean_"), (np.divide, "with_std", "scale_")),
    "RobustScaler": (
        (np.subtract, "with_centering", "center_"),
        (np.divide, "with_scaling", "scale_"),
    ),
    "MinMaxScaler": ((np.multiply, "", "scale_"), (np.add, "", "min_")),
    "MaxAbsScaler": ((np.divide, "", "scale_"),),
}


@dataclass(frozen=True)
class _Last:
    """It is the estimator that answers: its ways, and which values it needs no asking about."""

    ways: Iterator[Call]
    takes: Callable[[Array], bool]
    rows: Array


@dataclass(frozen=True)
class _Short:
    """It is a way that was found to be the same, and the rows that it is for."""

    scale: Call | None
    way: Call
    takes: Callable[[Array], bool]
    most_rows: float


def shortened(target: Any, method: str, call: Call, rows: Array) -> Call | None:
    """It returns a shorter way to the same answers; rows are finite, of the type to be served."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return _shortened(target, method, call, rows)
    # These look into other libraries, whose other releases may have other insides.
    except Exception:  # noqa: BLE001 - as above
        return None


def _shortened(target: Any, method: str, call: Call, rows: Array) -> Call | None:
    scalers, last = _unwrapped(target, method)
    if last is None or getattr(last, "n_features_in_", None) != rows.shape[1]:
        return None
    scale = _scaling(scalers, rows.dtype)
    found = _last(last, method, rows.shape[1])
    rows = _trial(scalers, rows, found.rows)
    reference = _one_by_one(last, call)
    for way in found.ways:
        if direct.is_same(_joined(scale, way), reference, rows):
            takes = _no_infinity if scalers and found.takes is _all else found.takes
            most = MAX_ROWS.get(type(last).__name__, math.inf)
            return _guarded(_Short(scale, way, takes, most), call)
    return None


def _unwrapped(target: Any, method: str) -> tuple[list[Any], Any]:
    """It returns scalers and the last step, or None where there is anything else."""
    steps = [target]
    if _is_plain(target, "Pipeline", method):
        steps = [step for _, step in target.steps if step not in (None, "passthrough")]
    scalers, last = steps[:-1], steps[-1]
    plain = all(_is_plain(step, type(step).__name__, "transform") for step in scalers)
    known = all(type(step).__name__ in _SCALERS for step in scalers)
    # Clipping makes a number of infinity, which would then not be refused.
    if not plain or not known or any(getattr(step, "clip", False) for step in scalers):
        return [], None
    return scalers, last if _is_plain(last, type(last).__name__, method) else None


def _is_plain(model: Any, name: str, method: str) -> bool:
    """It tells whether a model is the library's own, with nothing of the author's put over it."""
    kind = type(model)
    library = kind.__module__.partition(".")[0]
    function = getattr(kind, method, None)
    return (
        kind.__name__ == name
        and library in ("sklearn", "lightgbm", "xgboost")
        and str(getattr(function, "__module__", "")).partition(".")[0] == library
        and not any(callable(getattr(kind, key, None)) for key in vars(model))
    )


def _scaling(scalers: list[Any], dtype: np.dtype[Any]) -> Call | None:
    kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
    changes: list[tuple[Any, Array]] = []
    for scaler in scalers:
        name = type(scaler).__name__
        for change, switch, attribute in _CHANGES[name]:
            if not switch or getattr(scaler, switch):
                by = getattr(scaler, attribute)
                changes.append((change, by.astype(kind) if name == "StandardScaler" else by))
    if not scalers:
        return None

    def scale(data: Array) -> Array:
        found = data.astype(kind)
        for change, by in changes:
            change(found, by, out=found, casting="same_kind")
        return found

    return scale


def _last(model: Any, method: str, columns: int) -> _Last:
    kind = type(model).__name__
    none = np.empty((0, columns))
    if kind in linear.CLASSIFIERS | linear.REGRESSORS:
        return _Last(linear.ways(model, method), _is_finite, none)
    if kind in _TREES:
        rows = trees.split_rows(model, columns)
        return _Last(trees.ways(model, method), _is_single, rows)
    unknown = direct.trial_rows(columns)[22:]
    if kind in lightgbm.ESTIMATORS:
        return _Last(lightgbm.ways(model, method), _all, unknown)
    if kind in xgboost.ESTIMATORS:
        return _Last(xgboost.ways(model, method), _no_infinity, unknown)
    return _Last(iter(()), _all, none)


def _trial(scalers: list[Any], rows: Array, more: Array) -> Array:
    """It adds the rows that the last step tells, and those that reach it as they stand here."""
    finite = np.concatenate([direct.trial_rows(rows.shape[1])[:22], more])
    unscaled = finite
    for scaler in reversed(scalers):
        unscaled = scaler.inverse_transform(unscaled)
    found = np.concatenate([finite, unscaled] if scalers else [finite])
    if rows.dtype.kind in "iu":
        found = found[np.isfinite(found).all(axis=1)]
    return np.concatenate([rows, found.astype(rows.dtype)])


def _one_by_one(last: Any, call: Call) -> Call:
    """It asks on one thread: several add a forest up in any order, and differ from themselves."""
    if type(last).__name__ not in trees.FORESTS or not hasattr(last, "n_jobs"):
        return call
    declared = last.n_jobs

    def reference(data: Array) -> Any:
        last.n_jobs = None
        try:
            return call(data)
        finally:
            last.n_jobs = declared

    return reference


def _joined(scale: Call | None, way: Call) -> Call:
    return way if scale is None else lambda data: way(scale(data))


def _guarded(short: _Short, call: Call) -> Call:
    scale, way, takes, most = short.scale, short.way, short.takes, short.most_rows

    def shortest(data: Array) -> Any:
        if len(data) > most:
            return call(data)
        scaled = data if scale is None else scale(data)
        return way(scaled) if takes(scaled) else call(data)

    return shortest


def _all(data: Array) -> bool:
    return True


def _is_finite(data: Array) -> bool:
    return bool(np.isfinite(data).all())


def _no_infinity(data: Array) -> bool:
    return not np.isinf(data).any()


def _is_single(data: Array) -> bool:
    """It tells whether trees, which compare in single precision, take every value."""
    # What single precision cannot hold becomes infinite.
    with np.errstate(over="ignore"):
        return bool(np.isfinite(data.astype(np.float32)).all())
