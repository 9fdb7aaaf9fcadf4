"""The part of an experiment that is the same for every model: fit, score, log, register."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import cloudpickle
import encoding
import flights
import mlflow
import mlflow.sklearn
import trees
from mlflow.data.pandas_dataset import from_pandas
from mlflow.models import infer_signature
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

MODEL = "flight-delay"
# What loading a model needs. MLflow adds all of itself unless it finds its small variant here,
# and that makes every environment half a gigabyte larger.
REQUIREMENTS = ("scikit-learn", "pandas", "numpy", "scipy", "cloudpickle", "mlflow-skinny")


def run(pipeline: Pipeline, tables: flights.Tables, *, author: str, about: str) -> None:
    """It fits the pipeline, scores it on the holdout, registers it, prints one line of JSON."""
    # The pipeline's own classes travel inside the pickle: a server does not have these files.
    for module in (encoding, trees):
        cloudpickle.register_pickle_by_value(module)
    training, holdout = tables.training, tables.holdout
    mlflow.set_experiment(MODEL)
    with mlflow.start_run(run_name=about, tags={"mlflow.user": author}) as active:
        pipeline.fit(training[flights.FEATURES], training[flights.LABEL])
        metrics = score(pipeline, holdout)
        mlflow.log_params(pipeline[-1].get_params())
        mlflow.log_metrics(metrics)
        mlflow.log_input(
            from_pandas(
                training,
                source="https://github.com/tidyverse/nycflights13",
                name="nycflights13-2013H1",
                targets=flights.LABEL,
            ),
            context="training",
        )
        example = holdout[flights.FEATURES].head(5)
        logged = mlflow.sklearn.log_model(
            pipeline,
            name="model",
            registered_model_name=MODEL,
            input_example=example,
            signature=infer_signature(example, pipeline.predict_proba(example)),
            pyfunc_predict_fn="predict_proba",
            serialization_format="cloudpickle",
            pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        )
    summary = {
        "model": MODEL,
        "version": str(logged.registered_model_version),
        "run_id": active.info.run_id,
        "metrics": metrics,
    }
    print(json.dumps(summary))


def score(pipeline: Pipeline, holdout: Any) -> dict[str, float]:
    """It measures how well the predicted probabilities order and fit the held-out flights."""
    late = pipeline.predict_proba(holdout[flights.FEATURES])[:, 1]
    return {
        "holdout_auc": round(float(roc_auc_score(holdout[flights.LABEL], late)), 6),
        "holdout_log_loss": round(float(log_loss(holdout[flights.LABEL], late)), 6),
    }
