"""What cannot work ends failed, once, with a reason that a person understands."""

import shutil

import pytest

from tests.journeys import paths
from tests.journeys.client import Json
from tests.journeys.product import Product

JUDGED = """\
version: 1
holdout: flights
positive_class: "1"
environments:
  staging:
    enter: automatic
    gates: [{gate: metric_threshold, metric: accuracy, at_least: 0.6}]
    approvals: {required: 0}
"""


def failed_once(product: Product, model: str) -> Json:
    """The model's only build, which failed and was not tried again."""
    build = product.build(model, "failed")
    assert build["attempt"] == 1
    assert [b["id"] for b in product.builds(model)] == [build["id"]]
    assert product.version(model, 1)["digest"] == ""
    [event] = product.events(model, "build.failed")
    assert event["reason"] == build["reason"]
    assert product.reader.results("promotions", model=model) == []
    return build


def test_a_model_that_does_not_load(product: Product, model: str) -> None:
    product.log(model, kind="unloadable")

    build = failed_once(product, model)
    assert build["failure"] == "load"
    assert build["reason"] == (
        "The model does not load: RuntimeError: made with a library that is not here"
    )
    [mail] = [m for m in product.people["dora"].results("mails") if model in m["subject"]]
    assert (mail["to"], mail["subject"]) == ("ada@example.com", f"{model} v1 could not be built")
    assert build["reason"] in mail["text"]


def test_requirements_that_do_not_resolve(product: Product, model: str) -> None:
    product.log(model, requirements=("pydantic==1.10.0",))

    build = failed_once(product, model)
    assert build["failure"] == "requirements"
    assert build["reason"].startswith("The requirements do not resolve for Python 3.")
    assert "pydantic==1.10.0" in build["reason"]


def test_an_artifact_that_vanished(product: Product, model: str) -> None:
    with product.stopped("worker"):
        number = product.log(model)
        source = product.version(model, number)["source"]
        mark = source.removeprefix("models:/")
        [folder] = (product.var / "mlflow" / "artifacts").rglob(mark)
        shutil.rmtree(folder)

    build = failed_once(product, model)
    assert build["failure"] == "artifact"
    assert build["reason"].startswith(f"MLflow has no files for {model} v1")


@pytest.mark.parametrize("label", ["", "delayed"])
def test_a_holdout_without_the_label_column(product: Product, model: str, label: str) -> None:
    paths.registered(product, model)
    upload = product.people["ada"].http.post(
        f"models/{model}/datasets",
        data={"name": "flights", "role": "holdout", "label_column": label},
        files={"file": ("rows.parquet", paths.rows())},
    )
    if label:  # a column that is not there is refused at once
        assert upload.status_code == 409
        assert upload.json()["code"] == "dataset_invalid"
        assert upload.json()["message"] == (
            "There is no label column 'delayed'; the columns are distance, hour, late"
        )
        assert product.reader.results(f"models/{model}/datasets") == []
        return
    assert upload.status_code == 201
    product.policy(model, JUDGED)

    promotion = product.promotion(model, "staging", "refused")
    run = product.reader.get(f"validations/{promotion['validation']}")
    assert run["status"] == "failed"
    assert run["reason"] == (
        "The data set flights was registered without a label column; "
        "its columns are distance, hour, late"
    )
    assert run["reason"] in promotion["reason"]
    assert promotion["rollout"] is None
