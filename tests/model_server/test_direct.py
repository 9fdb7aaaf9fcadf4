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
from model_server.errors import BadRequest, NotLoadable
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


KINDS = {
    "distance": "double",
    "hour": "long",
    "weekend": "boolean",
    "wind": "float",
    "gust": "double",
}
SWAPPED = ["gust", "hour", "weekend", "wind", "distance"]


def of(names: list[str], **kinds: str) -> Schema:
    columns: list[ColSpec | TensorSpec] = [
        ColSpec({**KINDS, **kinds}.get(name, "double"), name, required=name != "gust")
        for name in names
    ]
    return Schema(columns)


@pytest.mark.parametrize(
    "name", ["lightgbm booster", "lightgbm words", "xgboost booster", "xgboost stopped early"]
)
def test_columns_in_another_order_are_read_by_name(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    flavor, make, options = MADE[name]
    models.save_flavor(flavor, make(), tmp_path / "swapped", schema=of(SWAPPED), **options)
    by_name = load(tmp_path / "model")

    model = load(tmp_path / "swapped")

    assert model.loader == f"{flavor}-direct"
    assert answered(model, rows()) == answered(by_name, rows())
    by_position = Positional([[9.5, 3, True, 1.5, 700.0], [None, 4, False, None, 20.0]])
    table = [[700.0, 3, True, 1.5, 9.5], [20.0, 4, False, None, None]]
    assert answered(model, by_position) == answered(by_name, Positional(table))


def test_scikit_learns_flavor_reads_by_name_as_well(tmp_path: Path) -> None:
    fitted = lightgbm.LGBMClassifier(**QUIET).fit(models.weather(), WORDS[models.delays()])
    options: dict[str, Any] = {"serialization_format": "cloudpickle"}
    models.save_flavor("sklearn", fitted, tmp_path / "model", **options)
    models.save_flavor("sklearn", fitted, tmp_path / "swapped", schema=of(SWAPPED), **options)

    first, second = (load(tmp_path / name) for name in ("model", "swapped"))

    assert (first.loader, second.loader) == ("sklearn-short", "sklearn-short")
    expected = fitted.predict(models.weather(40).assign(gust=np.nan)).tolist()
    assert len(set(expected)) == 2
    whole = Named({**rows().columns, "distance": models.weather(40)["distance"].tolist()}, 40)
    whole.columns["wind"] = models.weather(40)["wind"].tolist()
    assert answered(first, whole) == answered(second, whole) == expected


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn"])
def test_lightgbm_is_refused_where_a_column_stands_elsewhere(flavor: str, tmp_path: Path) -> None:
    fitted = lightgbm.LGBMClassifier(**QUIET).fit(models.weather(), models.delays())
    kind: dict[str, Any] = {"serialization_format": "cloudpickle"}
    other = of(["hour", "distance", "weekend", "wind", "gale"])
    models.save_flavor(flavor, fitted, tmp_path / "model", schema=other, **kind)

    with pytest.raises(NotLoadable) as refused:
        load(tmp_path / "model")

    assert str(refused.value) == (
        "column 'hour' is number 1 in the signature, but the model was fitted with it as number 2"
        " and reads columns by position: log it with a signature in the order of fitting"
    )


def test_lightgbm_with_categories_is_refused_in_another_order(tmp_path: Path) -> None:
    table = models.weather().assign(hour=models.weather()["hour"].astype("category"))
    categorical = lightgbm.LGBMRegressor(**QUIET).fit(table, models.delays(9))
    models.save_flavor("lightgbm", categorical, tmp_path / "model", schema=of(SWAPPED))

    with pytest.raises(NotLoadable, match="column 'gust' is number 1 in the signature"):
        load(tmp_path / "model")


def test_other_names_and_types_go_through_mlflow(tmp_path: Path) -> None:
    renamed = of(["a", "hour", "weekend", "wind", "gust"])
    text = of(list(KINDS), distance="string")
    models.save_flavor("lightgbm", lightgbm_booster(), tmp_path / "renamed", schema=renamed)
    models.save_flavor("lightgbm", lightgbm_booster(), tmp_path / "text", schema=text)

    assert load(tmp_path / "renamed").loader == "pyfunc"
    assert load(tmp_path / "text").loader == "pyfunc"


INFINITE = ", which is infinite in the single precision that XGBoost computes with"


@pytest.mark.parametrize("way", ["xgboost booster", "xgboost two classes", "sklearn", "pyfunc"])
def test_xgboost_is_not_asked_about_infinities(way: str, tmp_path: Path) -> None:
    if way == "sklearn":
        fitted = xgboost.XGBClassifier(**SMALL).fit(models.weather(), models.delays())
        options: dict[str, Any] = {"serialization_format": "cloudpickle"}
        models.save_flavor("sklearn", fitted, tmp_path / "model", **options)
    elif way == "pyfunc":
        linear = xgboost.XGBRegressor(booster="gblinear").fit(models.weather(), models.delays(9))
        models.save_flavor("xgboost", linear, tmp_path / "model")
    else:
        saved(way, tmp_path)
    model = load(tmp_path / "model")

    for value, shown in ((np.inf, "inf"), (-np.inf, "-inf"), (-1e300, "-1e+300")):
        payload = Named({**rows(2).columns, "distance": [1.0, value], "gust": [None, 2.0]}, 2)
        with pytest.raises(BadRequest) as refused:
            model.prepare(payload)
        assert str(refused.value) == f"column 'distance' holds {shown} in row 1{INFINITE}"
    largest = Named({**rows(1).columns, "distance": [3.4e38]}, 1)
    assert len(answered(model, largest)) == 1


def test_xgboost_names_an_infinity_in_a_tensor_by_its_place(tmp_path: Path) -> None:
    fitted = xgboost.XGBRegressor(**SMALL).fit(np.eye(3), [1, 2, 3])
    models.save_flavor("xgboost", fitted, tmp_path / "model", schema=MATRIX)

    with pytest.raises(BadRequest) as refused:
        load(tmp_path / "model").prepare(Positional([[1.0, 2.0, np.inf]]))

    assert str(refused.value) == f"column 2 holds inf in row 0{INFINITE}"


def test_xgboost_to_which_infinity_is_what_is_missing_is_asked(tmp_path: Path) -> None:
    fitted = xgboost.XGBRegressor(**SMALL, missing=np.inf).fit(np.eye(3), [1, 2, 3])
    options: dict[str, Any] = {"serialization_format": "cloudpickle"}
    models.save_flavor("sklearn", fitted, tmp_path / "model", schema=MATRIX, **options)

    found = answered(load(tmp_path / "model"), Positional([[1.0, 2.0, np.inf]]))

    assert found == fitted.predict(np.array([[1, 2, np.inf]], np.float32)).tolist()


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
