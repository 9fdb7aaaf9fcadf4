"""Wrong bundles, crashes and stops: nothing wrong is served and nothing answered is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import httpx
import pytest

from model_server.digest import digest, manifest
from tests.model_server.running import PATIENCE_SECONDS, Running, serving, until

V1 = "/v1/models/flight-delay:predict"
ROW = {"instances": [[1400.0, 17]]}


def copied(bundle: Path, folder: Path) -> Path:
    return Path(shutil.copytree(bundle, folder / "copy"))


@pytest.mark.parametrize("change", ["content", "more", "link", "no card", "no digest"])
def test_a_bundle_that_is_not_what_was_built_exits_3(
    numeric_bundle: Path, tmp_path: Path, change: str
) -> None:
    bundle = copied(numeric_bundle, tmp_path)
    words = {
        "content": "the model's digest is sha256:",
        "more": "the model's digest is sha256:",
        "link": "the model directory cannot be digested: link is a symbolic link",
        "no card": "bundle.json cannot be read: ",
        "no digest": "bundle.json holds no model_digest",
    }[change]
    if change == "content":
        changed = bundle / "model" / "MLmodel"
        changed.write_bytes(changed.read_bytes() + b"\n")
    elif change == "more":
        (bundle / "model" / "extra.py").touch()
    elif change == "link":
        (bundle / "model" / "link").symlink_to("MLmodel")
    elif change == "no card":
        (bundle / "bundle.json").unlink()
    else:
        (bundle / "bundle.json").write_text("{}")

    server = Running(bundle, tmp_path / "run")

    assert server.process.wait(PATIENCE_SECONDS) == 3
    server.client.close()
    found = json.loads(server.errors.read_text())
    assert found["event"] == "wrong_bundle"
    assert found["error"].startswith(words)
    assert not server.socket.exists()
    assert not server.spool.exists()


def test_a_model_that_does_not_load_exits_1_and_says_why(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    bundle = copied(numeric_bundle, tmp_path)
    (bundle / "model" / "model.skops").write_bytes(b"not a model")
    card = {"digest": "sha256:x", "model_digest": digest(manifest(bundle / "model"))}
    (bundle / "bundle.json").write_text(json.dumps(card))

    server = Running(bundle, tmp_path / "run")

    assert server.process.wait(PATIENCE_SECONDS) == 1
    server.client.close()
    found = json.loads(server.errors.read_text())
    assert (found["event"], found["stage"]) == ("model_not_loaded", "load")
    assert found["type"] == "BadZipFile"
    assert not server.socket.exists()


def test_a_killed_servers_segment_is_sealed_by_its_successor(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    first = Running(numeric_bundle, tmp_path).wait_ready()
    first.post(V1, ROW, x_request_id="before")
    left = until("a segment was open", lambda: list(first.spool.glob("*.open")))[0]
    first.kill()
    with left.open("ab") as torn:
        torn.write(b'{"id":"torn')
    content = left.read_bytes()
    assert first.socket.exists()

    with serving(numeric_bundle, tmp_path) as second:
        sealed = left.with_suffix(".seg")
        assert not left.exists()
        assert sealed.read_bytes() == content
        assert json.loads(content.splitlines()[0])["id"] == "before"
        assert second.events()[1] == {"event": "segments_sealed", "names": [sealed.name]}
        second.post(V1, ROW, x_request_id="after")

    names = sorted(path.name for path in second.spool.iterdir())
    assert len(names) == 2
    assert all(name.endswith(".seg") for name in names)


def test_a_stop_before_the_model_is_loaded_ends_at_once(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    server = Running(numeric_bundle, tmp_path)
    until("the spool was made", server.spool.exists)
    server.process.send_signal(signal.SIGTERM)

    assert server.process.wait(PATIENCE_SECONDS) == 0
    server.client.close()
    assert server.events() == []
    assert not server.socket.exists()


def test_a_stop_lets_the_running_prediction_finish(unruly_bundle: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    answers: list[httpx.Response] = []
    with serving(unruly_bundle, tmp_path / "run", GATE=str(gate)) as server:
        asked = threading.Thread(
            target=lambda: answers.append(
                server.post(V1, {"instances": [[3]]}, x_request_id="last")
            )
        )
        asked.start()
        until("the model was entered", gate.with_suffix(".entered").exists)
        server.process.send_signal(signal.SIGTERM)
        gate.touch()
        asked.join(PATIENCE_SECONDS)

        assert server.process.wait(PATIENCE_SECONDS) == 0

    assert [answer.json() for answer in answers] == [{"predictions": [3.0]}]
    lines = server.lines()
    assert [(line["id"], line["status"]) for line in lines] == [("last", 200)]
    assert all(path.suffix == ".seg" for path in server.spool.iterdir())
    assert not server.socket.exists()
    assert server.events()[-1] == {"event": "stopped", "served": 1, "dropped": 0, "written": 1}


def test_a_stop_lets_a_half_sent_request_finish_and_takes_no_new_ones(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    body = json.dumps(ROW).encode()
    head = f"POST {V1} HTTP/1.1\r\nhost: m\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with serving(numeric_bundle, tmp_path) as server, server.connect() as raw:
        raw.sendall(head + body[:5])
        until("the head was read", lambda: server.client.get("/stats").json()["in_flight"] == 1)
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                server.connect().close()
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            return False

        until("new connections were refused", refused)
        raw.sendall(body[5:])
        answer = b""
        while part := raw.recv(65536):
            answer += part
        assert server.process.wait(PATIENCE_SECONDS) == 0

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.split(b"\r\n\r\n")[1])["predictions"] in ([0], [1])
    assert [line["status"] for line in server.lines()] == [200]


def revision(server: Running) -> str:
    # A new connection each time: a kept one would still reach the predecessor.
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.socket))) as client:
        return str(client.get("http://model/ready").json()["revision"])


def test_a_stopping_predecessor_leaves_its_successors_socket_alone(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    with (
        serving(numeric_bundle, tmp_path) as first,
        serving(numeric_bundle, tmp_path, revision="42") as second,
    ):
        until("the successor had the socket", lambda: revision(second) == "42")
        assert first.stop() == 0

        assert revision(second) == "42"


def pids(server: Running) -> list[int]:
    return [event["pid"] for event in server.events() if event["event"] == "serving"]


def test_several_workers_share_a_socket_and_a_killed_one_comes_back(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    with serving(numeric_bundle, tmp_path, "--workers", "2") as server:
        first, second = until("both served", lambda: len(pids(server)) == 2 and pids(server))
        os.kill(first, signal.SIGKILL)
        third = until("a third served", lambda: pids(server)[2:])[0]
        assert server.post(V1, ROW).status_code == 200
        assert server.stop() == 0

    assert len({first, second, third}) == 3
    ended = [event for event in server.events() if event["event"] == "worker_ended"]
    assert ended == [{"event": "worker_ended", "pid": first, "code": -9}]
    assert [line["status"] for line in server.lines()] == [200]
    assert not server.socket.exists()


def test_workers_do_not_outlive_their_parent(numeric_bundle: Path, tmp_path: Path) -> None:
    server = Running(numeric_bundle, tmp_path, "--workers", "2").wait_ready()
    until("both served", lambda: len(pids(server)) == 2)
    server.kill()

    def stopped() -> bool:
        return [event["event"] for event in server.events()].count("stopped") == 2

    assert until("both had stopped", stopped)


def test_names_that_would_break_segment_names_are_refused(
    numeric_bundle: Path, tmp_path: Path
) -> None:
    server = Running(numeric_bundle, tmp_path, revision="../41")

    assert server.process.wait(PATIENCE_SECONDS) == 2
    server.client.close()
    assert not server.spool.exists()
