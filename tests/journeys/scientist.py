"""A data scientist's notebook: a process that stays, and logs models with MLflow when asked.

It reads one JSON object a line and answers with one. It imports nothing of the product.
"""

import importlib.metadata
import json
import os
import sys
from typing import Any

PINNED = ("scikit-learn", "pandas", "numpy", "scipy", "cloudpickle", "mlflow-skinny")


def log(wanted: dict[str, Any]) -> dict[str, Any]:
    """It trains on two columns and registers what it trained."""
    import mlflow
    import mlflow.sklearn
    import pandas as pd
    from mlflow.models import infer_signature

    from tests.journeys import models

    os.environ["MLFLOW_TRACKING_TOKEN"] = wanted["token"]
    mlflow.set_tracking_uri(wanted["uri"])
    mlflow.set_experiment("journeys")
    model = models.made(wanted["kind"])
    example = pd.DataFrame({"distance": [120.0, 2400.0], "hour": [7.0, 19.0]})
    pinned = [f"{name}=={importlib.metadata.version(name)}" for name in PINNED]
    with mlflow.start_run() as active:
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            input_example=example,
            signature=infer_signature(example, model.predict(example)),
            pyfunc_predict_fn="predict",
            serialization_format="cloudpickle",
            pip_requirements=[*pinned, *wanted["requirements"]],
            registered_model_name=wanted["name"],
        )
    return {"version": int(info.registered_model_version), "run_id": active.info.run_id}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what MLflow prints is no answer
    for line in sys.stdin:
        try:
            said = log(json.loads(line))
        except Exception as error:  # noqa: BLE001  whoever asked is told, in another process
            said = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
