"""Gates ask a model of any language for its answers, as they ask all others."""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa
import pytest

from apps.builds import predictions
from apps.builds.lifecycle import BuildStatus
from apps.registry.models import Dataset, Version
from apps.validation.holdout import Holdout
from tests.builds.cast import Store, build
from tests.model_server import runtimes

pytestmark = pytest.mark.django_db(transaction=True)


@runtimes.needs_node
def test_a_command_answers_the_holdout(version: Version, store: Store, now: datetime) -> None:
    runtimes.node_model(store.place(version))
    made = build(version, now)
    assert (made.status, made.reason) == (BuildStatus.SUCCEEDED, "")
    table = pa.table({"late": [0, 1], "hour": [17, 6], "distance": [1400.0, 0.5]})
    dataset = Dataset(name="h", label_column="late", fingerprint="sha256:1")

    asked = Holdout(dataset, table, 2, 0).asked
    answers = predictions.of(build=made, asked=asked, tick=lambda: None)

    assert (answers.predictions, answers.kept) == ([3100.0, 600.5], False)
