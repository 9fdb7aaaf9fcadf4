"""The worker that looks back is killed again and again, and counts each label once."""

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from django.db import connection

from apps.monitoring.models import Slice
from apps.quality.models import Lookback, Marks
from apps.quality.services import feedback, joining
from apps.serving.models import Revision
from mlops_portal.stack.config import ROOT
from tests.people import Cast
from tests.quality import making
from tests.quality.making import SCORE, START

ROWS = 200
WORKER = """
import django
django.setup()
from datetime import UTC, datetime
from apps.quality.services import joining, slices
slices.LABELS_AT_ONCE = 4
while True:
    joining.sweep(now=datetime(2030, 1, 7, 12, tzinfo=UTC))
"""


def start(var: Path) -> subprocess.Popen[bytes]:
    held = connection.settings_dict
    login = f"{held['USER']}:{held['PASSWORD']}"
    env = os.environ | {
        "DJANGO_SETTINGS_MODULE": "mlops_portal.settings",
        "PORTAL_VAR": str(var),
        "DATABASE_URL": f"postgresql://{login}@{held['HOST']}:{held['PORT']}/{held['NAME']}",
        "REDIS_URL": "redis://127.0.0.1:1/0",  # nothing answers there
    }
    with (var / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER], cwd=ROOT, env=env, stdout=log, stderr=log
        )


def sums_of(one: Slice) -> list[tuple[object, ...]]:
    rows = Marks.objects.filter(slice=one).order_by("width_seconds", "at")
    return [
        (*row[:-1], bytes(row[-1]))
        for row in rows.values_list("width_seconds", "at", "labels", "sums")
    ]


def until_it_is_at(row: int, late: Slice, var: Path) -> None:
    """It waits until the labels from a row on are counted."""
    deadline = time.monotonic() + 60
    while not Lookback.objects.filter(slice=late, at__lte=START + timedelta(seconds=row)).exists():
        log = (var / "worker.log").read_text()
        assert time.monotonic() < deadline, f"row {row} was not reached: {log[-2000:]}"
        time.sleep(0.005)


@pytest.mark.django_db(transaction=True)
def test_killed_again_and_again_it_counts_each_label_once(
    cast: Cast, revision: Revision, var: Path
) -> None:
    making.baseline(revision.version, SCORE)
    condition = [{"column": "in.distance", "op": "ge", "value": 50}]
    early = Slice.objects.create(
        endpoint=revision.endpoint, name="early", condition=condition, created_at=START
    )
    now = START + timedelta(hours=1)
    columns = {"out.0": np.linspace(0.0, 1.0, ROWS), "in.distance": np.arange(float(ROWS))}
    making.row_file(revision, [f"r{i}" for i in range(ROWS)], columns)
    batch = [{"request_id": f"r{i}", "label": i % 2} for i in range(ROWS)]
    feedback.send(sender=cast.owner, batch=batch, now=now)
    joining.sweep(now=now)
    late = Slice.objects.create(
        endpoint=revision.endpoint, name="late", condition=condition, created_at=now
    )
    process = start(var)
    try:
        for row in (150, 80):
            until_it_is_at(row, late, var)
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
            assert Lookback.objects.filter(slice=late, done_at=None).exists()
            process = start(var)
        until_it_is_at(0, late, var)
    finally:
        process.kill()
        process.wait(10)
    joining.sweep(now=now)

    assert not Lookback.objects.filter(done_at=None).exists()
    # A row's places are of several types, which a tuple of any length cannot say.
    assert sum(row[2] for row in sums_of(late) if row[0] == 86_400) == 150  # type: ignore[misc]
    assert sums_of(late) == sums_of(early)
