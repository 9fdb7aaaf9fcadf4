"""The cast of the validation tests: bundles that were really built, and a holdout to judge on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from apps.builds.models import Build
from apps.jobs import services as jobs
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Version
from apps.registry.services.datasets import register_dataset
from apps.serving.models import Environment
from apps.validation import services
from apps.validation.models import ValidationRun
from tests.builds import artifacts, cast
from tests.builds.cast import Store
from tests.builds.conftest import store as store


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def version(transactional_db: None, now: datetime) -> Version:
    return cast.make_version(number=1, now=now)


@pytest.fixture
def staging(transactional_db: None) -> Environment:
    return Environment.objects.get_or_create(name="staging", defaults={"order": 1})[0]


Make = Callable[..., Build]


@pytest.fixture
def built(store: Store, now: datetime, version: Version) -> Make:
    """It ships a version of the model whose files the arguments describe."""

    def make(number: int = 1, model: Any = None, **files: Any) -> Build:
        made = version if number == 1 else cast.make_version(number=number, now=now)
        return cast.shipped(made, artifacts.write(store.place(made), model, **files), now)

    return make


def table(count: int = 400, *, unlabelled: int = 0) -> pd.DataFrame:
    """It is a holdout: both columns, and the label of all but the first rows."""
    values, late = artifacts.rows(seed=11, count=count)
    frame = pd.DataFrame(values, columns=list(artifacts.COLUMNS))
    frame["late"] = pd.array(late, dtype="Int64")
    if unlabelled:
        frame.loc[: unlabelled - 1, "late"] = None
    return frame.assign(carrier=np.array(["AA", "DL"])[np.arange(count) % 2])


@dataclasses.dataclass
class Judge:
    """It registers holdouts and runs gates over builds, in this process."""

    version: Version
    environment: Environment
    now: datetime

    def holdout(self, frame: pd.DataFrame, name: str = "h", label: str = "late") -> Dataset:
        assert self.version.registered_by is not None
        return register_dataset(
            model=self.version.model,
            name=name,
            role=DatasetRole.HOLDOUT,
            file=BytesIO(frame.to_parquet(index=False)),
            label_column=label,
            time_column="",
            actor=self.version.registered_by,
            now=self.now,
        )

    def queue(
        self,
        build: Build,
        *gates: dict[str, Any],
        stable: Build | None = None,
        positive_class: str | None = None,
        holdout_name: str | None = "h",
    ) -> ValidationRun:
        return services.start(
            build=build,
            environment=self.environment,
            policy=None,
            gates=list(gates),
            holdout_name=holdout_name,
            positive_class=positive_class,
            compared_with=stable,
            actor=None,
            now=self.now,
        )

    def run(self, build: Build, *gates: dict[str, Any], **options: Any) -> ValidationRun:
        queued = self.queue(build, *gates, **options)
        assert queued.job is not None
        jobs.run(queued.job.pk)
        queued.refresh_from_db()
        return queued


@pytest.fixture
def judge(version: Version, staging: Environment, now: datetime) -> Judge:
    return Judge(version, staging, now)


@pytest.fixture
def predictions_folder() -> Path:
    from django.conf import settings

    folder: Path = settings.STACK.var / "predictions"
    return folder
