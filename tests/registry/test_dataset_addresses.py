"""Data sets whose rows lie at an address: which addresses are taken, and what arrives."""

import json
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from django.test import Client

from apps.accounts.lifecycle import Role
from apps.accounts.models import User
from apps.registry import selectors, sources
from apps.registry.lifecycle import DatasetRole
from apps.registry.models import Dataset, Model, RunInput, Version
from apps.registry.services import artifacts, datasets
from apps.registry.tables import DatasetRefused
from tests.factories.accounts import member
from tests.factories.registry import ModelFactory, RunInputFactory, TeamFactory, VersionFactory
from tests.people import bearer
from tests.registry.conftest import mlflow as mlflow
from tests.registry.tiny_mlflow import TinyMlflow

pytestmark = pytest.mark.django_db
RUN, FOREIGN = "a" * 32, "b" * 32
CSV = b"distance,late\n1400,1\n2475,0\n"


@pytest.fixture
def model() -> Model:
    model: Model = ModelFactory.create(name="flight-delay")
    VersionFactory.create(model=model, number=3, run_id=RUN, source="models:/m-3")
    elsewhere = ModelFactory.create(name="fraud", team=TeamFactory.create(name="F", slug="f"))
    VersionFactory.create(model=elsewhere, number=1, run_id=FOREIGN, source="models:/m-4")
    return model


@pytest.fixture
def ada(model: Model) -> User:
    return member(model.team, Role.DATA_SCIENTIST, username="ada")


class Host(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        moved = self.path.startswith("/moved")
        self.send_response(302 if moved else 404 if self.path == "/none.csv" else 200)
        if moved:
            self.send_header("Location", "/rows.csv")
        self.send_header("Content-Length", "0" if moved else str(len(CSV)))
        self.end_headers()
        if not moved:
            self.wfile.write(CSV)

    def log_message(self, *_: Any) -> None:
        """Nothing: `asked` holds it."""


@pytest.fixture
def host(settings: Any) -> Iterator[Any]:
    """A server that data sets may be fetched from."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    server.asked = []  # type: ignore[attr-defined]
    settings.DATASET_HOSTS = [f"127.0.0.1:{server.server_port}"]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def register(model: Model, uri: str, now: datetime) -> Dataset:
    return datasets.register_dataset_from(
        model=model, uri=uri, actor=None, now=now, name="reference",
        role=DatasetRole.REFERENCE, label_column="late", time_column="",
    )  # fmt: skip


def refusal(model: Model, uri: str, now: datetime) -> str:
    with pytest.raises(DatasetRefused) as refused:
        register(model, uri, now)
    assert not Dataset.objects.exists()
    return refused.value.message


def test_a_host_that_is_allowed(model: Model, ada: User, host: Any, client: Client) -> None:
    uri = f"http://127.0.0.1:{host.server_port}/rows.csv?day=1"
    answer = client.post(
        "/api/v1/models/flight-delay/datasets",
        {"name": "r", "role": "reference", "label_column": "late", "uri": uri},
        content_type="application/json",
        headers=bearer(ada),
    )

    assert answer.status_code == 201, answer.json()
    assert (answer.json()["rows"], answer.json()["label_column"]) == (2, "late")
    [(path, headers)] = host.asked
    assert path == "/rows.csv?day=1"
    assert "Authorization" not in headers


def test_hosts_that_nobody_allowed(model: Model, host: Any, now: datetime) -> None:
    port = host.server_port
    others = [
        f"http://localhost:{port}/rows.csv", f"http://127.0.0.1:{port + 1}/rows.csv",
        "http://169.254.169.254/latest/meta-data", "https://127.0.0.1/rows.csv",
    ]  # fmt: skip
    for uri in others:
        assert "is not among those that data sets may be fetched from" in refusal(model, uri, now)
    for uri in ("file:///etc/passwd", "/etc/passwd", "ftp://127.0.0.1/rows.csv", "http://[", "x"):
        assert refusal(model, uri, now) == f"The address {uri!r} is not an http or https one"
    secret = f"http://ada:secret@127.0.0.1:{port}/rows.csv"
    assert "secret" not in refusal(model, secret, now)
    assert host.asked == []


def test_what_does_not_arrive(model: Model, host: Any, now: datetime, settings: Any) -> None:
    base = f"http://127.0.0.1:{host.server_port}"

    assert refusal(model, f"{base}/moved.csv", now) == (
        f"{base}/moved.csv answers 302 elsewhere, which is not followed"
    )
    assert refusal(model, f"{base}/none.csv", now) == f"{base}/none.csv answers 404"
    assert [path for path, _ in host.asked] == ["/moved.csv", "/none.csv"]
    settings.DATASET_HOSTS = ["127.0.0.1:1"]
    assert "cannot be fetched" in refusal(model, "http://127.0.0.1:1/rows.csv", now)


def test_a_file_that_is_too_large(
    model: Model, host: Any, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "MOST_DATASET_BYTES", 10)

    assert refusal(model, f"http://127.0.0.1:{host.server_port}/rows.csv", now) == (
        "The file is larger than 2 GiB; register a sample of it"
    )


@pytest.mark.parametrize(
    "uri",
    [
        f"runs:/{FOREIGN}/train.parquet",
        "runs:/nobody/train.parquet",
        f"runs:/{RUN}.csv",
        "models:/fraud/1/train.parquet",
        "models:/m-4/train.csv",
        "models:/flight-delay/production/train.csv",
        f"mlflow-artifacts:/1/{FOREIGN}/artifacts/train.parquet",
        f"mlflow-artifacts:/1/{FOREIGN}/artifacts/{RUN}/train.parquet",
    ],
)
def test_files_of_other_teams(model: Model, now: datetime, mlflow: TinyMlflow, uri: str) -> None:
    for run in (RUN, FOREIGN):
        root = f"mlflow-artifacts:/1/{run}/artifacts"
        mlflow.runs[run] = {"info": {"artifact_uri": root}}

    assert refusal(model, uri, now) == (
        f"{uri!r} is not a file of a run or a version of a model of the team {model.team}"
    )


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        (f"runs:/{RUN}/../{FOREIGN}/train.csv", "names no file"),
        (f"runs:/{RUN}/%2e%2e/train.csv", "names no file"),
        (f"runs:/{RUN}/model.pkl", "names no Parquet or CSV file"),
    ],
)
def test_addresses_that_are_none(model: Model, now: datetime, uri: str, words: str) -> None:
    assert refusal(model, uri, now) == f"The address {uri!r} {words}"


def test_a_file_of_an_own_run_by_mlflows_own_command(
    model: Model, now: datetime, mlflow: TinyMlflow, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_bytes(CSV)
    mlflow.runs[RUN] = {
        "info": {
            "run_id": RUN, "run_uuid": RUN, "experiment_id": "1", "status": "FINISHED",
            "start_time": 1, "lifecycle_stage": "active", "artifact_uri": tmp_path.as_uri(),
        },
        "data": {},
    }  # fmt: skip
    version = Version.objects.get(run_id=RUN)
    given: RunInput = RunInputFactory.create(
        version=version, name="train", source=json.dumps({"uri": f"runs:/{RUN}/train.csv"})
    )

    dataset = datasets.register_input(given=given, now=now, tick=lambda: None)

    assert (dataset.model, dataset.role, dataset.rows) == (model, "training", 2)
    assert (dataset.name, dataset.registered_by) == ("train", None)
    assert "cannot be fetched" in refusal_of(given, f"runs:/{RUN}/gone.csv", now)


def refusal_of(given: RunInput, uri: str, now: datetime) -> str:
    given.source = json.dumps({"uri": uri})
    with pytest.raises(DatasetRefused) as refused:
        datasets.register_input(given=given, now=now, tick=lambda: None)
    return refused.value.message


@pytest.mark.parametrize(
    ("source", "uri"),
    [
        ('{"uri": "runs:/1/train.parquet"}', "runs:/1/train.parquet"),
        ("models:/m/1/train.csv", "models:/m/1/train.csv"),
        (
            '{"url": "http://panel:8000/mlflow/api/2.0/mlflow-artifacts/artifacts/1/2/a.csv"}',
            "mlflow-artifacts:/1/2/a.csv",
        ),
        ('{"url": "http://other/api/2.0/mlflow-artifacts/artifacts/1/2/a.csv"}', ""),
        ('{"url": "https://example.com/train.parquet"}', ""),
        ('{"uri": "runs:/1/model.pkl"}', ""),
        ('{"uri": "/tmp/train.parquet"}', ""),
        ('{"tags": {}}', ""),
        ("[1]", ""),
        ("", ""),
    ],
)
def test_what_a_run_says_of_its_rows(settings: Any, source: str, uri: str) -> None:
    settings.PUBLIC_URL = "http://panel:8000"

    assert sources.of_input(source) == uri
    if uri:  # the sweep's own filter knows it too
        given = RunInputFactory.create(source=source)
        found = RunInput.objects.filter(source__regex=selectors.LOGGED_IN_MLFLOW)
        assert list(found) == [given]


def test_what_autologging_wrote_of_importance(model: Model, mlflow: TinyMlflow) -> None:
    version = Version.objects.get(run_id=RUN)
    mlflow.artifacts[RUN] = {
        "feature_importance_weight.json": {"distance": 7},
        "feature_importance_gain.json": {"distance": 3.5, "hour": 1.5},
        "feature_importance_gain.png": {},
    }

    assert artifacts.run_importance(version) == {"distance": 3.5, "hour": 1.5}
    mlflow.artifacts.clear()
    assert artifacts.run_importance(version) == {}
    assert artifacts.run_importance(VersionFactory.create(run_id="")) == {}
