from datetime import datetime
from pathlib import Path

import pytest
from pytest_django import Settings

from apps.accounts.models import Team
from apps.serving.models import Endpoint
from tests.monitoring import making


@pytest.fixture
def var(settings: Settings, tmp_path: Path) -> Path:
    settings.STACK = making.stack_at(tmp_path / "var")
    return tmp_path / "var"


@pytest.fixture
def endpoint(db: None, now: datetime, var: Path) -> Endpoint:
    team, _ = Team.objects.get_or_create(slug="flights", defaults={"name": "Flights"})
    return making.endpoint(team, now)
