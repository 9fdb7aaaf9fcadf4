"""It writes models as MLflow saves them, without the seconds that MLflow's import takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import yaml
from sklearn.linear_model import LogisticRegression

REQUIREMENTS = "scikit-learn==1.9.1\ncloudpickle==3.1.2\n"
COLUMNS = ("distance", "hour")
ROWS = 400


class Unwilling:
    """It is a model whose answer is an exception."""

    n_features_in_ = 2

    def predict_proba(self, rows: Any) -> Any:
        raise ValueError("carrier was never seen")


def rows(seed: int = 7, count: int = ROWS) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """It draws two columns and a label that the first of them mostly decides."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(count, 2))
    late = (values[:, 0] + 0.5 * rng.normal(size=count) > 0).astype(int)
    return values, late


def good(sign: int = 1) -> LogisticRegression:
    """It fits the model; with -1 it learns the opposite of the truth."""
    values, late = rows()
    return LogisticRegression().fit(sign * values, late)


def write(
    folder: Path,
    model: Any = None,
    *,
    requirements: str = REQUIREMENTS,
    columns: tuple[str, ...] = COLUMNS,
    types: dict[str, str] | None = None,
    python: str = "3.11.7",
    pickled: bytes | None = None,
    predict_fn: str = "predict_proba",
    example: bool = True,
) -> Path:
    """It lays a scikit-learn model down in MLflow's form."""
    folder.mkdir(parents=True)
    cloudpickle.register_pickle_by_value(__import__(__name__, fromlist=["_"]))
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
