"""Who calls /mlflow, and what stands where MLflow stands."""

from collections.abc import Iterator
from typing import Any

import pytest

from apps.accounts.lifecycle import Role
from apps.accounts.models import Team, User
from tests.factories.accounts import member
from tests.factories.registry import TeamFactory
from tests.web.upstream import Upstream, running


@pytest.fixture
def upstream(settings: Any) -> Iterator[Upstream]:
    with running() as upstream:
        settings.MLFLOW_URL = upstream.url
        settings.MLFLOW_TOKEN = "the panel's own"
        settings.MLFLOW_EMBEDDED = True
        yield upstream


@pytest.fixture
def team(db: None) -> Team:
    return TeamFactory.create()


@pytest.fixture
def ada(team: Team) -> User:
    return member(team, Role.DATA_SCIENTIST, username="ada")


@pytest.fixture
def vera(team: Team) -> User:
    return member(team, Role.VIEWER, username="vera")
