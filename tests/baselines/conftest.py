"""The cast of the baselines tests: bundles that were really built, and rows to compare with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import pytest

from apps.baselines import services
from apps.baselines.models import Baseline
from apps.builds.models import Build
from apps.jobs import services as jobs
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Version
from apps.registry.services.datasets import register_dataset
from tests.builds import artifacts, cast
from tests.builds.cast import Store
from tests.builds.conftest import store as store

Make = Callable[..., Build]
Give = Callable[..., Dataset]
Freeze = Callable[..., Baseline]


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def version(transactional_db: None, now: datetime) -> Version:
    return cast.make_version(number=1, now=now)


@pytest.fixture
def built(store: Store, now: datetime, version: Version) -> Make:
    """It ships a version of the model whose files the arguments describe."""

    def make(number: int = 1, model: Any = None, **files: Any) -> Build:
        made = version if number == 1 else cast.make_version(number=number, now=now)
        return cast.shipped(made, artifacts.write(store.place(made), model, **files), now)

    return make


def reference(count: int = 6000) -> pd.DataFrame:
    """Both columns, the label, a time that runs backwards, and a column that no model takes."""
    values, late = artifacts.rows(seed=11, count=count)
    frame = pd.DataFrame(values, columns=list(artifacts.COLUMNS))
    minutes = pd.to_timedelta(np.arange(count)[::-1], unit="min")
    return frame.assign(late=late, at=pd.Timestamp("2013-07-01", tz="UTC") + minutes, carrier="AA")


@pytest.fixture
def give(version: Version, now: datetime) -> Give:
    """It registers a data set of the model."""

    def give(frame: pd.DataFrame, **said: Any) -> Dataset:
        fields: dict[str, Any] = {
            "name": "reference", "role": DatasetRole.REFERENCE, "label_column": "late",
            "time_column": "at",
        }  # fmt: skip
        return register_dataset(
            model=version.model,
            file=BytesIO(frame.to_parquet(index=False)),
            actor=None,
            now=now,
            **fields | said,
        )

    return give


@pytest.fixture
def freeze(version: Version, now: datetime) -> Freeze:
    """It asks for a baseline and runs its job here, to whatever end."""

    def freeze(of: Version | None = None) -> Baseline:
        queued = services.ask(version=of or version, actor=None, now=now)
        assert queued.job is not None
        jobs.run(queued.job.pk)
        return Baseline.objects.select_related("job", "dataset").get(pk=queued.pk)

    return freeze
