"""The real gateway, the real supervisor and a real bundle for the serving tests."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.serving import backends
from apps.serving.backends import unix
from apps.serving.backends.local import LocalBackend
from apps.serving.backends.programs import NAME
from apps.serving.backends.supervisord import Supervisor
from apps.serving.models import Endpoint, Environment, Revision
from apps.serving.services import sights, wishes
from tests.model_server.running import make_bundle
from tests.serving.cast import NOW, make_build, make_model, until


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest model that is really served: it answers every row with 1.0."""
    import mlflow.sklearn
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from sklearn.dummy import DummyRegressor

    folder = tmp_path_factory.mktemp("serving")
    model = DummyRegressor(strategy="constant", constant=1.0).fit(np.zeros((2, 1)), [1.0, 1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.sklearn.save_model(
            model,
            folder / "model",
            signature=ModelSignature(Schema([ColSpec("double", "distance")])),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    return make_bundle(folder, folder / "model")


@pytest.fixture(scope="session")
def gateway(servers: None) -> None:
    """Envoy, started by the product's own supervisor."""
    Supervisor(settings.STACK.supervisor_socket).start("gateway")
    until("the gateway was live", is_live)


def is_live() -> bool:
    answer = unix.get(settings.STACK.gateway_admin, "/ready", timeout_seconds=2)
    return answer is not None and answer[1].strip() == b"LIVE"


@pytest.fixture
def backend(gateway: None, db: None) -> Iterator[LocalBackend]:
    """The backend of this run's directory; afterwards nothing of the test runs or is routed."""
    backend = backends.load("local")
    assert isinstance(backend, LocalBackend)
    wishes.ensure_environments()
    yield backend

    def is_empty() -> bool:
        backend.converge(list)
        running = Supervisor(settings.STACK.supervisor_socket).processes()
        return not any(NAME.fullmatch(name) for name in running)

    until("every replica had ended", is_empty)
    shutil.rmtree(settings.STACK.var / "replicas")


@pytest.fixture
def production(backend: LocalBackend) -> Environment:
    return Environment.objects.get(name="production")


@pytest.fixture
def endpoint(production: Environment) -> Endpoint:
    return wishes.ensure_endpoint(model=make_model(), environment=production, now=NOW)


class Stage:
    """It deploys bundles on one endpoint and waits for what the backend sees."""

    def __init__(self, endpoint: Endpoint, bundle: Path) -> None:
        self.endpoint = endpoint
        self.bundle = bundle

    def deploy(self, number: int, *, replicas: int = 1, bundle: Path | None = None) -> Revision:
        build = make_build(
            self.endpoint.model,
            number=number,
            bundle=bundle or self.bundle,
            environment=Path(sys.prefix),
        )
        return wishes.deploy(endpoint=self.endpoint, build=build, replicas=replicas, now=NOW)

    def converge(self) -> sights.Sight:
        sights.converge(self.endpoint, NOW)
        return sights.look(self.endpoint)

    def wait_ready(self, *revisions: Revision) -> None:
        wanted = {revision.pk: revision.replicas for revision in revisions}

        def ready() -> bool:
            return wanted.items() <= self.converge().ready.items()

        until("the replicas were ready", ready)

    def split(self, weights: dict[Revision, int]) -> sights.Sight:
        """It asks for a split and waits until the gateway has it in force."""
        self.ask_split(weights)
        wanted = {revision.pk: weight for revision, weight in weights.items() if weight}

        def in_force() -> sights.Sight | None:
            sight = self.converge()
            return sight if sight.weights == wanted else None

        return until(f"the split was {wanted}", in_force)

    def ask_split(self, weights: dict[Revision, int]) -> sights.Sight:
        """It asks for a split that may have to wait, and gives what is in force instead."""
        wishes.set_traffic(
            endpoint=self.endpoint,
            weights={revision.pk: weight for revision, weight in weights.items()},
            actor=None,
            reason="test",
            now=NOW,
        )
        return self.converge()


@pytest.fixture
def stage(endpoint: Endpoint, bundle: Path) -> Stage:
    return Stage(endpoint, bundle)
