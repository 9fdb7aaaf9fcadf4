"""Quality by a column: which files of rows are looked into."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from apps.baselines.layout import Column, Kind, Role
from apps.quality import columns
from apps.quality.services import feedback, joining
from apps.serving.models import Endpoint, Revision
from tests.people import Cast
from tests.quality import making
from tests.quality.making import SCORE, START

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def files(cast: Cast, revision: Revision, now: datetime) -> list[str]:
    """Four files of a minute, three rows each; nobody sent a label yet."""
    kind = Column("in.kind", Role.INPUT, Kind.CATEGORICAL, values=("near",))
    making.baseline(revision.version, SCORE, kind)
    ids = [f"r{i}" for i in range(12)]
    for place in range(4):
        mine = ids[3 * place : 3 * place + 3]
        values: dict[str, Any] = {"out.0": [0.2, 0.4, 0.9], "in.kind": [f"k{place}"] * 3}
        making.row_file(revision, mine, values, at=START + place * MINUTE)
    return ids


def label(cast: Cast, ids: list[str], now: datetime) -> None:
    batch = [{"request_id": one, "label": 1} for one in ids]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)


def groups(endpoint: Endpoint, now: datetime) -> tuple[dict[str, int], int, bool]:
    found = columns.by_column(endpoint, "in.kind", START, now)
    return {one.label: one.labels for one in found.groups}, found.labels, found.is_cut


def test_only_files_that_hold_labels_are_counted(
    cast: Cast, endpoint: Endpoint, files: list[str], now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The newest files were looked into, whatever they held: the labels of a day and a half."""
    label(cast, files[:3], now)
    monkeypatch.setattr(columns, "MOST_FILES", 1)

    assert groups(endpoint, now) == ({"k0": 3}, 3, False)


def test_what_is_left_out_is_told(
    cast: Cast, endpoint: Endpoint, files: list[str], now: datetime, client: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    label(cast, files, now)
    assert groups(endpoint, now) == ({"k0": 3, "k1": 3, "k2": 3, "k3": 3}, 12, False)
    monkeypatch.setattr(columns, "FILES_AT_ONCE", 1)
    monkeypatch.setattr(columns, "MOST_FILES", 2)
    assert groups(endpoint, now) == ({"k2": 3, "k3": 3}, 6, True)
    monkeypatch.setattr(columns, "MOST_ROWS", 5)
    assert groups(endpoint, now) == ({"k3": 3}, 3, True)


def test_a_request_that_was_sent_again_counts_once(
    cast: Cast, endpoint: Endpoint, revision: Revision, files: list[str], now: datetime
) -> None:
    values: dict[str, Any] = {"out.0": [0.8], "in.kind": ["again"]}
    making.row_file(revision, files[:1], values, at=START + 10 * MINUTE)
    label(cast, files[:3], now)

    assert groups(endpoint, now) == ({"again": 1, "k0": 2}, 3, False)
