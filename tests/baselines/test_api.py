"""What people and programs see of a baseline, and who may freeze one anew."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.baselines import services
from apps.baselines.models import Baseline
from apps.registry.models import Version
from tests.factories.accounts import member
from tests.factories.baselines import BaselineFactory
from tests.factories.builds import BuildFactory
from tests.factories.registry import NOON, DatasetFactory
from tests.people import bearer

pytestmark = pytest.mark.django_db
URL = "/api/v1/models/flight-delay/versions/3/baseline"


@pytest.fixture
def version() -> Version:
    build = BuildFactory.create(
        version__model__name="flight-delay", version__number=3, version__digest="sha256:1"
    )
    version: Version = build.version
    return version


@pytest.fixture
def ada(version: Version) -> User:
    return member(version.model.team, Role.DATA_SCIENTIST, username="ada")


def frozen(version: Version, now: datetime, rows: int = 1000) -> Baseline:
    """One from as many rows of traffic."""
    table = pa.table(
        {
            "at": [NOON + timedelta(seconds=n) for n in range(rows)],
            "in.distance": np.where(np.arange(rows) < 100, np.nan, 7.0),
            **{f"in.c{n:02}": np.arange(rows) * 1.0 for n in range(15)},
            "in.carrier": ["AA" if n % 4 else None for n in range(rows)],
            "out.0": np.linspace(10, 20, rows),
        }
    )
    found = services.freeze_from_rows(version=version, table=table, now=now)
    assert found is not None
    return found


def get(client: Client, user: User, status: int = 200) -> Any:
    answer = client.get(URL, headers=bearer(user))
    assert answer.status_code == status, answer.content
    return answer.json()


def test_a_frozen_one_with_its_columns(
    client: Client, version: Version, ada: User, now: datetime
) -> None:
    frozen(version, now)

    told = get(client, ada)

    assert (told["model"], told["version"], told["number"]) == ("flight-delay", 3, 1)
    assert (told["state"], told["origin"], told["dataset"]) == ("ready", "traffic", None)
    assert (told["rows"], told["in_force"]) == (1000, 1)
    assert told["time_from"] == "2030-01-07T12:00:00Z"
    columns = {column["name"]: column for column in told["columns"]}
    assert len(columns) == 18
    assert columns["in.carrier"] == {
        "name": "in.carrier",
        "role": "input",
        "kind": "categorical",
        "bins": {"AA": 750, "other": 0, "unseen": 0},
        "counters": {
            "missing": 250, "absent": 0, "wrong": 0, "non_finite": 0, "below": 0, "above": 0,
        },
        "natural": columns["in.carrier"]["natural"],
        "importance": None,
    }  # fmt: skip
    assert set(columns["in.carrier"]["natural"]) == {"js", "missing", "unseen"}
    assert told["columns"][-1]["name"] == "out.0"


def test_none_yet(client: Client, version: Version, ada: User) -> None:
    assert get(client, ada, 404)["code"] == "not_found"


def test_freezing_anew(client: Client, version: Version, ada: User, now: datetime) -> None:
    frozen(version, now)
    refused = client.post(URL, headers=bearer(ada))
    dataset = DatasetFactory.create(model=version.model, role="reference", name="july")

    queued = client.post(URL, headers=bearer(ada))
    again = client.post(URL, headers=bearer(ada))

    assert (refused.status_code, refused.json()["code"]) == (409, "baseline_without_data")
    assert queued.status_code == 201
    assert (queued.json()["number"], queued.json()["state"]) == (2, "queued")
    assert (queued.json()["dataset"], queued.json()["fingerprint"]) == ("july", dataset.fingerprint)
    assert (again.status_code, again.json()["code"]) == (409, "baseline_unfinished")
    told = get(client, ada)
    assert (told["number"], told["in_force"], told["columns"]) == (2, 1, [])


@pytest.mark.parametrize(
    ("role", "status"),
    [("data_scientist", 201), ("operator", 201), ("admin", 201), ("approver", 403),
     ("viewer", 403)],
)  # fmt: skip
def test_who_may(client: Client, version: Version, role: str, status: int) -> None:
    DatasetFactory.create(model=version.model, role="reference")
    person = member(version.model.team, Role(role))

    answer = client.post(URL, headers=bearer(person))

    assert answer.status_code == status
    assert Baseline.objects.count() == (status == 201)


def page(client: Client, version: Version, user: User) -> str:
    client.force_login(user)
    return client.get(f"/versions/{version.pk}/baseline").content.decode()


def test_the_part_of_the_page(client: Client, version: Version, ada: User, now: datetime) -> None:
    frozen(version, now)

    shown = page(client, version, ada)

    assert "Baseline 1" in shown
    assert "its first requests" in shown
    assert "6 more columns" in shown
    assert "Give reference data" in shown
    assert "Freeze again" not in shown  # there is nothing to freeze it from


def test_where_there_is_nothing(client: Client, version: Version, ada: User) -> None:
    shown = page(client, version, ada)

    assert "Nothing to compare live data with" in shown
    assert "/api/v1/models/flight-delay/datasets" in shown
    assert "mlflow.log_input" in shown


def test_where_it_failed(client: Client, version: Version, ada: User) -> None:
    BaselineFactory.create(build=version.builds.get())
    DatasetFactory.create(model=version.model, role="reference")
    viewer = member(version.model.team, Role.VIEWER)

    shown = page(client, version, ada)

    assert "has lost its file; register it again" in shown
    assert "Freeze again" in shown
    assert "Freeze again" not in page(client, version, viewer)


def test_the_button(client: Client, version: Version, ada: User) -> None:
    DatasetFactory.create(model=version.model, role="reference")
    client.force_login(ada)

    answer = client.post(f"/versions/{version.pk}/baseline/freeze")

    assert (answer.status_code, answer.headers["Location"]) == (302, version.get_absolute_url())
    assert version.baselines.get().state == "queued"


def test_rows_of_training_are_told_as_too_good(
    client: Client, version: Version, ada: User, now: datetime
) -> None:
    """People were told to give what the model was trained on, and then alerted by it."""
    made = frozen(version, now)
    assert get(client, ada)["is_of_training"] is False
    words = "no quality alert is held against them"
    assert words not in page(client, version, ada)

    Baseline.objects.filter(pk=made.pk).update(origin="training", quality={"roc_auc": 1.0})
    assert get(client, ada)["is_of_training"] is True
    assert words in page(client, version, ada)
