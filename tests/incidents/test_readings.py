"""What monitors of quality read: which figure, of which rows, against what."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from apps.incidents.lifecycle import Reading, Verdict
from apps.incidents.selectors import readings
from apps.monitoring.models import Slice
from apps.quality.services import feedback, joining
from apps.registry.monitors_policy import DEFAULTS, Rule
from apps.serving.models import Endpoint, Revision
from tests.factories.registry import DatasetFactory
from tests.factories.validation import CheckResultFactory, ValidationRunFactory
from tests.people import Cast
from tests.quality import making
from tests.quality.conftest import endpoint, revision, var
from tests.quality.making import SCORE, START

__all__ = ["endpoint", "revision", "var"]  # fixtures of quality
pytestmark = pytest.mark.django_db
NOON = START + timedelta(hours=1)
SHARES = {"shares": [i / 49 for i in range(50)], "rows": 900}
TWO = {"task": "binary", "form": "class", "classes": ["0", "1"], "positive": 1}
QUALITY = next(rule for rule in DEFAULTS if rule.name == "quality")
TRAINED = "The baseline is of rows that the model may have been trained on"


def rule(metric: str, **more: Any) -> Rule:
    return Rule.model_validate({"name": "r", "metric": metric, "enough": 50} | more)


def read(endpoint: Endpoint, revision: Revision, given: Rule) -> Reading:
    look = readings.Look(endpoint, NOON, [revision])
    [found] = readings.of(look, (given,), {})
    return found.reading


def label(cast: Cast, revision: Revision, output: Any, labels: list[int]) -> None:
    ids = [f"r{i}" for i in range(len(labels))]
    making.row_file(revision, ids, {"out.0": output}, at=START)
    sent = [{"request_id": id_, "label": one} for id_, one in zip(ids, labels, strict=True)]
    feedback.send(sender=cast.owner, batch=sent, now=NOON)
    joining.sweep(now=NOON)


def test_of_a_model_that_answers_classes_the_main_figure_is_accuracy(
    cast: Cast, endpoint: Endpoint, revision: Revision
) -> None:
    """It was AUC, which such a model never has: the default monitor said nothing for ever."""
    making.baseline(revision.version, TWO, quality={"accuracy": 0.95, "f1": 0.9})
    labels = [i % 2 for i in range(300)]
    label(cast, revision, [one if i % 10 < 7 else 1 - one for i, one in enumerate(labels)], labels)

    found = read(endpoint, revision, QUALITY)
    assert found.verdict is Verdict.WRONG
    assert found.words.startswith("accuracy 0.700 ")


def test_without_an_area_in_the_reference_accuracy_is_compared(
    cast: Cast, endpoint: Endpoint, revision: Revision
) -> None:
    making.baseline(revision.version, SCORE, quality={"accuracy": 0.95})
    score = np.linspace(0.01, 0.99, 300)
    label(cast, revision, score, (score > 0.5).astype(int).tolist())

    found = read(endpoint, revision, QUALITY)
    assert (found.verdict, found.words[:14]) == (Verdict.RIGHT, "accuracy 1.000")
    limit = read(endpoint, revision, rule("quality:main", at_most=0.5, window=7 * 86_400))
    assert limit.words.startswith("roc_auc 1.000 ")


def test_nothing_fires_by_rows_of_training(
    cast: Cast, endpoint: Endpoint, revision: Revision
) -> None:
    """Trained to an area of 1, the model of 0.85 was wrong for ever."""
    making.baseline(revision.version, SCORE, origin="training", quality={"roc_auc": 1.0})
    rng = np.random.default_rng(8)
    actual = (np.arange(400) % 2).tolist()
    label(cast, revision, np.clip(rng.normal(0.4 + 0.2 * np.array(actual), 0.13), 0, 1), actual)

    found = read(endpoint, revision, QUALITY)
    assert found.verdict is Verdict.UNKNOWN
    assert f"the reference has no roc_auc to compare with. {TRAINED}, so nothing" in found.words

    run = ValidationRunFactory.create(
        build=revision.build,
        dataset=DatasetFactory.create(model=revision.version.model, name="spring"),
    )
    CheckResultFactory.create(run=run, evidence={"metric": "roc_auc", "value": 0.85})
    found = read(endpoint, revision, QUALITY)
    assert found.verdict is Verdict.RIGHT
    assert "reference 0.850" in found.words
    assert found.words.endswith("; references are of its validation on spring")


def test_an_estimate_is_watched_in_its_slice(endpoint: Endpoint, revision: Revision) -> None:
    """The slice was accepted, and the whole endpoint was watched."""
    frozen = making.baseline(revision.version, SCORE, calibration=SHARES, quality={"accuracy": 0.9})
    part = Slice.objects.create(endpoint=endpoint, name="far", condition=[], created_at=START)
    making.tally(revision, frozen, [(0, 0, 300), (49, 1, 300)])
    making.tally(revision, frozen, [(24, 0, 100)], slice=part)

    whole = rule("estimated:accuracy", drop=0.1)
    assert read(endpoint, revision, whole).verdict is Verdict.RIGHT
    found = read(endpoint, revision, whole.model_copy(update={"slice": "far"}))
    assert found.verdict is Verdict.WRONG
    assert "from 100 predictions" in found.words


def test_estimates_of_training_rows_are_not_compared(
    endpoint: Endpoint, revision: Revision
) -> None:
    frozen = making.baseline(
        revision.version, SCORE, origin="training", calibration=SHARES, quality={"accuracy": 1.0}
    )
    making.tally(revision, frozen, [(24, 0, 100)])

    found = read(endpoint, revision, rule("estimated:accuracy", drop=0.1))
    assert found.verdict is Verdict.UNKNOWN
    assert found.words.endswith(f"{TRAINED}, so estimates are too good")
    low = read(endpoint, revision, rule("estimated:accuracy", at_most=0.6))
    assert (low.verdict, low.words[-30:]) == (
        Verdict.WRONG,
        "rained on, so estimates are too good"[-30:],
    )
