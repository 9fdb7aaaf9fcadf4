"""The load generator against real servers on sockets: what it counts, and what it does not."""

import http.server
import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving import load, questions
from benchmarks.serving.load import Load, Spec, answer_in, is_right

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
SUMS = [3.0, 7.0, 11.0]
Answer = Callable[[http.server.BaseHTTPRequestHandler, list[float], int], None]


def give(handler: http.server.BaseHTTPRequestHandler, status: int, body: Any) -> None:
    text = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(text)))
    handler.send_header("x-revision", "7")
    handler.end_headers()
    handler.wfile.write(text)


@contextmanager
def serving(path: Path, answer: Answer) -> Iterator[None]:
    """It answers on a unix socket; the number of the request of all is given with each."""
    counted: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one write for head and body

        def do_POST(self) -> None:
            counted.append(1)
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer(self, body["rows"][0], len(counted))
            self.wfile.flush()

        def log_message(self, format: str, *arguments: object) -> None:
            """It says nothing."""

        def address_string(self) -> str:
            return "local"

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = False

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def spec(address: load.Address, **changed: Any) -> Spec:
    asked = questions.array("/predict", ROWS, ("predictions", 0))
    given: dict[str, Any] = {
        "address": address,
        "requests": asked.requests,
        "expected": SUMS,
        "answer": asked.answer,
        "concurrency": 3,
        "seconds": 0.3,
        "warm_seconds": 0.05,
    }
    return Spec(**(given | changed))


def test_right_answers_count(tmp_path: Path) -> None:
    path, asked = tmp_path / "s", set()

    def answer(handler: http.server.BaseHTTPRequestHandler, row: list[float], number: int) -> None:
        asked.add(tuple(row))
        give(handler, 200, {"predictions": [sum(row)]})

    with serving(path, answer):
        seen = Load(spec(str(path), watched=True)).run()
    assert seen["failed"] == 0
    assert seen["requests"] > 0
    assert asked == {(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)}
    assert 0 < seen["p50"] <= seen["p90"] <= seen["p99"] <= seen["most"]
    assert {revision for _, _, revision in seen["watched"]} == {"7"}
    assert all(sent < received for sent, received, _ in seen["watched"])


def test_a_wrong_prediction_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(path, lambda handler, row, number: give(handler, 200, {"predictions": [3.0]})):
        seen = Load(spec(str(path), concurrency=1)).run()
    # Of three rows in turn one is right.
    assert seen["failed"] >= 2 * (seen["requests"] - 1)
    assert seen["requests"] > 0
    assert "expected" in seen["failures"][0]


def test_an_answer_without_success_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def answer(handler: http.server.BaseHTTPRequestHandler, row: list[float], number: int) -> None:
        give(handler, 503, {"predictions": [sum(row)]})

    with serving(path, answer):
        seen = Load(spec(str(path))).run()
    assert (seen["requests"], seen["p99"]) == (0, 0.0)
    assert seen["failed"] > 0
    assert seen["failures"][0].startswith("status 503")


def test_a_connection_that_closes_without_an_answer_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def answer(handler: http.server.BaseHTTPRequestHandler, row: list[float], number: int) -> None:
        handler.close_connection = True
        if number % 2:
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.send_header("Content-Length", "100")
            handler.end_headers()

    with serving(path, answer):
        seen = Load(spec(str(path))).run()
    assert seen["requests"] == 0
    assert seen["failed"] > 0
    assert {failure.partition(":")[0] for failure in seen["failures"]} <= {
        "ConnectionError",
        "ConnectionResetError",
        "BrokenPipeError",
    }


def test_a_connection_that_the_server_ends_politely_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "s"

    def answer(handler: http.server.BaseHTTPRequestHandler, row: list[float], number: int) -> None:
        text = json.dumps({"predictions": [sum(row)]}).encode()
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    with serving(path, answer):
        seen = Load(spec(str(path))).run()
    assert seen["failed"] == 0
    assert seen["requests"] > 3


def test_nobody_there_is_a_failure_and_no_error(tmp_path: Path) -> None:
    seen = Load(spec(str(tmp_path / "nobody"))).run()
    assert seen["requests"] == 0
    assert seen["failed"] > 0
    assert seen["failures"][0].startswith("cannot ask")


def test_a_file_ends_the_window(tmp_path: Path) -> None:
    path, stop = tmp_path / "s", tmp_path / "stop"

    def answer(handler: http.server.BaseHTTPRequestHandler, row: list[float], number: int) -> None:
        stop.touch()
        give(handler, 200, {"predictions": [sum(row)]})

    with serving(path, answer):
        seen = Load(spec(str(path), seconds=600, stop=str(stop))).run()
    assert seen["failed"] == 0


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b"[]"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]", None),
        (b"HTTP/1.1 200 OK\r\nContent-", None),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n",
            b"[1]",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\n", None),
    ],
)
def test_an_answer_is_read_when_it_is_whole(data: bytes, body: bytes | None) -> None:
    answer = answer_in(data)
    assert (answer and answer.body) == body


def test_an_answer_of_unknown_length_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown length"):
        answer_in(b"HTTP/1.1 200 OK\r\n\r\n[]")


@pytest.mark.parametrize(
    ("body", "right"),
    [
        (b'{"outputs": [{"data": [2.0]}]}', True),
        (b'{"outputs": [{"data": [2]}]}', True),
        (b'{"outputs": [{"data": [2.1]}]}', False),
        (b'{"outputs": [{"data": ["2"]}]}', False),
        (b'{"outputs": []}', False),
        (b"not JSON", False),
    ],
)
def test_a_prediction_is_found_where_the_protocol_puts_it(body: bytes, right: bool) -> None:
    assert is_right(body, ("outputs", 0, "data", 0), 2.0) is right


def test_processor_time_of_this_process_is_seen() -> None:
    (mine,) = load.cpu_seconds([os.getpid()])
    assert mine > 0
    assert load.cpu_seconds([2**30]) == [0.0]
