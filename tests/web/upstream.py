"""A small real HTTP server that stands where MLflow stands, and remembers how it was called."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

LARGE = 5 * 1024 * 1024


@dataclass
class Call:
    method: str
    path: str
    headers: dict[str, str]
    size: int
    digest: str


@dataclass
class Upstream:
    calls: list[Call] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)  # by end of path
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    server: "Server"
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        size, mark = 0, hashlib.sha256()
        for piece in self._body():
            size += len(piece)
            mark.update(piece)
        headers = {name.lower(): value for name, value in self.headers.items()}
        upstream = self.server.upstream
        upstream.calls.append(Call(self.command, self.path, headers, size, mark.hexdigest()))
        if self.path.endswith("/large"):
            self._large()
            return
        found = (a for end, a in upstream.answers.items() if self.path.endswith(end))
        status, answer = next(found, (200, {"path": self.path}))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Upstream", "yes")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length", 0))
        while left:
            piece = self.rfile.read(min(left, 65536))
            left -= len(piece)
            yield piece
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    def _large(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(LARGE))
        self.end_headers()
        for _ in range(LARGE // 65536):
            self.wfile.write(b"x" * 65536)

    def log_message(self, *_: Any) -> None:
        """Nothing: `calls` holds it."""


class Server(ThreadingHTTPServer):
    upstream: Upstream
    daemon_threads = True  # a kept-alive connection ends with the run


@contextmanager
def running() -> Iterator[Upstream]:
    server = Server(("127.0.0.1", 0), Handler)
    server.upstream = Upstream(url=f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.upstream
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
