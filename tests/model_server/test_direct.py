"""Models of other libraries asked without MLflow: the same answers, or not at all."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

import model_server
from model_server.answers import plain
from model_server.commands.probe import probe
from model_server.enforce import enforce
from model_server.inputs import Frame, Tensors
from model_server.loading import LoadedModel, load
from model_server.payload import Named, Positional
from tests.model_server import models

lightgbm: Any = importlib.import_module("lightgbm")
xgboost: Any = importlib.import_module("xgboost")

QUIET = {"verbose": -1, "n_estimators": 12}
SMALL = {"n_estimators": 12, "max_depth": 3}
MATRIX = Schema([TensorSpec(np.dtype(np.float32), (-1, 3))])
WORDS = np.array(["early", "late"])


def lightgbm_booster() -> Any:
    data = lightgbm.Dataset(models.weather(), models.delays())
    return lightgbm.train({"objective": "binary", "verbose": -1}, data, 12)


def xgboost_booster(**params: Any) -> Any:
    data = xgboost.DMatrix(models.weather(), models.delays())
    return xgboost.train({"objective": "binary:logistic", "base_score": 0.3, **params}, data, 12)


def stopped_early() -> Any:
    model = xgboost.XGBRegressor(n_estimators=60, early_stopping_rounds=2, learning_rate=0.9)
    table, answers = models.weather(), models.delays(9)
    return model.fit(table, answers, eval_set=[(table[:50], answers[:50][::-1])], verbose=False)


MADE: dict[str, tuple[str, Callable[[], Any], dict[str, Any]]] = {
    "lightgbm booster": ("lightgbm", lightgbm_booster, {}),
    "lightgbm words": (
        "lightgbm",
        lambda: lightgbm.LGBMClassifier(**QUIET).fit(models.weather(), WORDS[models.delays()]),
        {},
    ),
    "lightgbm classes": (
        "lightgbm",
        lambda: lightgbm.LGBMClassifier(**QUIET).fit(models.weather(), models.delays(3)),
        {"serialization_format": "cloudpickle"},
    ),
    "lightgbm stops predicting early": (
        "lightgbm",
        lambda: lightgbm.LGBMClassifier(
            **QUIET, pred_early_stop=True, pred_early_stop_freq=2, pred_early_stop_margin=0.1
        ).fit(models.weather(), models.delays()),
        {},
    ),
    "lightgbm numbers": (
        "lightgbm",
        lambda: lightgbm.LGBMRegressor(**QUIET).fit(models.weather(), models.delays(9)),
        {},
    ),
    "lightgbm fitted on an array": (
        "lightgbm",
        lambda: lightgbm.LGBMRegressor(**QUIET).fit(models.weather().to_numpy(float), [1, 2] * 200),
        {},
    ),
    "xgboost booster": ("xgboost", xgboost_booster, {}),
    "xgboost margin": ("xgboost", lambda: xgboost_booster(objective="binary:logitraw"), {}),
    "xgboost two classes": (
        "xgboost",
        lambda: xgboost.XGBClassifier(**SMALL).fit(models.weather(), models.delays()),
        {"model_format": "json"},
    ),
    "xgboost three classes": (
        "xgboost",
        lambda: xgboost.XGBClassifier(**SMALL).fit(models.weather(), models.delays(3)),
        {},
    ),
    "xgboost stopped early": ("xgboost", stopped_early, {}),
}


def saved(name: str, folder: Path) -> Path:
    flavor, make, options = MADE[name]
    models.save_flavor(flavor, make(), folder / "model", **options)
    return folder / "model"


def rows(count: int = 40) -> Named:
    """It makes a request: nulls where floats may be unknown, and no gust at all."""
    table = models.weather(count).drop(columns="gust")
    columns = {name: values.tolist() for name, values in table.items()}
    columns["distance"] = [None if v != v else v for v in columns["distance"]]
    columns["wind"] = [None if i % 7 == 0 else v for i, v in enumerate(columns["wind"])]
    return Named({str(name): values for name, values in columns.items()}, count)


def one(payload: Named, row: int) -> Named:
    return Named({name: values[row : row + 1] for name, values in payload.columns.items()}, 1)


def by_mlflow(path: Path, model: LoadedModel, payload: Named) -> Any:
    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    signature = model.card.signature
    assert signature is not None
    frame = Frame(signature.columns).build(enforce(signature.columns, payload))
    return plain(pyfunc.load_model(str(path)).predict(frame))


def answered(model: LoadedModel, payload: Any) -> Any:
    return plain(model.call(model.prepare(payload)))


@pytest.mark.parametrize("name", MADE)
def test_the_answers_are_those_of_mlflow(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)

    model = load(path)

    expected = by_mlflow(path, model, rows())
    assert model.loader == f"{MADE[name][0]}-direct"
    assert len(set(map(str, expected))) > 1
    assert answered(model, rows()) == expected
    assert [answered(model, one(rows(), row))[0] for row in range(40)] == expected


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("lightgbm booster", [("double", "gust"), ("double", "distance")]),
        ("lightgbm words", [("double", "gust"), ("double", "distance")]),
        ("xgboost booster", [("double", "gust"), ("double", "distance")]),
        ("xgboost stopped early", [("double", "gust"), ("double", "distance")]),
        ("lightgbm booster", [("string", "gust"), ("double", "distance")]),
    ],
)
def test_other_names_orders_or_types_go_through_mlflow(
    name: str, schema: list[tuple[str, str]], tmp_path: Path
) -> None:
    names = ["distance", "hour", "weekend", "wind", "gust"]
    kinds = dict(zip(names, ["double", "long", "boolean", "float", "double"], strict=True))
    reordered = [*schema, *((kinds[name], name) for name in names[1:4])]
    flavor, make, options = MADE[name]
    columns: list[ColSpec | TensorSpec] = [ColSpec(kind, column) for kind, column in reordered]
    models.save_flavor(flavor, make(), tmp_path / "model", schema=Schema(columns), **options)

    assert load(tmp_path / "model").loader == "pyfunc"


def test_what_is_not_the_same_on_an_array_goes_through_mlflow(tmp_path: Path) -> None:
    table = models.weather().assign(hour=models.weather()["hour"].astype("category"))
    categorical = lightgbm.LGBMRegressor(**QUIET).fit(table, models.delays(9))
    linear = xgboost.XGBRegressor(booster="gblinear").fit(models.weather(), models.delays(9))
    models.save_flavor("lightgbm", categorical, tmp_path / "categorical")
    models.save_flavor("xgboost", linear, tmp_path / "linear")
    # In place it differs from the table in the last digit.
    dart = xgboost_booster(booster="dart", rate_drop=0.2)
    models.save_flavor("xgboost", dart, tmp_path / "dart")
    module = tmp_path / "own.py"
    module.write_text("")
    models.save_flavor("lightgbm", lightgbm_booster(), tmp_path / "code", code_paths=[str(module)])

    loaders = {
        name: load(tmp_path / name).loader for name in ("categorical", "linear", "dart", "code")
    }

    assert set(loaders.values()) == {"pyfunc"}
    model = load(tmp_path / "linear")
    assert answered(model, rows()) == by_mlflow(tmp_path / "linear", model, rows())


def test_onnx_columns_answer_as_mlflows_table_does(tmp_path: Path) -> None:
    table, late = models.weather().fillna(0).drop(columns="weekend"), models.delays()
    classes = models.exported(
        DecisionTreeClassifier(max_depth=3).fit(table.to_numpy(float), late), 4
    )
    # Beside a boolean a DataFrame's values are objects, which MLflow cannot pass on.
    numbers = Schema([spec for spec in models.SCHEMA.inputs if spec.name != "weekend"])
    models.save_flavor("onnx", classes, tmp_path / "classes", schema=numbers)
    models.save_flavor("onnx", models.adding(), tmp_path / "adding")
    payload = Named({**rows().columns, "gust": [1.5] * 40, "distance": [9.25] * 40}, 40)

    for name in ("classes", "adding"):
        model = load(tmp_path / name)
        expected = by_mlflow(tmp_path / name, model, payload)
        assert model.loader == "onnx-direct"
        np.testing.assert_equal(answered(model, payload), expected)
        assert set(expected[0]) in (
            {"output_label", "output_probability"},
            {"twice_wind", "twice_gust"},
        )


def test_labels_beside_a_matrix_of_probabilities_are_an_answer(tmp_path: Path) -> None:
    fitted = DecisionTreeClassifier(max_depth=3).fit(
        models.weather().fillna(0).to_numpy(float), models.delays(3)
    )
    options = {"options": {"zipmap": False}}
    models.save_flavor("onnx", models.exported(fitted, 5, **options), tmp_path / "model")

    found = answered(load(tmp_path / "model"), Named({**rows(2).columns, "wind": [1, 2]}, 2))

    assert np.shape(found["label"]) == (2,)
    assert np.shape(found["probabilities"]) == (2, 3)


@pytest.mark.parametrize("flavor", ["onnx", "lightgbm", "xgboost"])
def test_tensors_answer_as_with_mlflow(flavor: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(300, 3))
    target = table @ [1.0, 2.0, 3.0]
    made: dict[str, Callable[[], Any]] = {
        "onnx": lambda: models.exported(LinearRegression().fit(table, target), 3),
        "lightgbm": lambda: lightgbm.LGBMRegressor(**QUIET).fit(table, target),
        "xgboost": lambda: xgboost.XGBRegressor(**SMALL).fit(table, target),
    }
    models.save_flavor(flavor, made[flavor](), tmp_path / "model", schema=MATRIX)
    payload = Positional(table[:9].tolist())

    model = load(tmp_path / "model")

    pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    assert model.card.signature is not None
    array = Tensors(model.card.signature.tensors).build(payload)
    assert model.loader == f"{flavor}-direct"
    expected = plain(pyfunc.load_model(str(tmp_path / "model")).predict(array))
    assert answered(model, payload) == expected


def test_an_onnx_model_whose_inputs_have_other_types_goes_through_mlflow(tmp_path: Path) -> None:
    whole = Schema([ColSpec("long", name) for name in ("a", "b", "c")])
    model = models.exported(LinearRegression().fit(np.eye(3), [1, 2, 3]), 3)
    models.save_flavor("onnx", model, tmp_path / "model", schema=whole)

    assert load(tmp_path / "model").loader == "pyfunc"


@pytest.mark.parametrize(
    "name", ["lightgbm booster", "lightgbm words", "xgboost booster", "xgboost two classes", "onnx"]
)
def test_neither_mlflow_nor_pandas_is_needed(name: str, tmp_path: Path) -> None:
    if name == "onnx":
        models.save_flavor("onnx", models.adding(), tmp_path / "model")
    else:
        saved(name, tmp_path)
    # The libraries import pandas themselves where it is installed; here it is not.
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('pandas', 'mlflow', 'django'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from model_server.loading import load\n"
        "from model_server.payload import Named\n"
        f"model = load(Path({str(tmp_path / 'model')!r}))\n"
        f"payload = Named({one(rows(), 1).columns!r}, 1)\n"
        "model.call(model.prepare(payload))\n"
        "print(model.loader)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(model_server.__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (found.stdout, found.stderr) == (f"{name.split()[0]}-direct\n", "")


def test_the_probe_says_which_way_was_taken(tmp_path: Path) -> None:
    path = saved("lightgbm booster", tmp_path)

    assert probe(model=path, out=tmp_path / "report.json") == 0

    assert b'"loader":"lightgbm-direct"' in (tmp_path / "report.json").read_bytes().replace(
        b" ", b""
    )
