"""It writes models as MLflow saves them, without the seconds that MLflow's import takes."""

from __future__ import annotations

import json
import pickle
import platform
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression

REQUIREMENTS = "cloudpickle==3.1.2\n"  # numpy comes with the server
SKLEARN = "scikit-learn==1.9.1\ncloudpickle==3.1.2\n"
COLUMNS = ("distance", "hour")
PYTHON = platform.python_version()
ROWS = 400


class Logistic:
    """It is a logistic curve over two columns: a real model without seconds of imports."""

    n_features_in_ = 2

    def __init__(self, weights: tuple[float, float] = (2.0, 0.0)) -> None:
        self.weights = weights

    def predict_proba(self, rows: Any) -> Any:
        score = 1 / (1 + np.exp(-(np.asarray(rows) @ np.array(self.weights))))
        return np.column_stack([1 - score, score])

    def predict(self, rows: Any) -> Any:
        return (self.predict_proba(rows)[:, 1] >= 0.5).astype(int)


class Unwilling:
    """It is a model that raises for every row but zeros."""

    n_features_in_ = 2

    def predict_proba(self, rows: Any) -> Any:
        if np.any(rows):
            raise ValueError("carrier was never seen")
        return np.zeros((len(rows), 2))


class OnLoad:
    """It is a pickle that runs a line of Python when it is loaded."""

    def __init__(self, line: str) -> None:
        self.line = line

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.line,)


def on_load(line: str) -> bytes:
    """It pickles a line of Python that runs when the model is loaded."""
    return pickle.dumps(OnLoad(line))


def rows(seed: int = 7, count: int = ROWS) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """It draws two columns and a label that the first of them mostly decides."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2))
    late = (values[:, 0] + 0.5 * rng.normal(size=count) > 0).astype(int)
    return values, late


def good() -> Logistic:
    """It knows what decides."""
    return Logistic()


def bad() -> Logistic:
    """It says the opposite of the truth."""
    return Logistic((-2.0, 0.0))


def fitted() -> LogisticRegression:
    """It is scikit-learn's own, with scikit-learn in its environment."""
    return LogisticRegression().fit(*rows())


def write(
    folder: Path,
    model: Any = None,
    *,
    requirements: str = REQUIREMENTS,
    columns: tuple[str, ...] = COLUMNS,
    types: dict[str, str] | None = None,
    python: str = PYTHON,
    pickled: bytes | None = None,
    predict_fn: str = "predict_proba",
    example: bool = True,
) -> Path:
    """It lays a scikit-learn model down in MLflow's form."""
    folder.mkdir(parents=True)
    # The classes here are not importable where the model runs.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    content = pickled if pickled is not None else cloudpickle.dumps(model or good())
    (folder / "model.pkl").write_bytes(content)
    inputs = [
        {"type": (types or {}).get(name, "double"), "name": name, "required": True}
        for name in columns
    ]
    outputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]
    card: dict[str, Any] = {
        "flavors": {
            "python_function": {
                "loader_module": "mlflow.sklearn",
                "model_path": "model.pkl",
                "predict_fn": predict_fn,
                "python_version": python,
            },
            "sklearn": {
                "code": None,
                "pickled_model": "model.pkl",
                "serialization_format": "cloudpickle",
                "sklearn_version": "1.9.1",
            },
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs)},
    }
    if example:
        split = {"columns": list(columns), "data": [[0.5, 1.0], [-2.0, 3.5]]}
        (folder / "serving_input_example.json").write_text(json.dumps({"dataframe_split": split}))
        card["saved_input_example_info"] = {
            "serving_input_path": "serving_input_example.json",
            "type": "dataframe",
            "pandas_orient": "split",
        }
    (folder / "MLmodel").write_text(yaml.safe_dump(card))
    (folder / "requirements.txt").write_text(requirements)
    (folder / "python_env.yaml").write_text(
        yaml.safe_dump({"python": python, "dependencies": ["-r requirements.txt"]})
    )
    return folder
