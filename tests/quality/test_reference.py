"""What figures are held against: never rows that the model was trained on."""

from datetime import timedelta

import pytest
from django.test import Client

from apps.monitoring.models import Slice
from apps.quality import reference, selectors
from apps.serving.models import Endpoint, Revision
from tests.factories.registry import DatasetFactory
from tests.factories.validation import CheckResultFactory, ValidationRunFactory
from tests.people import Cast, bearer
from tests.quality import making
from tests.quality.making import CLASS, SCORE, START

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
SHARES = {"shares": [i / 49 for i in range(50)], "rows": 900}
SPAN = "since=2030-01-07T10:00:00Z&until=2030-01-07T13:00:00Z"
TRAINED = "The baseline is of rows that the model may have been trained on"


def validated(revision: Revision, fingerprint: str = "sha256:b") -> None:
    """Two rules measured it on a holdout."""
    holdout = DatasetFactory.create(
        model=revision.version.model, name="spring", fingerprint=fingerprint
    )
    run = ValidationRunFactory.create(build=revision.build, dataset=holdout)
    CheckResultFactory.create(run=run)
    gap = {"metric": "accuracy", "candidate": {"value": 0.8}, "stable": {"value": 0.7}}
    CheckResultFactory.create(run=run, gate="metric_comparison", evidence=gap)
    CheckResultFactory.create(run=run, gate="schema_compatible", evidence={})


def test_rows_of_training_are_no_reference(revision: Revision) -> None:
    """A forest was right on all of them: an alert opened that never ended."""
    making.baseline(revision.version, SCORE, origin="training", quality={"roc_auc": 1.0})

    found = selectors.reference_of(revision)
    assert (found.values, found.is_of_training) == ({}, True)
    assert found.note.startswith(f"{TRAINED}, so nothing is held against it.")


def test_a_validation_on_a_holdout_takes_their_place(revision: Revision) -> None:
    making.baseline(revision.version, SCORE, origin="training", quality={"roc_auc": 1.0})
    validated(revision)

    found = selectors.reference_of(revision)
    assert found.values == {"roc_auc": 0.7134, "accuracy": 0.8}
    assert found.note == f"{TRAINED}; references are of its validation on spring"


def test_a_holdout_that_was_trained_on_is_none(revision: Revision) -> None:
    making.baseline(revision.version, SCORE, origin="training", quality={"roc_auc": 1.0})
    DatasetFactory.create(
        model=revision.version.model, name="all", role="training", fingerprint="sha256:b"
    )
    validated(revision, "sha256:b")

    assert selectors.reference_of(revision).values == {}


def test_of_many_classes_a_validation_measures_one_and_is_no_reference(revision: Revision) -> None:
    making.baseline(revision.version, CLASS, origin="training", quality={"accuracy": 1.0})
    validated(revision)

    assert selectors.reference_of(revision).values == {}


def test_a_reference_set_is_held_against_unless_it_is_a_training_set_too(
    revision: Revision,
) -> None:
    model = revision.version.model
    given = DatasetFactory.create(
        model=model, name="year", role="reference", fingerprint="sha256:a"
    )
    making.baseline(revision.version, SCORE, dataset=given, quality={"roc_auc": 0.9})
    assert selectors.reference_of(revision) == reference.Reference({"roc_auc": 0.9})

    DatasetFactory.create(model=model, name="train", role="training", fingerprint="sha256:a")
    assert selectors.reference_of(revision) == reference.Reference({}, is_of_training=True)


def test_estimates_of_training_rows_are_told_as_too_good(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    frozen = making.baseline(
        revision.version, SCORE, origin="training", quality={"accuracy": 1.0}, calibration=SHARES
    )
    making.tally(revision, frozen, [(0, 0, 300), (49, 1, 100)])
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{endpoint.pk}/quality"

    answer = client.get(f"{url}?{SPAN}", headers=signed).json()
    assert answer["estimated"]["note"] == f"{TRAINED}, so estimates are too good"
    assert answer["reference_note"].startswith(TRAINED)
    assert {one["reference"] for one in answer["estimated"]["metrics"]} == {None}
    chart = client.get(f"{url}/series?{SPAN}&step=3600&metric=recall", headers=signed).json()
    assert [line["name"] for line in chart["figure"]["data"]] == [
        "v1 estimate; blind to concept drift, too good: of training rows"
    ]


def test_an_estimate_is_of_the_slice_or_the_copies_that_were_chosen(
    cast: Cast, endpoint: Endpoint, revision: Revision, client: Client
) -> None:
    """It was of the whole endpoint, without a word."""
    frozen = making.baseline(revision.version, SCORE, calibration=SHARES)
    part = Slice.objects.create(endpoint=endpoint, name="far", condition=[], created_at=START)
    making.tally(revision, frozen, [(0, 0, 300), (49, 1, 100)])
    making.tally(revision, frozen, [(24, 0, 50)], slice=part)
    making.tally(revision, frozen, [(49, 1, 70)], shadow=True)
    signed = bearer(cast.viewer)
    url = f"/api/v1/endpoints/{endpoint.pk}/quality"

    def seen(more: str) -> tuple[int, int]:
        answer = client.get(f"{url}?{SPAN}{more}", headers=signed).json()
        chart = client.get(f"{url}/series?{SPAN}&step=3600&metric=accuracy{more}", headers=signed)
        [row] = chart.json()["table"]["rows"]
        return answer["estimated"]["predictions"], row[-1]

    assert seen("") == (400, 400)
    assert seen(f"&slice={part.pk}") == (50, 50)
    assert seen("&shadow=true") == (70, 70)
    estimate = selectors.estimated(revision, START, START + HOUR, slice=part)
    assert estimate.metrics["accuracy"].value == pytest.approx(25 / 49)
