"""The load generator: a process of its own that asks one server as fast as it answers.

`python -m benchmarks.serving.load SPEC OUT`. Every connection has one request under way. Requests
are encoded beforehand; an answer counts only when it is whole, has status 200 and holds the
prediction that the library gives for the row. Raw sockets and epoll: a general client would cost
more than some of the servers.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.serving.figures import percentile

Address = str | tuple[str, int]
PATIENCE_SECONDS = 15.0  # a request without an answer for so long has failed
FAILURES_KEPT = 3
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spec:
    """What to ask, whom, how long."""

    address: Address
    requests: Sequence[str]  # whole HTTP requests, ASCII
    expected: Sequence[float]  # of each request
    answer: Sequence[str | int]  # the way to the prediction inside the answer's JSON
    concurrency: int
    seconds: float
    warm_seconds: float
    cpu_of: Sequence[int] = ()  # processes whose time is read at both ends of the window
    watched: bool = False  # keep (sent, received, revision) of every answer
    stop: str = ""  # a file that ends the window when it appears


@dataclass
class Seen:
    """What came back in the window."""

    took: list[float] = field(default_factory=list)  # seconds, of right answers
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    watched: list[tuple[float, float, str]] = field(default_factory=list)

    def fail(self, words: str) -> None:
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(words[:300])


@dataclass(frozen=True)
class Answer:
    status: int
    head: bytes
    body: bytes
    closes: bool


def connect(address: Address) -> socket.socket:
    """It opens a connection to a port or, given a path, to a unix socket."""
    if isinstance(address, str):
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.settimeout(PATIENCE_SECONDS)
    try:
        made.connect(address)
    except OSError:
        made.close()
        raise
    return made


def answer_in(data: bytes) -> Answer | None:
    """It reads one answer; None while it is not whole. Raises: ValueError when it is not HTTP."""
    head, gap, rest = data.partition(b"\r\n\r\n")
    if not gap:
        return None
    lower = head.lower()
    length = header(lower, b"content-length")
    if length:
        body = rest if len(rest) == int(length) else None
    elif header(lower, b"transfer-encoding") == b"chunked":
        body = _joined(rest)
    else:
        raise ValueError("an answer of unknown length")
    if body is None:
        return None
    return Answer(int(head[9:12]), head, body, header(lower, b"connection") == b"close")


def header(head: bytes, name: bytes) -> bytes:
    """It gives a header's value, empty when there is none; names in lower case."""
    _, found, rest = head.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""


def is_right(body: bytes, way: Sequence[str | int], expected: float) -> bool:
    """It tells whether an answer holds the prediction."""
    try:
        found: Any = orjson.loads(body)
        for step in way:
            found = found[step]
        return bool(abs(found - expected) < 1e-6)
    except (ValueError, TypeError, KeyError, IndexError):
        return False


class Caller:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, spec: Spec, first: int, seen: Seen) -> None:
        self._spec, self._seen = spec, seen
        # Connections begin at different rows, so that no two ask the same at the same time.
        self._row = first
        self._requests = [text.encode("ascii") for text in spec.requests]
        self._data = b""
        self.sent = 0.0
        self.waits = False
        self.socket: socket.socket | None = None

    def open(self, poll: select.epoll) -> None:
        self.socket = connect(self._spec.address)
        self.socket.setblocking(False)
        poll.register(self.socket, select.EPOLLIN)

    def ask(self) -> None:
        assert self.socket is not None
        self._row = (self._row + 1) % len(self._requests)
        self._data = b""
        self.waits = True
        self.sent = time.monotonic()
        request = self._requests[self._row]
        if self.socket.send(request) != len(request):
            raise ConnectionError("the server does not take a request of one row")

    def hear(self) -> Answer | None:
        """It takes what came. Raises: OSError, ValueError when the connection is of no use now."""
        assert self.socket is not None
        part = self.socket.recv(1 << 16)
        if not part:
            raise ConnectionError("closed without an answer")
        self._data = self._data + part if self._data else part
        return answer_in(self._data)

    def judge(self, answer: Answer) -> None:
        now = time.monotonic()
        self.waits = False
        expected = self._spec.expected[self._row]
        if answer.status != 200:
            self._seen.fail(f"status {answer.status}: {answer.body[:200]!r}")
        elif not is_right(answer.body, self._spec.answer, expected):
            self._seen.fail(f"row {self._row}: expected {expected}, got {answer.body[:200]!r}")
        else:
            self._seen.took.append(now - self.sent)
        if self._spec.watched:
            revision = header(answer.head.lower(), b"x-revision").decode()
            self._seen.watched.append((self.sent, now, revision))

    def drop(self) -> None:
        """It closes the connection; epoll forgets a closed socket by itself."""
        self.waits = False
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Load:
    """All callers, in one loop."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._seen = Seen()
        self._poll = select.epoll()
        step = max(1, len(spec.requests) // spec.concurrency)
        self._callers = [Caller(spec, i * step, self._seen) for i in range(spec.concurrency)]
        self._by_descriptor: dict[int, Caller] = {}

    def run(self) -> dict[str, Any]:
        """It warms up, measures, and waits for what is under way at the end."""
        try:
            self._drive(time.monotonic() + self._spec.warm_seconds)
            # What failed in the warm-up would have failed for a caller too, but is not measured.
            self._seen.took.clear()
            self._seen.watched.clear()
            self._seen.failed = 0
            self._seen.failures.clear()
            before, own = cpu_seconds(self._spec.cpu_of), time.process_time()
            start = time.monotonic()
            self._drive(start + self._spec.seconds, self._spec.stop)
            counted, seconds = list(self._seen.took), time.monotonic() - start
            after, own = cpu_seconds(self._spec.cpu_of), time.process_time() - own
            self._finish()
        finally:
            for caller in self._callers:
                caller.drop()
            self._poll.close()
        used = [b - a for a, b in zip(before, after, strict=True)]
        return _summary(counted, seconds, self._seen, used, own)

    def _drive(self, until: float, stop: str = "") -> None:
        look = time.monotonic()
        while (now := time.monotonic()) < until:
            if now >= look:
                look = now + 0.1
                self._tend(now)
                if stop and os.path.exists(stop):  # noqa: PTH110  ten times a second, under load
                    return
            for descriptor, _ in self._poll.poll(0.1):
                self._turn(self._by_descriptor[descriptor], goes_on=True)

    def _finish(self) -> None:
        """It lets no request go uncounted that fails after the window's end."""
        until = time.monotonic() + PATIENCE_SECONDS
        while any(caller.waits for caller in self._callers):
            if time.monotonic() > until:
                self._tend(time.monotonic(), opens=False)
                return
            for descriptor, _ in self._poll.poll(0.1):
                self._turn(self._by_descriptor[descriptor], goes_on=False)

    def _tend(self, now: float, *, opens: bool = True) -> None:
        """It gives up those that wait too long, and opens what is closed."""
        for caller in self._callers:
            if caller.waits and now - caller.sent > PATIENCE_SECONDS:
                self._seen.fail(f"no answer within {PATIENCE_SECONDS:g} s")
                caller.drop()
            if caller.socket is None and opens:
                self._open(caller)

    def _open(self, caller: Caller) -> None:
        try:
            caller.open(self._poll)
            assert caller.socket is not None
            self._by_descriptor[caller.socket.fileno()] = caller
            caller.ask()
        except OSError as error:
            self._seen.fail(f"cannot ask: {error}")
            caller.drop()

    def _turn(self, caller: Caller, *, goes_on: bool) -> None:
        """One caller's answer, or a part of it, and its next question."""
        if caller.socket is None:
            return
        try:
            if not caller.waits:
                raise ConnectionError("spoke or left without being asked")
            answer = caller.hear()
            if answer is None:
                return
            caller.judge(answer)
            if answer.closes:
                caller.drop()
                if goes_on:
                    self._open(caller)
            elif goes_on:
                caller.ask()
        except (OSError, ValueError) as error:
            # A server may close an idle connection; only a question without an answer has failed.
            if caller.waits:
                self._seen.fail(f"{type(error).__name__}: {error}")
            caller.drop()


def cpu_seconds(pids: Iterable[int]) -> list[float]:
    """It reads each process's time in user and kernel mode; one that has ended gives 0."""
    return [_cpu_seconds(pid) for pid in pids]


def _cpu_seconds(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return 0.0
    # The name in brackets may hold anything.
    rest = text.rpartition(")")[2].split()
    return (int(rest[11]) + int(rest[12])) / TICKS


def _joined(chunks: bytes) -> bytes | None:
    """It puts a chunked body together; None while it is not whole."""
    parts: list[bytes] = []
    while True:
        size, gap, rest = chunks.partition(b"\r\n")
        if not gap:
            return None
        length = int(size.partition(b";")[0], 16)
        if len(rest) < length + 2:
            return None
        if length == 0:
            return b"".join(parts)
        parts.append(rest[:length])
        chunks = rest[length + 2 :]


def _summary(
    counted: list[float], seconds: float, seen: Seen, used: list[float], own: float
) -> dict[str, Any]:
    times = [1000 * took for took in counted] or [0.0]
    return {
        "seconds": seconds,
        "requests": len(counted),
        "failed": seen.failed,
        "failures": seen.failures,
        "p50": percentile(times, 50),
        "p90": percentile(times, 90),
        "p99": percentile(times, 99),
        "most": max(times),
        "server_cpu_seconds": sum(used),
        "worker_cpu_seconds": used,
        "generator_cpu_seconds": own,
        "watched": seen.watched,
    }


def main(spec: Path, out: Path) -> None:
    """It reads what to do, does it, and writes what it saw."""
    given = json.loads(spec.read_bytes())
    if isinstance(given["address"], list):
        given["address"] = (given["address"][0], given["address"][1])
    gc.disable()  # nothing here makes cycles, and a collection would look like a slow server
    out.write_bytes(orjson.dumps(Load(Spec(**given)).run()))


def written(spec: Spec, path: Path) -> None:
    """It writes down what a generator shall do."""
    path.write_bytes(orjson.dumps(asdict(spec)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of a terminal: no traceback in the table
    main(Path(sys.argv[1]), Path(sys.argv[2]))
