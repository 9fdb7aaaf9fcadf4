"""HTTP over unix sockets, for what runs on this machine: replicas, supervisor, gateway's admin."""

import http.client
import socket
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


def get(path: Path, url: str, *, timeout_seconds: float) -> tuple[int, bytes] | None:
    """It asks once and gives (status, body); None when nobody answers in time."""
    connection = Connection(path, timeout_seconds=timeout_seconds)
    try:
        connection.request("GET", url)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
