"""Servers elsewhere, behind the real one: what passes, and what becomes of a broken answer."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn

from model_server.app import App, Identity
from model_server.loading import LoadedModel
from model_server.opening import open_model
from tests.model_server import models
from tests.model_server.asking import Kept
from tests.model_server.running import PATIENCE_SECONDS, Running, make_bundle, serving, until
from tests.model_server.runtimes import (
    SIGNATURE,
    TENSOR,
    Behaviour,
    Elsewhere,
    Handler,
    elsewhere,
    plain,
    write_card,
)

V2 = "/v2/models/flight-delay/infer"
V1 = "/v1/models/flight-delay:predict"
ANSWER_SECONDS = 0.4


def hang(handler: Handler) -> None:
    assert handler.server.released.wait(PATIENCE_SECONDS)
    handler.close_connection = True


def outputs(**changes: Any) -> dict[str, Any]:
    return {"name": "twice", "datatype": "FP64", "shape": [1], "data": [2.0], **changes}


def pretty(handler: Handler) -> None:
    handler.reply(200, b'{\r\n "outputs": [\n' + json.dumps(outputs()).encode() + b"\n]}")


def tensors(handler: Handler) -> None:
    """It answers in binary, more than a record holds of it where much is asked."""
    count = json.loads(handler.head)["inputs"][0]["shape"][0]
    tail = struct.pack(f"<{count}d", *range(count))
    about = outputs(shape=[count], parameters={"binary_data_size": len(tail)})
    del about["data"]
    head = json.dumps({"outputs": [about]}).encode()
    handler.reply(200, head + tail, Inference_Header_Content_Length=str(len(head)))


BROKEN: dict[str, tuple[Behaviour, int, str]] = {
    "hang": (hang, 504, "the server behind did not answer within 0.4 s"),
    "hang up": (lambda h: h.raw(b""), 502, "the server behind hung up without an answer"),
    "garbage": (
        lambda h: h.raw(b"\0\1\2\3\r\n\r\n"),
        502,
        "the server behind does not answer in H",
    ),
    "half": (
        lambda h: h.raw(b'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"outputs"'),
        502,
        "the server behind broke off its answer",
    ),
    "endless head": (
        lambda h: h.raw(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * (200 << 10)),
        502,
        "the server behind",
    ),
    "html": (
        lambda h: h.reply(200, b"<p>fine</p>"),
        502,
        "the server behind does not answer in V2",
    ),
    "list": (lambda h: h.reply(200, [1]), 502, "the server behind does not answer in V2: it gives"),
    "nan": (
        lambda h: h.reply(200, b'{"outputs": [NaN]}'),
        502,
        "the server behind does not answer",
    ),
    "empty": (lambda h: h.reply(204, b""), 502, "the server behind answers (204): nothing"),
    "redirect": (
        lambda h: h.reply(307, b"", Location="http://127.0.0.1:1/"),
        502,
        "the server behind redirects, which is not followed (307): nothing",
    ),
    "upgrade": (
        lambda h: h.raw(b"HTTP/1.1 101 No\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"),
        502,
        "the server behind does not answer in HTTP",
    ),
    "wrong length": (
        lambda h: h.reply(200, {"outputs": []}, Inference_Header_Content_Length="999"),
        502,
        "the server behind does not answer in V2: its Inference-Header-Content-Length",
    ),
    "trace": (
        lambda h: h.reply(500, b"Traceback (most recent\n call last)"),
        500,
        "the server behind answered 500: Traceback (most recent call last)",
    ),
}


def quiet_close(handler: Handler) -> None:
    plain(handler)
    handler.close_connection = True


GOOD: dict[str, Behaviour] = {
    "quiet close": quiet_close,
    "pretty": pretty,
    "tensors": tensors,
    "refuse": lambda h: h.reply(429, {"error": "too many"}),
    "close": lambda h: h.raw(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
        + json.dumps({"outputs": [outputs()]}).encode()
    ),
    "continue": lambda h: h.raw(
        b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{"outputs": []}'
    ),
    "two": lambda h: h.reply(
        200,
        {
            "outputs": [
                outputs(shape=[2, 1], data=[1, 2]),
                outputs(name="b", shape=[2], data=[3, 4]),
            ]
        },
    ),
    "wrong shape": lambda h: h.reply(200, {"outputs": [outputs(shape=[3])]}),
}


@pytest.fixture(scope="module")
def behind() -> Iterator[Elsewhere]:
    behaviours = {name: one[0] for name, one in BROKEN.items()} | GOOD
    with elsewhere(behaviours) as server:
        yield server


def url_bundle(folder: Path, place: str, **card: Any) -> Path:
    whole = {"runtime": "url", "url": f"http://{place}", "model": "ours", **card}
    return make_bundle(folder, write_card(folder / "model", whole))


@pytest.fixture(scope="module")
def served(behind: Elsewhere, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("url")
    bundle = url_bundle(folder, behind.place, answer_seconds=ANSWER_SECONDS)
    with serving(bundle, folder / "run", PORTAL_REMOTE_SERVERS=behind.place) as server:
        yield server


@pytest.fixture(scope="module")
def signed(behind: Elsewhere, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("signed")
    tensor = {"dtype": "float64", "shape": [-1]}
    signature = {"inputs": [{"name": "x", "type": "tensor", "tensor-spec": tensor}]}
    bundle = url_bundle(folder, behind.place, signature=signature, answer_seconds=ANSWER_SECONDS)
    with serving(bundle, folder / "run", PORTAL_REMOTE_SERVERS=behind.place) as server:
        yield server


def asked(name: str = "x", data: Any = (1.5, 2.0), **more: Any) -> dict[str, Any]:
    tensor = {"name": name, "datatype": "FP64", "shape": [len(data)], "data": list(data)}
    return {"inputs": [{**tensor, **more}]}


def test_v2_passes_as_it_came_and_is_recorded(served: Running, behind: Elsewhere) -> None:
    body = json.dumps(asked(), indent=1).encode()

    answer = served.post(V2, body, x_request_id="pass-1")

    assert answer.status_code == 200
    assert answer.json() == {"outputs": [outputs(shape=[2], data=[3.0, 4.0])]}
    assert answer.headers["x-request-id"] == "pass-1"
    assert answer.headers["x-revision"] == "41"
    path, headers, content = behind.seen[-1]
    assert (path, content) == ("/v2/models/ours/infer", body)
    assert (headers["x-request-id"], headers["content-type"]) == ("pass-1", "application/json")
    record = served.captured("pass-1")
    assert (record["status"], record["error"], record["format"]) == (200, "", "v2")
    assert record["request"] == asked()
    assert record["response"] == answer.json()


def test_connections_are_kept(served: Running, behind: Elsewhere) -> None:
    for _ in range(3):
        served.post(V2, asked())

    assert len(set(behind.ports[-3:])) == 1


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_becomes_an_error_in_words_and_is_recorded(
    served: Running, name: str
) -> None:
    _, status, words = BROKEN[name]

    answer = served.post(V2, asked(name), x_request_id=f"broken-{name}")

    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"].startswith(words)
    record = served.captured(f"broken-{name}")
    assert (record["status"], record["response"]) == (status, answer.json())
    assert words in record["error"]
    assert served.post(V2, asked()).status_code == 200


def test_a_connection_that_was_closed_unused_is_not_the_callers_trouble(served: Running) -> None:
    for _ in range(20):
        assert served.post(V2, asked("quiet close")).status_code == 200


@pytest.mark.parametrize("name", ["close", "continue"])
def test_every_way_to_answer_whole_is_understood(served: Running, name: str) -> None:
    answer = served.post(V2, asked(name))

    assert answer.status_code == 200
    assert list(answer.json()) == ["outputs"]


def test_an_answer_on_many_lines_is_recorded_on_one(served: Running) -> None:
    answer = served.post(V2, asked("pretty"), x_request_id="pretty")

    assert answer.content.startswith(b'{\r\n "outputs"')
    assert served.captured("pretty")["response"] == {"outputs": [outputs()]}


def test_a_refusal_passes_as_it_came(served: Running) -> None:
    answer = served.post(V2, asked("refuse"), x_request_id="refuse")

    assert (answer.status_code, answer.json()) == (429, {"error": "too many"})
    record = served.captured("refuse")
    assert (record["status"], record["response"]) == (429, {"error": "too many"})
    assert record["error"] == "the server behind answered 429: too many"


@pytest.mark.parametrize("count", [2, 9000])
def test_binary_tensors_pass_in_both_directions(
    served: Running, behind: Elsewhere, count: int
) -> None:
    tail = struct.pack(f"<{count}d", *([1.5] * count))
    tensor = {"name": "tensors", "datatype": "FP64", "shape": [count]}
    head = json.dumps(
        {"inputs": [{**tensor, "parameters": {"binary_data_size": len(tail)}}]}
    ).encode()
    length = str(len(head))

    answer = served.post(
        V2, head + tail, Inference_Header_Content_Length=length, x_request_id=f"b-{count}"
    )

    assert answer.status_code == 200
    assert behind.seen[-1][2] == head + tail
    assert behind.seen[-1][1]["inference-header-content-length"] == length
    given = int(answer.headers["inference-header-content-length"])
    assert answer.content[given:] == struct.pack(f"<{count}d", *range(count))
    record = served.captured(f"b-{count}")
    if count == 2:
        assert record["request"]["inputs"][0]["data"] == [1.5, 1.5]
        assert record["response"]["outputs"][0]["data"] == [0.0, 1.0]
    else:
        assert record["request"]["omitted_bytes"] == record["response"]["omitted_bytes"] == 72000
        assert "inputs" not in record["response"]
        assert "data" not in record["response"]["outputs"][0]


def test_without_a_signature_only_v2_is_understood(served: Running) -> None:
    answer = served.post(V1, {"instances": [[1.0]]}, x_request_id="v1")

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the model's card has no signature, so only V2")
    assert served.captured("v1")["status"] == 400


def test_without_a_signature_the_server_behind_describes_itself(served: Running) -> None:
    assert served.client.get("/v2/models/flight-delay").json() == {
        "name": "flight-delay",
        "versions": ["3"],
        "platform": "v2-url",
        "inputs": [TENSOR],
        "outputs": [],
    }


@pytest.mark.parametrize("body", [[1], "x", b"{", b"[" * 2000])
def test_what_is_no_request_is_not_passed_on(served: Running, behind: Elsewhere, body: Any) -> None:
    before = len(behind.seen)

    answer = served.post(V2, body)

    assert answer.status_code == 400
    assert len(behind.seen) == before


@pytest.mark.parametrize(
    ("path", "body"),
    [(V1, {"instances": [1.5, 2]}), ("/invocations", {"inputs": {"x": [1.5, 2]}})],
)
def test_with_a_signature_the_other_formats_are_translated(
    signed: Running, behind: Elsewhere, path: str, body: Any
) -> None:
    answer = signed.post(path, body, x_request_id=path)

    assert (answer.status_code, answer.json()) == (200, {"predictions": [3.0, 4.0]})
    assert orjson.loads(behind.seen[-1][2]) == asked(data=(1.5, 2.0))
    record = signed.captured(path)
    assert (record["request"], record["response"]) == (body, answer.json())


def test_several_outputs_are_answered_row_by_row(signed: Running, behind: Elsewhere) -> None:
    behind.behaviours["x"] = GOOD["two"]
    try:
        answer = signed.post(V1, {"instances": [1.5, 2]})
    finally:
        del behind.behaviours["x"]

    assert answer.json() == {"predictions": [{"twice": [1], "b": 3}, {"twice": [2], "b": 4}]}


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("wrong shape", 502, "output 'twice' of the server behind has shape [3] but 1 values"),
        ("refuse", 429, "the server behind answered 429: too many"),
        ("hang", 504, "the server behind did not answer within 0.4 s"),
    ],
)
def test_a_failure_is_told_in_the_callers_protocol(
    signed: Running, behind: Elsewhere, name: str, status: int, words: str
) -> None:
    behind.behaviours["x"] = {**GOOD, "hang": hang}[name]
    try:
        answer = signed.post("/invocations", {"inputs": [1.5]})
    finally:
        del behind.behaviours["x"]

    assert answer.status_code == status
    assert answer.json()["message"] == words


def test_a_wrong_request_is_refused_by_the_signature(signed: Running, behind: Elsewhere) -> None:
    before = len(behind.seen)

    answer = signed.post(V1, {"instances": ["x"]})

    assert (answer.status_code, len(behind.seen)) == (400, before)
    assert answer.json()["error"].startswith("tensor 'x' must be float64")


def ended(bundle: Path, folder: Path, **extra: str) -> dict[str, Any]:
    """It runs a server that does not come up, and gives the one event that says why."""
    server = Running(bundle, folder, **extra)
    assert server.process.wait(PATIENCE_SECONDS) == 1
    server.client.close()
    assert not server.socket.exists()
    [event] = server.events()
    return event


@pytest.mark.parametrize("allowed", ["", "127.0.0.1:80,other:1"])
def test_a_server_that_is_not_allowed_is_never_asked(
    behind: Elsewhere, tmp_path: Path, allowed: str
) -> None:
    bundle = url_bundle(tmp_path, behind.place)
    before = len(behind.seen)

    event = ended(bundle, tmp_path / "run", PORTAL_REMOTE_SERVERS=allowed)

    assert event["event"] == "model_not_loaded"
    assert event["message"] == (
        f"the server {behind.place} is not allowed: PORTAL_REMOTE_SERVERS does not name it"
    )
    assert len(behind.seen) == before


def test_a_server_that_is_down_is_waited_for_and_then_said(tmp_path: Path) -> None:
    with elsewhere() as gone:
        place = gone.place
    bundle = url_bundle(tmp_path, place, start_seconds=0.2)

    event = ended(bundle, tmp_path / "run", PORTAL_REMOTE_SERVERS=place)

    assert event["message"].startswith(
        "the server behind was not ready within 0.2 s: the server behind cannot be reached: "
    )


def test_a_server_that_goes_down_is_a_503_until_it_is_back(tmp_path: Path) -> None:
    with elsewhere() as first:
        place = first.place
        bundle = url_bundle(tmp_path, place, signature=SIGNATURE)
        server = Running(bundle, tmp_path / "run", PORTAL_REMOTE_SERVERS=place)
        server.wait_ready()
    try:
        answer = server.post(V2, asked(), x_request_id="down")
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("the server behind cannot be reached: ")
        assert server.captured("down")["status"] == 503
        assert server.client.get("/ready").status_code == 200
    finally:
        assert server.stop() == 0


def test_our_own_server_may_stand_behind(numeric_bundle: Path, tmp_path: Path) -> None:
    with over_tcp(open_model(numeric_bundle / "model")) as place:
        bundle = url_bundle(tmp_path, place, model="flight-delay", signature=SIGNATURE)
        with serving(bundle, tmp_path / "run", PORTAL_REMOTE_SERVERS=place) as server:
            answer = server.post(V1, {"instances": [[1400.0, 17], [200.5, 6]]})

    frame = models.flights()[["distance", "hour"]].iloc[:2].copy()
    frame.loc[:, "distance"] = [1400.0, 200.5]
    frame["hour"] = [17, 6]
    assert answer.status_code == 200
    assert answer.json() == {"predictions": models.numeric_model().predict(frame).tolist()}


@contextlib.contextmanager
def over_tcp(model: LoadedModel) -> Iterator[str]:
    """It serves a model by our own application, as a server elsewhere would."""
    identity = Identity("flight-delay", "elsewhere", "1", "3", "sha256:whole", "0")
    config = uvicorn.Config(App(model, identity, Kept()), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE_SECONDS)


def test_a_slow_start_is_waited_for(tmp_path: Path) -> None:
    with elsewhere() as late:
        bundle = url_bundle(tmp_path, late.place)
        with serving(bundle, tmp_path / "run", PORTAL_REMOTE_SERVERS=late.place) as server:
            assert until("it served", server.events)[0]["loader"] == "url"
