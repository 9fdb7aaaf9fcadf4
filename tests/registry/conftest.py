from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.registry.tiny_mlflow import TinyMlflow, running

Woken = list[tuple[Any, ...]]


@pytest.fixture
def mlflow(settings: Any) -> Iterator[TinyMlflow]:
    """An MLflow server that answers, as the panel's settings name it."""
    mlflow = TinyMlflow()
    with running(mlflow):
        settings.MLFLOW_URL = mlflow.url
        settings.MLFLOW_EMBEDDED = False
        settings.MLFLOW_TOKEN = "the panel's own"
        yield mlflow


@pytest.fixture
def woken(monkeypatch: pytest.MonkeyPatch) -> Woken:
    """The tasks that were woken, instead of messages to the broker."""
    sent: Woken = []
    monkeypatch.setattr(
        "apps.core.dispatch._send", lambda task, args, *when: sent.append((task, *args))
    )
    # Not to wait for a commit lets the tests run in a transaction, which is undone in no time.
    at_once = SimpleNamespace(on_commit=lambda told: told())
    monkeypatch.setattr("apps.core.dispatch.transaction", at_once)
    return sent
