"""Trains the models that all servers serve, and lays out what each server wants to read."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

import model_server
from benchmarks.serving import environments
from model_server.digest import digest, manifest

FEATURES = 20
TRAINED_ROWS = 4000
ASKED_ROWS = 256
TREES = 100
COLUMNS = [f"f{number}" for number in range(FEATURES)]


@dataclass(frozen=True)
class Recipe:
    """A model of the benchmark: how it is made and which packages it needs."""

    name: str
    words: str
    make: Callable[[], Any]
    flavor: str
    requirements: tuple[str, ...]
    is_trees: bool = True


@dataclass(frozen=True)
class Made:
    """A trained model as it lies on disk."""

    recipe: Recipe
    folder: Path
    rows: Sequence[Sequence[float]]  # the single rows that are asked
    expected: Sequence[float]  # what the library itself answers

    @property
    def mlflow(self) -> Path:
        """In MLflow's format, with named columns, as most people log a scikit-learn model."""
        return self.folder / "mlflow"

    @property
    def plain(self) -> Path:
        """The same model fitted on an array, for servers that pass arrays: names would warn."""
        return self.folder / "plain" / "model.joblib"

    @property
    def rows_file(self) -> Path:
        return self.folder / "rows.json"

    @property
    def bundle(self) -> Path:
        """What a build makes of it."""
        return self.folder / "bundle"


def _linear() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def _boosted() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=TREES, random_state=7, n_jobs=1, verbose=-1)


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=TREES, random_state=7)


_PLAIN = (*environments.MODELS, *environments.PICKLE)
LINEAR = Recipe("linear", "scaler + logistic regression", _linear, "sklearn", _PLAIN, False)
LIGHTGBM = Recipe(
    "lightgbm", "LightGBM, 100 trees", _boosted, "lightgbm", (*_PLAIN, *environments.BOOSTING)
)
FOREST = Recipe("forest", "random forest, 100 trees", _forest, "sklearn", _PLAIN)
ALL = (LINEAR, LIGHTGBM, FOREST)


def table(rows: int, seed: int) -> tuple[Any, Any]:
    """It makes features and three classes that depend on them, with noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, FEATURES)).round(4) * np.linspace(0.5, 20, FEATURES).round(2)
    score = (features / features.std(axis=0))[:, :6].sum(axis=1) + rng.normal(size=rows)
    return features, np.digitize(score, [-1.5, 1.5])


def made(recipe: Recipe, folder: Path) -> Made:
    """It trains a model and saves it in both forms."""
    shutil.rmtree(folder, ignore_errors=True)
    features, classes = table(TRAINED_ROWS, 1)
    frame = pd.DataFrame(features, columns=COLUMNS)
    asked, _ = table(ASKED_ROWS, 2)
    named = recipe.make().fit(frame, classes)
    unnamed = recipe.make().fit(features, classes)
    expected = unnamed.predict(asked)
    assert (named.predict(pd.DataFrame(asked, columns=COLUMNS)) == expected).all()
    found = Made(recipe, folder, asked.tolist(), [float(value) for value in expected])
    found.plain.parent.mkdir(parents=True)
    joblib.dump(unnamed, found.plain)
    found.rows_file.write_text(json.dumps(found.rows))
    _save(recipe, named, frame, found.mlflow)
    _bundle(found)
    return found


def _save(recipe: Recipe, model: Any, frame: Any, path: Path) -> None:
    import mlflow

    # It warns of pickles, which these are on purpose.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature = mlflow.models.infer_signature(frame, model.predict(frame))
        flavor = getattr(mlflow, recipe.flavor)
        flavor.save_model(
            model,
            path,
            signature=signature,
            input_example=frame.head(3),
            pip_requirements=list(recipe.requirements),
            serialization_format="cloudpickle",
        )


def _bundle(model: Made) -> None:
    """It lays out a bundle as a build does, with the model server as it is now."""
    folder = model.bundle
    shutil.copytree(model.mlflow, folder / "model")
    shutil.copytree(
        Path(model_server.__file__).parent,
        folder / "server" / "model_server",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    found = digest(manifest(folder / "model"))
    (folder / "bundle.json").write_text(json.dumps({"digest": found, "model_digest": found}))


def server_requirements() -> tuple[str, ...]:
    """It reads what the model server wants beside the model's own packages."""
    text = (Path(model_server.__file__).parent / "requirements.txt").read_text()
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return tuple(line for line in lines if line)
