"""Versions that are no MLflow models: built, proved and asked like all others."""

from __future__ import annotations

import importlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from apps.builds.lifecycle import BuildStatus
from apps.builds.models import Build
from apps.builds.steps import locking
from apps.core import sandbox
from apps.registry.models import Version
from model_server import card
from tests.builds import artifacts
from tests.builds.cast import Store, build
from tests.model_server import runtimes
from tests.model_server.running import until

pytestmark = pytest.mark.django_db(transaction=True)


def exported() -> bytes:
    """It is a regression in ONNX: 1 * a + 2 * b."""
    to_onnx = importlib.import_module("skl2onnx").to_onnx
    table = np.eye(2)
    fitted = LinearRegression(fit_intercept=False).fit(table, table @ np.array([1.0, 2.0]))
    content: bytes = to_onnx(fitted, table.astype(np.float32), target_opset=15).SerializeToString()
    return content


def package_names(made: Build) -> set[str]:
    return {package["name"] for package in made.packages}


def test_an_onnx_file_becomes_a_bundle_that_answers(
    version: Version, store: Store, now: datetime
) -> None:
    columns = [{"name": "a", "type": "double"}, {"name": "b", "type": "double"}]
    described = {
        "runtime": "onnx",
        "file": "model.onnx",
        "signature": {"inputs": columns},
        "input_example": {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 1], [0, 2]]}},
    }
    place = runtimes.write_card(store.place(version), described, model_onnx=exported())
    # No Python of the author's: what this names is not installed.
    (place / "requirements.txt").write_text("-r /etc/passwd\nscikit-learn\n")

    made = build(version, now)

    assert (made.status, made.reason) == (BuildStatus.SUCCEEDED, "")
    assert (made.flavors, made.runtime) == (["onnx"], "onnx")
    assert (made.requirements, made.python_wanted) == ("", "")
    assert "onnxruntime" in package_names(made)
    assert not {"scikit-learn", "mlflow"} & package_names(made)
    assert [column["name"] for column in made.signature["inputs"]] == ["a", "b"]
    assert made.probe["loader"] == "onnx-file"
    predictions = made.probe["example"]["predictions"]
    assert [round(row[0], 4) for row in predictions] == [3.0, 4.0]
    assert made.probe["confined_by"] == sandbox.confinement()
    assert set(made.durations) == {"fetch", "lock", "install", "seal", "probe"}
    assert made.limited(sandbox.Limits()) == sandbox.Limits()


@runtimes.needs_node
def test_a_command_becomes_a_bundle_that_answers(
    version: Version, store: Store, now: datetime
) -> None:
    runtimes.node_model(store.place(version))

    made = build(version, now)

    assert (made.status, made.reason) == (BuildStatus.SUCCEEDED, "")
    assert (made.flavors, made.runtime) == (["command"], "command")
    assert "onnxruntime" not in package_names(made)
    assert made.signature == {
        "inputs": runtimes.SIGNATURE["inputs"],
        "outputs": runtimes.SIGNATURE["outputs"],
    }
    assert made.probe["example"]["predictions"] == [3100.0, 600.5]
    limits = made.limited(sandbox.Limits(memory_bytes=1 << 30))
    assert (limits.memory_bytes, limits.data_bytes) == (None, 1 << 30)


@runtimes.needs_node
def test_a_program_among_the_artifacts_is_made_executable(
    version: Version, store: Store, now: datetime
) -> None:
    script = "#!/usr/bin/env node\n" + runtimes.SERVER_JS
    place = runtimes.node_model(store.place(version), script, command=["./server.js"])
    assert (place / "server.js").stat().st_mode & 0o111 == 0

    made = build(version, now)

    assert (made.status, made.reason) == (BuildStatus.SUCCEEDED, "")
    program = Path(made.bundle_path) / "model" / "server.js"
    assert program.stat().st_mode & 0o777 == 0o555


@runtimes.needs_node
@pytest.mark.skipif(not sandbox.confinement(), reason="the kernel has no Landlock")
def test_a_command_finds_no_file_and_no_variable_of_the_panel(
    version: Version, store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the panel")
    secret = Path(store.folder).parent / "secret"
    secret.write_text("of the panel")
    script = (
        "try { require('fs').readFileSync(process.argv[2]); } catch (error)"
        " { console.log(error.code, Object.keys(process.env).sort().join()); }"
    )
    runtimes.node_model(store.place(version), script, command=["node", "server.js", str(secret)])

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "load")
    said = failed.reason.partition("its last words were: EACCES ")[2].split(",")
    assert set(said) - {"USER"} == {
        "HOME", "LANG", "MLFLOW_DISABLE_TELEMETRY", "PATH", "PORTAL_MODEL_NAME",
        "PORTAL_PROCESS_OF", "PORTAL_SOCKET", "TMPDIR",
    }  # fmt: skip


@runtimes.needs_node
def test_nothing_that_a_command_started_outlives_a_build_that_was_given_up(
    version: Version, store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.builds.steps.probing.TIMEOUT_SECONDS", 3.0)
    script = "console.log(process.pid); setInterval(() => {}, 1000);"
    # In a session of its own: no signal to a group of ours reaches it.
    command = ["sh", "-c", "setsid node server.js; true"]
    runtimes.node_model(store.place(version), script, command=command)

    failed = build(version, now)

    assert failed.reason.startswith("The model does not load: Stopped: It took longer than 3 s")
    pid = int(failed.probe["output"].split()[0])
    until("the program had ended", lambda: not runtimes.alive(pid))


@runtimes.needs_node
def test_a_command_that_eats_memory_ends_at_its_limit(
    version: Version, store: Store, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.builds.steps.probing.MEMORY_BYTES", 1 << 30)
    script = "const kept = []; for (;;) kept.push(Buffer.alloc(64 << 20, 1));"
    runtimes.node_model(store.place(version), script)

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "load")
    assert "Array buffer allocation failed" in failed.reason


def test_a_server_elsewhere_is_asked_where_it_is_allowed(
    version: Version, store: Store, now: datetime, settings: Any
) -> None:
    with runtimes.elsewhere() as server:
        tensor = {"name": "x", "datatype": "FP64", "shape": [2], "data": [1.5, 2]}
        described = {
            "runtime": "url",
            "url": f"http://{server.place}",
            "model": "ours",
            "input_example": {"inputs": [tensor]},
        }
        runtimes.write_card(store.place(version), described)
        refused = build(version, now)
        seen_before = list(server.seen)
        settings.REMOTE_SERVERS = [server.place]

        made = build(version, now)

    assert (refused.status, refused.failure) == (BuildStatus.FAILED, "artifact")
    assert refused.reason == (
        f"The server {server.place} is not among those that models may be served from; "
        "who runs the panel allows it with PORTAL_REMOTE_SERVERS=host:port,host:port"
    )
    assert seen_before == []
    assert (made.status, made.reason, made.runtime) == (BuildStatus.SUCCEEDED, "", "url")
    assert made.probe["example"]["predictions"] == [3.0, 4.0]
    assert made.process_environment()["PORTAL_REMOTE_SERVERS"] == server.place
    assert [path for path, _, _ in server.seen] == ["/v2/models/ours/infer"]


def test_a_wrong_card_fails_the_build_in_words(
    version: Version, store: Store, now: datetime
) -> None:
    runtimes.write_card(store.place(version), {"runtime": "command", "command": "node server.js"})

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "artifact")
    assert failed.reason == (
        "serving.yaml is wrong: 'command' must be a list of texts, as [node, server.js], "
        "got 'node server.js'"
    )


def test_artifacts_without_any_description_are_told_both_ways(
    version: Version, store: Store, now: datetime
) -> None:
    store.place(version).mkdir(parents=True)
    (store.place(version) / "model.onnx").write_bytes(b"x")

    failed = build(version, now)

    assert (failed.status, failed.failure) == (BuildStatus.FAILED, "artifact")
    assert failed.reason == (
        "The artifacts of flight-delay v1 hold neither an MLmodel file, which MLflow's log_model "
        "writes, nor a serving.yaml, which names an ONNX file, a command or an address"
    )


def test_a_card_beside_an_mlmodel_changes_nothing(
    version: Version, store: Store, now: datetime
) -> None:
    place = artifacts.write(store.place(version))
    (place / "serving.yaml").write_text(json.dumps({"runtime": "command", "command": ["node"]}))

    made = build(version, now)

    assert (made.status, made.runtime) == (BuildStatus.SUCCEEDED, "")
    assert made.flavors == ["python_function", "sklearn"]


def test_a_runtimes_requirements_are_the_servers_own(tmp_path: Path) -> None:
    runtimes.write_card(tmp_path, {"runtime": "onnx", "file": "m.onnx"}, m_onnx=b"x")
    (tmp_path / "requirements.txt").write_text("-e .")

    assert card.is_card(tmp_path)
    assert locking.requirements(tmp_path) == ""
