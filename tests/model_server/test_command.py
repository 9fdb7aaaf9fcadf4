"""A model in Node behind the real server: answers, crashes, and starts that come to nothing."""

from __future__ import annotations

import json
import os
import signal
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.model_server.running import PATIENCE_SECONDS, Running, make_bundle, serving, until
from tests.model_server.runtimes import (
    EXAMPLE,
    SERVER_JS,
    alive,
    needs_node,
    node_model,
    write_card,
)
from tests.model_server.test_commands import predict, probe

pytestmark = needs_node
V2 = "/v2/models/flight-delay/infer"
V1 = "/v1/models/flight-delay:predict"
ROWS = [[1400.0, 17], [200.5, 6]]
LATE = [3100.0, 800.5]


def tensors(hours: list[int] | None = None, **more: Any) -> dict[str, Any]:
    hours = hours or [17, 6]
    distances = [row[0] for row in ROWS[: len(hours)]]
    inputs = [
        {"name": "distance", "datatype": "FP64", "shape": [len(hours)], "data": distances},
        {"name": "hour", "datatype": "INT64", "shape": [len(hours)], "data": hours},
    ]
    return {"inputs": inputs, **more}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("node")
    return make_bundle(folder, node_model(folder / "model"))


@pytest.fixture(scope="module")
def node(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(bundle, tmp_path_factory.mktemp("run")) as server:
        yield server


def running(bundle: Path, folder: Path, *options: str) -> Any:
    (folder / "tmp").mkdir(parents=True)
    return serving(bundle, folder, *options, TMPDIR=str(folder / "tmp"))


def child(server: Running) -> int:
    return int(server.post(V2, tensors()).json()["pid"])


def test_v2_passes_and_is_recorded_as_it_came(node: Running) -> None:
    answer = node.post(V2, tensors(), x_request_id="v2")

    assert answer.status_code == 200
    assert answer.json()["outputs"] == [
        {"name": "late", "datatype": "FP64", "shape": [2], "data": LATE}
    ]
    assert answer.json()["model_name"] == "flight-delay"
    assert answer.headers["x-model-version"] == "3"
    record = node.captured("v2")
    assert (record["request"], record["response"]) == (tensors(), answer.json())


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (V1, {"instances": ROWS}, {}),
        (V1, {"instances": [{"hour": r[1], "distance": r[0]} for r in ROWS]}, {}),
        ("/invocations", {"dataframe_split": {"columns": ["hour", "distance"],
                                              "data": [r[::-1] for r in ROWS]}}, {}),
        ("/invocations", b"hour,distance\n17,1400\n6,200.5\n", {"content_type": "text/csv"}),
    ],
)  # fmt: skip
def test_the_other_formats_are_translated(
    node: Running, path: str, body: Any, headers: dict[str, str]
) -> None:
    answer = node.post(path, body, **headers)

    assert (answer.status_code, answer.json()) == (200, {"predictions": LATE})


def test_binary_tensors_pass(node: Running) -> None:
    tail = struct.pack("<2d", 1.5, 2.0)
    tensor = {"name": "x", "datatype": "FP64", "shape": [2]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}]}).encode()

    answer = node.post(
        V2, head + tail, Inference_Header_Content_Length=str(len(head)), x_request_id="binary"
    )

    assert answer.content[-16:] == struct.pack("<2d", 3.0, 4.0)
    assert node.captured("binary")["response"]["outputs"][0]["data"] == [3.0, 4.0]


def test_what_the_command_refuses_is_refused(node: Running) -> None:
    body = {"inputs": tensors()["inputs"][:1]}

    answer = node.post(V2, body, x_request_id="refused")

    assert (answer.status_code, answer.json()) == (422, {"error": "hour is missing"})
    assert node.captured("refused")["error"] == "the server behind answered 422: hour is missing"


def test_the_card_describes_the_model(node: Running) -> None:
    assert node.client.get("/v2/models/flight-delay").json() == {
        "name": "flight-delay",
        "versions": ["3"],
        "platform": "v2-command",
        "inputs": [
            {"name": "distance", "datatype": "FP64", "shape": [-1]},
            {"name": "hour", "datatype": "INT64", "shape": [-1]},
        ],
        "outputs": [{"name": "late", "datatype": "FP64", "shape": [-1]}],
    }
    ready = node.client.get("/ready").json()
    assert (ready["ready"], ready["digest"]) == (True, "sha256:whole")


def test_a_killed_command_ends_the_replica_and_says_so(bundle: Path, tmp_path: Path) -> None:
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)
        os.kill(pid, signal.SIGKILL)

        assert server.process.wait(PATIENCE_SECONDS) == 1

    [event] = [e for e in server.events() if e["event"] == "command_ended"]
    assert event == {
        "event": "command_ended",
        "error": "the command ended with code -9; its last words were: node is up",
        "code": -9,
    }
    assert server.events()[-1] == {"event": "stopped", "served": 1, "dropped": 0, "written": 1}
    assert all(path.suffix == ".seg" for path in server.spool.iterdir())
    assert not server.socket.exists()
    assert list((tmp_path / "run" / "tmp").iterdir()) == []


def test_a_request_that_ends_the_command_is_answered_and_recorded(
    bundle: Path, tmp_path: Path
) -> None:
    with running(bundle, tmp_path / "run") as server:
        answer = server.post(V2, tensors([-1]), x_request_id="deadly")

        assert server.process.wait(PATIENCE_SECONDS) == 1

    assert answer.status_code == 502
    assert answer.json() == {"error": "the server behind hung up without an answer"}
    [line] = server.lines()
    assert (line["id"], line["status"], line["response"]) == ("deadly", 502, answer.json())
    [event] = [e for e in server.events() if e["event"] == "command_ended"]
    assert event["code"] == 9


def test_a_command_that_hangs_for_good_is_ended_and_the_replica_with_it(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, node_model(tmp_path / "model", answer_seconds=0.2))
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)
        os.kill(pid, signal.SIGSTOP)

        def found_out() -> bool:
            assert server.post(V2, tensors()).status_code == 504
            return any(e["event"] == "command_hangs" for e in server.events())

        until("it was found to hang", found_out)
        server.process.wait(PATIENCE_SECONDS)

    assert server.process.returncode == 1
    assert not alive(pid)
    events = [e["event"] for e in server.events()]
    assert events.index("command_hangs") < events.index("command_ended")


def test_the_command_ends_with_a_killed_replica(bundle: Path, tmp_path: Path) -> None:
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)
        server.kill()

        until("the command had ended", lambda: not alive(pid))

    with running(bundle, tmp_path / "next") as successor:
        assert successor.post(V2, tensors()).status_code == 200


def test_a_stop_answers_what_is_under_way_and_then_ends_the_command(
    bundle: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    answers: list[httpx.Response] = []
    body = tensors(parameters={"gate": str(gate)})
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)
        asked = threading.Thread(target=lambda: answers.append(server.post(V2, body)))
        asked.start()
        until("the command was asked", gate.with_suffix(".entered").exists)
        server.process.send_signal(signal.SIGTERM)
        until("it was stopping", lambda: _refuses(server))
        gate.write_text("open")
        asked.join(PATIENCE_SECONDS)

        assert server.process.wait(PATIENCE_SECONDS) == 0

    assert [answer.status_code for answer in answers] == [200]
    assert answers[0].json()["outputs"][0]["data"] == LATE
    assert not alive(pid)
    assert "node stops" in server.errors.read_text()
    assert [e["event"] for e in server.events()] == ["serving", "stopped"]


def _refuses(server: Running) -> bool:
    try:
        server.connect().close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def test_a_command_that_does_not_stop_is_ended_by_force(tmp_path: Path) -> None:
    deaf = SERVER_JS.replace("process.exit(0); });", "});").replace("node stops", "node stays")
    bundle = make_bundle(tmp_path, node_model(tmp_path / "model", deaf))
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)

        assert server.stop() == 0

    assert not alive(pid)
    assert "node stays" in server.errors.read_text()


def test_what_a_shell_has_started_ends_too(tmp_path: Path) -> None:
    command = ["sh", "-c", "node server.js; true"]
    bundle = make_bundle(tmp_path, node_model(tmp_path / "model", command=command))
    with running(bundle, tmp_path / "run") as server:
        pid = child(server)
        assert server.stop() == 0

    until("the program had ended", lambda: not alive(pid))


def fails(tmp_path: Path, script: str = SERVER_JS, **card: Any) -> dict[str, Any]:
    """It runs a server whose command does not come up, and gives the event that says why."""
    bundle = make_bundle(tmp_path, node_model(tmp_path / "model", script, **card))
    (tmp_path / "tmp").mkdir()
    server = Running(bundle, tmp_path / "run", TMPDIR=str(tmp_path / "tmp"))
    assert server.process.wait(PATIENCE_SECONDS) == 1
    server.client.close()
    assert not server.socket.exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    [event] = server.events()
    assert event["event"] == "model_not_loaded"
    return event


def test_a_command_that_ends_at_once_says_its_last_words(tmp_path: Path) -> None:
    event = fails(tmp_path, 'console.error("no weights"); process.exit(3);')

    assert (event["type"], event["message"]) == (
        "CommandEnded",
        "the command ended with code 3; its last words were: no weights",
    )


def test_a_command_that_never_listens_is_given_up(tmp_path: Path) -> None:
    script = 'console.log("thinking"); setInterval(() => {}, 1000);'

    event = fails(tmp_path, script, start_seconds=1)

    assert event["message"] == (
        "the server behind was not ready within 1 s: the server behind cannot be reached: "
        "No such file or directory; its last words were: thinking"
    )


def test_a_command_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    script = SERVER_JS.replace("answer(response, 200, {})", "answer(response, 503, {})")

    event = fails(tmp_path, script, start_seconds=1)

    assert event["message"] == (
        "the server behind was not ready within 1 s: /v2/health/ready answers 503; "
        "its last words were: node is up"
    )


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such-program"], "the program 'no-such-program' is not installed here: it is not in"),
        (["./server.js"], "the program './server.js' among the artifacts is not executable"),
    ],
)
def test_a_program_that_is_not_there_is_said(
    tmp_path: Path, command: list[str], words: str
) -> None:
    event = fails(tmp_path, command=command)

    assert event["message"].startswith(words)


def test_a_program_among_the_artifacts_is_started(tmp_path: Path) -> None:
    script = "#!/usr/bin/env node\n" + SERVER_JS
    model = node_model(tmp_path / "model", script, command=["./server.js"])
    (model / "server.js").chmod(0o755)
    with running(make_bundle(tmp_path, model), tmp_path / "run") as server:
        assert server.post(V1, {"instances": ROWS}).json() == {"predictions": LATE}


def test_a_stop_before_the_command_is_ready_leaves_nothing(tmp_path: Path) -> None:
    script = 'console.log("pid " + process.pid); setInterval(() => {}, 1000);'
    command = ["sh", "-c", "node server.js; true"]
    bundle = make_bundle(tmp_path, node_model(tmp_path / "model", script, command=command))
    server = Running(bundle, tmp_path / "run")
    told = until("it was told", lambda: server.errors.read_text().strip())
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(PATIENCE_SECONDS) == 0
    server.client.close()
    until("the program had ended", lambda: not alive(int(told.removeprefix("pid "))))


def test_each_worker_has_a_command_of_its_own(bundle: Path, tmp_path: Path) -> None:
    with running(bundle, tmp_path / "run", "--workers", "2") as server:
        found: set[int] = set()

        def both() -> bool:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.socket))) as client:
                answer = client.post(f"http://model{V2}", content=json.dumps(tensors()))
            found.add(answer.json()["pid"])
            return len(found) == 2

        until("both had answered", both)
        assert server.stop() == 0

    assert not any(alive(pid) for pid in found)


def test_the_probe_asks_the_command_by_the_name_it_was_given(bundle: Path, tmp_path: Path) -> None:
    code, report = probe(bundle, bundle / "model", tmp_path)

    assert (code, report["ok"], report["loader"]) == (0, True, "command")
    assert report["signature"]["outputs"] == [{"name": "late", "type": "double"}]
    assert report["example"]["rows"] == len(EXAMPLE["dataframe_split"]["data"])
    assert report["example"]["predictions"] == [3100.0, 600.5]


def test_the_probe_of_a_command_that_refuses_its_example_fails(tmp_path: Path) -> None:
    example = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [1]}]}
    model = node_model(tmp_path / "model", input_example=example)
    bundle = make_bundle(tmp_path, model)

    code, report = probe(bundle, model, tmp_path)

    assert (code, report["error"]["stage"]) == (1, "example")
    assert report["error"]["message"] == "the server behind answered 422: hour is missing"


def test_predict_asks_the_command_batch_by_batch(bundle: Path, tmp_path: Path) -> None:
    data = {"columns": ["hour", "distance"], "data": [[hour, 0.5] for hour in range(10)]}

    code, report = predict(bundle, tmp_path, data, "--batch", "3")

    assert code == 0
    assert report["predictions"] == [100 * hour + 0.5 for hour in range(10)]


def test_a_command_without_any_card_but_its_own_needs_no_signature(tmp_path: Path) -> None:
    card = {"runtime": "command", "command": ["node", "server.js"]}
    model = write_card(tmp_path / "model", card, server_js=SERVER_JS)
    with running(make_bundle(tmp_path, model), tmp_path / "run") as server:
        assert server.post(V2, tensors()).json()["outputs"][0]["data"] == LATE
        assert server.post(V1, {"instances": ROWS}).status_code == 400
