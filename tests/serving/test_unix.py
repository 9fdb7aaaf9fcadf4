"""Asking a socket of somebody whose code is not ours."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.serving.backends import unix

Answer = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def served(path: Path, answer: Answer) -> Iterator[None]:
    """One caller is answered by this function, which ends when it is told to."""
    over = threading.Event()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    answer(connection, over)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            over.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def whole(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ngood")


def trickling(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.05):
        connection.sendall(b"x-more: of the same\r\n")


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        connection.sendall(b"x" * 65536)


def garbage(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"this is no HTTP at all\r\n\r\n")


def test_a_whole_answer(tmp_path: Path) -> None:
    with served(tmp_path / "s", whole):
        assert unix.get(tmp_path / "s", "/ready", timeout_seconds=5) == (200, b"good")


@pytest.mark.parametrize("answer", [trickling, endless, garbage])
def test_an_answer_that_is_none_is_not_waited_for(tmp_path: Path, answer: Answer) -> None:
    began = time.monotonic()
    with served(tmp_path / "s", answer):
        assert unix.get(tmp_path / "s", "/ready", timeout_seconds=0.5) is None
    assert time.monotonic() - began < 4


def test_nobody_listens(tmp_path: Path) -> None:
    assert unix.get(tmp_path / "s", "/ready", timeout_seconds=0.5) is None
