"""The collector as a process: killed, cut off from its database, without a broker, and exact."""

import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Sum

from apps.monitoring.models import LogFile, Segment
from apps.serving.models import Endpoint
from mlops_portal.stack.config import ROOT
from tests.monitoring.making import START_US, access_log, append, line, record, spans

ROWS = 3_000  # a segment
SEGMENTS = 40


class Door:
    """A port before the database, which can be shut as when the database restarts."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener: socket.socket | None = None
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.port = 0
        self.open()

    def open(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
            held, self._open = self._open, []
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for each in held:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            database = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open += [caller, database]
            threading.Thread(target=_pass_on, args=(caller, database), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with one, other, selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in ready.select():
                try:
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    key.data.sendall(data)
                except OSError:
                    return
                if not data:
                    return


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door(int(connection.settings_dict["PORT"]))
    yield made
    made.shut()


def start(door: Door, var: Path) -> subprocess.Popen[bytes]:
    held = connection.settings_dict
    login = f"{held['USER']}:{held['PASSWORD']}"
    env = os.environ | {
        "PORTAL_VAR": str(var),
        "TMPDIR": str(var),
        "DATABASE_URL": f"postgresql://{login}@127.0.0.1:{door.port}/{held['NAME']}",
        "REDIS_URL": "redis://127.0.0.1:1/0",  # nothing answers there
    }
    with (var / "collector.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "collect"], cwd=ROOT, env=env, stdout=log, stderr=log
        )


def seal(folder: Path, number: int) -> None:
    whole = orjson.dumps(record(time.time_ns() // 1000, id="#")) + b"\n"
    before, behind = whole.split(b"#")
    path = folder / f"1.0.1-1.{number:08d}.open"
    first = number * ROWS
    path.write_bytes(b"".join(b"%b%d%b" % (before, first + i, behind) for i in range(ROWS)))
    path.rename(path.with_suffix(".seg"))


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited 60 s in vain for {what}"
        time.sleep(0.02)


def reached(segments: int) -> bool:
    return Segment.objects.count() >= segments


def counted(origin: str) -> int:
    seen = spans().filter(origin=origin).aggregate(total=Sum("requests"))
    return int(seen["total"] or 0)


@pytest.mark.django_db(transaction=True)
def test_killed_and_cut_off_it_counts_everything_once(
    endpoint: Endpoint, var: Path, door: Door
) -> None:
    assert endpoint.stable is not None
    folder = var / "spool" / str(endpoint.stable.pk)
    folder.mkdir(parents=True)
    log = access_log()
    stop = threading.Event()

    def stream() -> None:
        for number in range(SEGMENTS):
            seal(folder, number)
            append(log, line(START_US, endpoint.stable) * ROWS)
            stop.wait(0.05)

    writer = threading.Thread(target=stream)
    writer.start()
    process = start(door, var)
    try:
        for goal in (1, 20):
            until(f"{goal} segments", partial(reached, goal))
            process.send_signal(signal.SIGKILL)
            assert process.wait(10) == -signal.SIGKILL
            process = start(door, var)
        until("30 segments", partial(reached, 30))
        door.shut()
        before = Segment.objects.count()
        until("the warning", lambda: b"did not answer" in (var / "collector.log").read_bytes())
        assert Segment.objects.count() - before <= 64  # a batch that was being committed
        door.open()
        writer.join()
        until("all segments", lambda: counted("server") >= SEGMENTS * ROWS)
        until("all lines", lambda: counted("gateway") >= SEGMENTS * ROWS)
        until("the log", lambda: LogFile.objects.count() >= 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        stop.set()
        writer.join()
        process.kill()
        process.wait()
    assert counted("server") == SEGMENTS * ROWS
    assert counted("gateway") == SEGMENTS * ROWS
    ids = [
        int(each)
        for file in LogFile.objects.all()
        for each in pq.read_table(settings.STACK.var / "log" / file.path)["id"].to_pylist()
    ]
    waiting = [
        int(orjson.loads(each)["id"])
        for path in folder.glob("*.seg")
        for each in path.read_bytes().splitlines()
    ]
    assert sorted(ids + waiting) == list(range(SEGMENTS * ROWS))
    assert sum(LogFile.objects.values_list("rows", flat=True)) == len(ids)
    assert b"Traceback" not in (var / "collector.log").read_bytes()
