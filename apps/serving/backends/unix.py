"""HTTP over unix sockets, for what runs on this machine: replicas, supervisor, gateway's admin."""

import http.client
import socket
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, *, timeout_seconds: float) -> None:
        super().__init__("local", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._path))
        except OSError:
            self.sock.close()
            raise


def get(
    path: Path, url: str, *, timeout_seconds: float, most_bytes: int = 64 << 10
) -> tuple[int, bytes] | None:
    """It asks once and gives (status, body); None when nobody gives a whole answer in time.

    The time is for all of it and the answer is bounded: models are other people's code, and one
    that sends a line a second for ever must not hold up whoever moves the traffic.
    """
    request = f"GET {url} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n".encode()
    return _ask(path, request, timeout_seconds, most_bytes)


def post(
    path: Path,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_seconds: float,
    most_bytes: int,
) -> tuple[int, bytes] | None:
    """It sends a body once; time and answer are bounded as in `get`.

    Raises: ValueError for a header that would end its line.
    """
    told = {"Host": "local", "Connection": "close", "Content-Length": str(len(body)), **headers}
    lines = [f"{name}: {value}" for name, value in told.items()]
    if any(character in line for line in lines for character in "\r\n\0"):
        raise ValueError("A header has no line end")
    head = "\r\n".join([f"POST {url} HTTP/1.1", *lines, "", ""])
    return _ask(path, head.encode("latin-1", "replace") + body, timeout_seconds, most_bytes)


def _ask(
    path: Path, request: bytes, timeout_seconds: float, most_bytes: int
) -> tuple[int, bytes] | None:
    until = time.monotonic() + timeout_seconds
    said = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
            asked.settimeout(timeout_seconds)
            asked.connect(str(path))
            asked.sendall(request)
            while part := _part(asked, until):
                said += part
                if len(said) > most_bytes:
                    return None
        # Of a socket it asks for `makefile` only, which is all that `_Said` has.
        answer = http.client.HTTPResponse(_Said(said))  # type: ignore[arg-type]
        answer.begin()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None


def _part(asked: socket.socket, until: float) -> bytes:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    asked.settimeout(left)
    return asked.recv(64 << 10)


class _Said:
    """What was received, where `http.client` expects the socket."""

    def __init__(self, said: bytearray) -> None:
        self._said = said

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._said)
