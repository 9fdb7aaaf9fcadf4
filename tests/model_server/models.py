"""It logs the real models that the tests serve."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 60
REQUIREMENTS = ["scikit-learn", "cloudpickle", "skops"]


def flights() -> pd.DataFrame:
    """It makes a small table of all the types that callers send."""
    rng = np.random.default_rng(7)
    return pd.DataFrame(
        {
            "distance": rng.uniform(100, 2500, ROWS).round(1),
            "hour": rng.integers(5, 23, ROWS),
            "carrier": rng.choice(["AA", "DL", "UA"], ROWS),
            "at": pd.date_range("2013-01-01", periods=ROWS, freq="h"),
            "weekend": rng.random(ROWS) < 0.3,
        }
    )


def late() -> np.ndarray[Any, Any]:
    """It says which of the flights were late."""
    return np.array([0, 1, 1] * (ROWS // 3))


def numeric_model() -> LogisticRegression:
    """It fits a model of two numeric columns on a DataFrame."""
    return LogisticRegression(max_iter=500).fit(flights()[["distance", "hour"]], late())


def mixed_model() -> Pipeline:
    """It fits a pipeline that picks numeric and text columns by name."""
    pick: ColumnTransformer = make_column_transformer(
        (OneHotEncoder(handle_unknown="error"), ["carrier"]),
        (StandardScaler(), ["distance", "hour"]),
    )
    return make_pipeline(pick, LogisticRegression(max_iter=500)).fit(flights(), late())


def save_numeric(path: Path) -> None:
    """It saves the numeric model in skops, MLflow's default form."""
    frame = flights()[["distance", "hour"]]
    model = numeric_model()
    _save(model, path, _inferred(frame, model.predict(frame)), frame.head(3))


def save_mixed(path: Path) -> None:
    """It saves the pipeline with predict_proba as what answers."""
    frame = flights()
    model = mixed_model()
    _save(
        model,
        path,
        _inferred(frame, model.predict_proba(frame)),
        frame.head(3),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
    )


def reordered_model() -> Pipeline:
    """It fits a pipeline that picks numeric columns by name."""
    pick = make_column_transformer((StandardScaler(), ["distance"]), ("passthrough", ["hour"]))
    frame = flights()[["distance", "hour"]]
    return make_pipeline(pick, LogisticRegression(max_iter=500)).fit(frame, late())


def save_reordered(path: Path) -> None:
    """It saves a model whose signature names the columns in another order than its fit."""
    frame = flights()[["distance", "hour"]]
    model = reordered_model()
    swapped = frame[["hour", "distance"]]
    signature = _inferred(swapped, model.predict(frame))
    _save(
        model,
        path,
        signature,
        swapped.head(2),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
    )


def save_unruly(path: Path) -> None:
    """It saves an estimator that does what its input says: fail, exit, or wait for a file."""

    class Unruly(BaseEstimator):  # type: ignore[misc]
        n_features_in_ = 1

        def fit(self, values: Any, target: Any = None) -> Any:
            return self

        def predict(self, values: Any) -> Any:
            import os
            import pathlib
            import time

            wish = values[0][0]
            if wish == 1:
                raise ValueError("carrier was never seen")
            if wish == 2:
                raise SystemExit(9)
            if wish == 3:
                gate = pathlib.Path(os.environ["GATE"])
                gate.with_suffix(".entered").touch()
                while not gate.exists():
                    time.sleep(0.01)
            if wish == 4:
                return [object()]
            return values[:, 0]

    signature = ModelSignature(Schema([ColSpec("double", "wish")]))
    _save(Unruly(), path, signature, None, serialization_format="cloudpickle")


def save_pyfunc(path: Path) -> None:
    """It saves a Python model that returns a table, as a flavor of its own would."""
    from mlflow.pyfunc import save_model
    from mlflow.pyfunc.model import PythonModel

    signature = ModelSignature(Schema([ColSpec("double", "value"), ColSpec("string", "name")]))

    # MLflow wants a schema in the type hints of predict, and warns when there is none.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        class Doubler(PythonModel):
            def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
                return model_input.assign(twice=model_input["value"] * 2)[["name", "twice"]]

        save_model(path, python_model=Doubler(), signature=signature, pip_requirements=REQUIREMENTS)


def save_unsigned(path: Path) -> None:
    """It saves the pipeline as MLflow does when it cannot infer a schema."""
    nothing_known = ColSpec(AnyType())  # type: ignore[no-untyped-call]
    signature = ModelSignature(Schema([nothing_known]))
    _save(mixed_model(), path, signature, None, serialization_format="cloudpickle")


def _inferred(frame: pd.DataFrame, answers: Any) -> ModelSignature:
    # It warns about integer columns, and where warnings are errors it infers nothing at all.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return infer_signature(frame, answers)


def _save(model: Any, path: Path, signature: ModelSignature, example: Any, **options: Any) -> None:
    import mlflow.sklearn

    # Logging warns about integer columns and pickles; neither is what is tested here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            path,
            signature=signature,
            input_example=example,
            pip_requirements=REQUIREMENTS,
            **options,
        )


SCHEMA = Schema(
    [
        ColSpec("double", "distance"),
        ColSpec("long", "hour"),
        ColSpec("boolean", "weekend"),
        ColSpec("float", "wind"),
        ColSpec("double", "gust", required=False),
    ]
)


def weather(rows: int = 400) -> pd.DataFrame:
    """It makes a table of every type of number, with holes where floats may have them."""
    rng = np.random.default_rng(11)
    return pd.DataFrame(
        {
            "distance": np.where(rng.random(rows) < 0.1, np.nan, rng.uniform(100, 2500, rows)),
            "hour": rng.integers(0, 24, rows),
            "weekend": rng.random(rows) < 0.3,
            "wind": rng.normal(0, 30, rows).astype(np.float32),
            "gust": np.where(rng.random(rows) < 0.4, np.nan, rng.normal(0, 9, rows)),
        }
    )


def delays(classes: int = 2) -> np.ndarray[Any, Any]:
    """It says how late each of the flights in that weather was, in classes."""
    table = weather()
    minutes = table["hour"] * 20 + table["wind"] * 10 + table["gust"].fillna(0) * 9
    found: np.ndarray[Any, Any] = pd.qcut(minutes, classes, labels=False).to_numpy()
    return found


def save_flavor(
    flavor: str, model: Any, path: Path, *, schema: Schema = SCHEMA, **options: Any
) -> None:
    """It saves a model in one of MLflow's flavors."""
    module = importlib.import_module(f"mlflow.{flavor}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.save_model(
            model,
            path=path,
            signature=ModelSignature(schema),
            pip_requirements=REQUIREMENTS,
            **options,
        )


def exported(model: Any, columns: int, **options: Any) -> Any:
    """It exports a scikit-learn model to ONNX, with one input of floats."""
    to_onnx = importlib.import_module("skl2onnx").to_onnx
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_onnx(model, np.zeros((1, columns), np.float32), target_opset=15, **options)


def adding() -> Any:
    """It makes an ONNX model of two named inputs, a float and a double, that returns both sums."""
    from onnx import TensorProto, helper

    inputs = [
        helper.make_tensor_value_info("wind", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("gust", TensorProto.DOUBLE, ["n"]),
    ]
    outputs = [
        helper.make_tensor_value_info("twice_wind", TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info("twice_gust", TensorProto.DOUBLE, ["n"]),
    ]
    nodes = [helper.make_node("Add", [name, name], [f"twice_{name}"]) for name in ("wind", "gust")]
    graph = helper.make_graph(nodes, "adding", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
