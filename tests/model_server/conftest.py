"""It saves each model once and keeps one server a model for the tests that only ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.model_server import models
from tests.model_server.running import Running, make_bundle, serving


def _bundle(factory: pytest.TempPathFactory, name: str, save: Callable[[Path], None]) -> Path:
    folder = factory.mktemp(name)
    save(folder / "model")
    return make_bundle(folder, folder / "model")


@pytest.fixture(scope="session")
def numeric_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "num", models.save_numeric)


@pytest.fixture(scope="session")
def mixed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "mix", models.save_mixed)


@pytest.fixture(scope="session")
def reordered_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "reo", models.save_reordered)


@pytest.fixture(scope="session")
def unruly_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "unr", models.save_unruly)


@pytest.fixture(scope="session")
def unsigned_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "uns", models.save_unsigned)


@pytest.fixture(scope="session")
def pyfunc_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _bundle(tmp_path_factory, "pyf", models.save_pyfunc)


@pytest.fixture(scope="session")
def numeric(numeric_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(numeric_bundle, tmp_path_factory.mktemp("n")) as server:
        yield server


@pytest.fixture(scope="session")
def mixed(mixed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(mixed_bundle, tmp_path_factory.mktemp("m")) as server:
        yield server


@pytest.fixture(scope="session")
def unruly(unruly_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(unruly_bundle, tmp_path_factory.mktemp("u")) as server:
        yield server
