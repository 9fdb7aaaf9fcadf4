"""NannyML as its documentation uses it: the univariate drift calculator with all its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nannyml
import pandas as pd

from benchmarks.monitoring import truth
from benchmarks.monitoring.tools.common import Timer, frame, main

ROWS_AT_ONCE = 200_000  # the calculator holds the rows several times


def find(asked: dict[str, Any]) -> dict[str, Any]:
    """It judges windows of known truth, each a chunk; thresholds come from chunks of that size."""
    reference, names = frame(truth.reference()), list(truth.NAMES)
    fitted: dict[int, Any] = {}
    answers = []
    for name, rows, windows in asked["asked"]:
        if rows not in fitted:
            fitted[rows] = _fitted(reference, names, rows)
        case = next(one for one in truth.CASES if one.name == name)
        timer, alarms, digest = Timer(), [], 0
        at_once = max(1, ROWS_AT_ONCE // rows)
        for first in range(0, windows, at_once):
            tables = [
                truth.window(case, rows, index)
                for index in range(first, min(first + at_once, windows))
            ]
            for table in tables:
                digest = truth.digest(table, digest)
            alarms += _alarms(fitted[rows], pd.concat(map(frame, tables), ignore_index=True), names)
        answers.append({"alarms": alarms, "digest": digest, "seconds": timer.seconds()})
    return {"answers": answers}


def car_loan(asked: dict[str, Any]) -> dict[str, Any]:
    reference, analysis = pd.read_parquet(asked["reference"]), pd.read_parquet(asked["analysis"])
    calculator = _fitted(reference, asked["columns"], asked["rows"])
    return {"alarms": _alarms(calculator, analysis, asked["columns"])}


def speed(asked: dict[str, Any]) -> dict[str, Any]:
    """It judges one window as one chunk. What fits on the reference is timed apart."""
    timer = Timer()
    reference, window = pd.read_parquet(asked["reference"]), pd.read_parquet(asked["window"])
    load_seconds, names = timer.seconds(), list(truth.NAMES)
    calculator = nannyml.UnivariateDriftCalculator(column_names=names, chunk_number=10)
    calculator.fit(reference)
    fit_seconds = timer.seconds()
    alarms = _alarms(calculator, window, names)
    return {
        "load_seconds": load_seconds,
        "fit_seconds": fit_seconds,
        "seconds": timer.seconds(),
        "alarms": sorted({name for chunk in alarms for name in chunk}),
    }


def export(asked: dict[str, Any]) -> dict[str, Any]:
    """It writes the car-loan set that comes with NannyML, its truth beside the analysis rows."""
    reference, analysis, labels = nannyml.load_synthetic_car_loan_dataset()
    folder = Path(asked["folder"])
    reference.to_parquet(folder / "reference.parquet")
    analysis.merge(labels, on="id", validate="one_to_one").to_parquet(folder / "analysis.parquet")
    return {"rows": [len(reference), len(analysis)]}


def cbpe(asked: dict[str, Any]) -> dict[str, Any]:
    """It estimates each chunk's quality without its labels."""
    reference, analysis = pd.read_parquet(asked["reference"]), pd.read_parquet(asked["analysis"])
    timer = Timer()
    estimator = nannyml.CBPE(
        problem_type="classification_binary", y_true="repaid", y_pred="y_pred",
        y_pred_proba="y_pred_proba", metrics=["roc_auc", "accuracy"], chunk_size=asked["rows"],
    )  # fmt: skip
    estimator.fit(reference)
    found = estimator.estimate(analysis.drop(columns="repaid"))
    table = found.filter(period="analysis").to_df()
    return {
        "auc": table[("roc_auc", "value")].tolist(),
        "accuracy": table[("accuracy", "value")].tolist(),
        "seconds": timer.seconds(),
    }


def _fitted(reference: pd.DataFrame, names: list[str], rows: int) -> Any:
    calculator = nannyml.UnivariateDriftCalculator(column_names=names, chunk_size=rows)
    calculator.fit(reference)
    return calculator


def _alarms(calculator: Any, rows: pd.DataFrame, names: list[str]) -> list[list[str]]:
    table = calculator.calculate(rows).filter(period="analysis").to_df()
    alerts = {name: table[(name, "jensen_shannon", "alert")].to_numpy() for name in names}
    return [[name for name in names if alerts[name][place]] for place in range(len(table))]


if __name__ == "__main__":
    main({"find": find, "car_loan": car_loan, "speed": speed, "export": export, "cbpe": cbpe})
