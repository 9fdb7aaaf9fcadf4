"""What one version is odd in keeps no other one out."""

from datetime import datetime
from typing import Any

import pytest

from apps.registry import tasks
from apps.registry.lifecycle import Source
from apps.registry.models import RunInput, Version
from apps.registry.services import missed, versions
from tests.registry.conftest import Woken
from tests.registry.tiny_mlflow import TinyMlflow

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def quiet(woken: Woken) -> None:
    """No message goes to the broker."""


def logged(context: str) -> dict[str, Any]:
    """A run with a data set, as MLflow answers it."""
    dataset = {"name": "n" * 500, "digest": "d" * 101, "source": "s\0", "profile": '{"rows": 3}'}
    tags = [{"key": "mlflow.data.context", "value": context}]
    return {"inputs": {"dataset_inputs": [{"dataset": dataset, "tags": tags}]}}


def taken() -> set[str]:
    return set(Version.objects.values_list("model__name", flat=True))


def test_values_that_are_longer_than_their_columns(mlflow: TinyMlflow, now: datetime) -> None:
    mlflow.add("odd", 1, run_id="r1", source="s" * 1001)
    mlflow.runs["r1"] = logged("c" * 600)
    mlflow.add("late-bags", 1)

    missed.sweep(now=now)

    assert taken() == {"odd", "late-bags"}
    kept = RunInput.objects.get()
    assert (kept.context, kept.digest, kept.source) == ("c" * 500, "d" * 100, "s")
    assert kept.version.source == "s" * 1000


def test_a_context_as_long_as_mlflow_allows_is_kept_whole(
    mlflow: TinyMlflow, now: datetime
) -> None:
    mlflow.add("odd", 1, run_id="r1")
    mlflow.runs["r1"] = logged("c" * 500)

    missed.sweep(now=now)

    assert RunInput.objects.get().context == "c" * 500


def test_characters_and_numbers_that_the_database_has_not(
    mlflow: TinyMlflow, now: datetime
) -> None:
    mlflow.add("odd", 1, run_id="r1", description="a\0b\ud800")
    mlflow.runs["r1"] = {
        "data": {
            "params": [{"key": "sep\0", "value": "\0"}],
            "metrics": [{"key": "auc", "value": float("nan")}, {"key": "f1", "value": 0.5}],
        }
    }

    missed.sweep(now=now)

    version = Version.objects.get()
    assert version.description == "ab?"
    assert version.run["params"] == {"sep": ""}
    assert version.run["metrics"] == {"auc": "nan", "f1": 0.5}


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_a_run_that_mlflow_does_not_give_waits_alone(
    mlflow: TinyMlflow, now: datetime, status: int
) -> None:
    mlflow.add("odd", 1, run_id="r1")
    mlflow.runs["r1"] = logged("training")
    mlflow.broken_runs["r1"] = status
    mlflow.add("late-bags", 1)

    missed.sweep(now=now)
    assert taken() == {"late-bags"}

    mlflow.broken_runs.clear()
    missed.sweep(now=now)
    assert taken() == {"odd", "late-bags"}
    assert RunInput.objects.get().context == "training"


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_so_it_is_with_the_webhook(mlflow: TinyMlflow, status: int) -> None:
    mlflow.add("odd", 1, run_id="r1")
    mlflow.broken_runs["r1"] = status

    tasks.register("odd", 1, "webhook")

    assert taken() == set()


def test_a_version_whose_run_was_purged_is_taken_without_it(
    mlflow: TinyMlflow, now: datetime
) -> None:
    mlflow.add("odd", 1, run_id="purged")

    version = versions.register_version(name="odd", number=1, seen_by=Source.SWEEP, now=now)

    assert version.run_id == "purged"
    assert (version.run["name"], version.run["metrics"]) == ("", {})
    assert not version.inputs.exists()


def test_what_the_database_refuses_all_the_same(
    mlflow: TinyMlflow, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.add("odd", 1, run_id="r1")
    mlflow.runs["r1"] = logged("c" * 600)
    mlflow.add("late-bags", 1)
    monkeypatch.setattr("apps.registry.found._cut", lambda value, room: value)

    missed.sweep(now=now)

    assert taken() == {"late-bags"}
