"""Evidently as its documentation uses it: the drift preset with all its defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

from benchmarks.monitoring import truth
from benchmarks.monitoring.tools.common import Timer, frame, main


def find(asked: dict[str, Any]) -> dict[str, Any]:
    """It judges windows of known truth. The first is judged by the preset too.

    The preset computes each test three times and draws everything, which takes eight times as long
    and decides the same.
    """
    reference = frame(truth.reference())
    kinds = {name: name in truth.VALUES for name in truth.NAMES}
    answers = []
    for name, rows, windows in asked["asked"]:
        case = next(one for one in truth.CASES if one.name == name)
        timer, alarms, digest = Timer(), [], 0
        for index in range(windows):
            table = truth.window(case, rows, index)
            digest = truth.digest(table, digest)
            alarms.append(_tested(reference, frame(table), kinds))
        answers.append({"alarms": alarms, "digest": digest, "seconds": timer.seconds()})
        if len(answers) == 1:
            _check(alarms[0], reference, frame(truth.window(case, rows, 0)), kinds)
    return {"answers": answers}


def car_loan(asked: dict[str, Any]) -> dict[str, Any]:
    reference, analysis = pd.read_parquet(asked["reference"]), pd.read_parquet(asked["analysis"])
    kinds = {name: name in asked["categorical"] for name in asked["columns"]}
    chunks = [
        analysis.iloc[start : start + asked["rows"]]
        for start in range(0, len(analysis), asked["rows"])
    ]
    return {"alarms": [_tested(reference, chunk, kinds) for chunk in chunks]}


def speed(asked: dict[str, Any]) -> dict[str, Any]:
    """It runs the whole preset over one window."""
    timer = Timer()
    reference, window = pd.read_parquet(asked["reference"]), pd.read_parquet(asked["window"])
    load_seconds = timer.seconds()
    kinds = {name: name in truth.VALUES for name in truth.NAMES}
    alarms = _preset(reference, window, kinds)
    return {"load_seconds": load_seconds, "seconds": timer.seconds(), "alarms": alarms}


def _tested(reference: pd.DataFrame, window: pd.DataFrame, kinds: dict[str, bool]) -> list[str]:
    """It gives the columns that drifted by the test and threshold chosen by default."""
    found = []
    for name, is_categorical in kinds.items():
        kind = ColumnType.Categorical if is_categorical else ColumnType.Numerical
        before, now = _clean(reference[name]), _clean(window[name])
        test = get_stattest(before, now, kind, None)
        if test(before, now, kind, None).drifted:
            found.append(name)
    return found


def _clean(column: pd.Series) -> pd.Series:
    return column.replace([-np.inf, np.inf], np.nan).dropna()


def _preset(reference: pd.DataFrame, window: pd.DataFrame, kinds: dict[str, bool]) -> list[str]:
    definition = DataDefinition(
        numerical_columns=[name for name, is_categorical in kinds.items() if not is_categorical],
        categorical_columns=[name for name, is_categorical in kinds.items() if is_categorical],
    )
    before, now = (
        Dataset.from_pandas(one, data_definition=definition) for one in (reference, window)
    )
    metrics = Report([DataDriftPreset()]).run(now, before).dict()["metrics"]
    found = []
    for metric in metrics:
        config, value = metric["config"], metric["value"]
        if "column" not in config:
            continue
        is_p_value = "p_value" in config["method"]
        if value < config["threshold"] if is_p_value else value >= config["threshold"]:
            found.append(config["column"])
    return found


def _check(
    tested: list[str], reference: pd.DataFrame, window: pd.DataFrame, kinds: dict[str, bool]
) -> None:
    by_preset = _preset(reference, window, kinds)
    if sorted(by_preset) != sorted(tested):
        raise SystemExit(f"the preset finds {by_preset}, its tests {tested}")


if __name__ == "__main__":
    main({"find": find, "car_loan": car_loan, "speed": speed})
