"""The cast of the builds tests: a version, who registered it, and where its files come from."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.registry.models import Version
from tests.builds.cast import Store, make_version


@pytest.fixture
def now() -> datetime:
    return datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """It stands where MLflow stands: a directory of files by version."""
    store = Store(tmp_path / "store")
    monkeypatch.setattr("apps.registry.services.artifacts.download_artifacts", store.download)
    # Where a developer's packages are kept already, the tests need not fetch them again.
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    monkeypatch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR", str(home / "uv")))
    return store


@pytest.fixture
def version(transactional_db: None, now: datetime) -> Version:
    return make_version(number=1, now=now)


@pytest.fixture
def owner(version: Version) -> User:
    """A data scientist of the team that owns the model, who registered the version."""
    assert version.registered_by is not None
    assert version.registered_by.memberships.get().role == Role.DATA_SCIENTIST
    return version.registered_by
