from datetime import datetime
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.serving.models import Endpoint, Revision
from tests.monitoring import making
from tests.people import Cast


@pytest.fixture
def var(settings: Settings, tmp_path: Path) -> Path:
    settings.STACK = making.stack_at(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def endpoint(cast: Cast, now: datetime, var: Path) -> Endpoint:
    return making.endpoint(cast.team, now)


@pytest.fixture
def revision(endpoint: Endpoint) -> Revision:
    return endpoint.revisions.get(number=1)
