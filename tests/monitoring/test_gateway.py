"""The gateway's log becomes sums: every line once, through crashes and rotations."""

import json
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.db.models import Sum

from apps.monitoring import gateway_log, histogram
from apps.monitoring.models import TailPosition
from apps.monitoring.services import gateway, rollups
from apps.serving.backends import envoy, routing, unix
from apps.serving.models import Endpoint
from mlops_portal.stack import envoy as stack_envoy
from tests.monitoring.making import START_US, access_log, append, line, spans

AT = datetime(2030, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.django_db


def requests() -> int:
    return int(spans().aggregate(total=Sum("requests"))["total"] or 0)


def drain() -> gateway.Progress:
    """It counts all there is."""
    total = gateway.Progress()
    while True:
        progress = gateway.count()
        total.rows += progress.rows
        total.endpoints |= progress.endpoints
        total.nowhere += progress.nowhere
        if not progress.more:
            return total


def test_without_a_log_there_is_nothing_to_count(endpoint: Endpoint) -> None:
    assert gateway.count() == gateway.Progress()
    assert not TailPosition.objects.exists()


def test_sums_are_what_callers_got(endpoint: Endpoint) -> None:
    stable, candidate = endpoint.revisions.order_by("number")
    append(
        access_log(),
        line(START_US, stable, us=1000)
        + line(START_US + 1, stable, us=4000)
        + line(START_US + 2, stable, code=404, us=10)
        + line(START_US + 3, stable, code=503, us=10)
        + line(START_US + 4, stable, code=0, us=None)
        + line(START_US + 10_000_000, stable)
        + line(START_US, candidate, us=7000)
        + line(START_US, candidate, method="GET"),
    )
    progress = drain()
    assert (progress.endpoints, progress.rows) == ({endpoint.pk}, 7)
    first, second = spans().filter(revision=stable).order_by("at")
    assert (first.at, second.at) == (AT, AT + timedelta(seconds=10))
    assert (first.origin, first.width_seconds) == ("gateway", 10)
    assert (first.requests, first.client_errors, first.server_errors) == (5, 1, 2)
    assert first.latency_count == 2
    expected = histogram.from_us([1000, 4000])
    assert histogram.unpack(first.latency_bins).tolist() == expected.tolist()
    assert second.requests == 1
    assert spans().get(revision=candidate).requests == 1


def test_what_people_try_out_is_no_callers_traffic(endpoint: Endpoint) -> None:
    assert endpoint.stable is not None
    append(
        access_log(),
        line(START_US, endpoint.stable, code=500, route="production/flights!forced")
        + line(START_US, None, code=403, route="production/flights!forced"),
    )

    progress = drain()

    assert (spans().count(), progress.rows, progress.nowhere) == (0, 0, {})


def test_what_reached_no_model_counts_for_the_stable_revision(endpoint: Endpoint) -> None:
    append(
        access_log(),
        line(START_US, None, code=503, us=20)
        + line(START_US, None, code=404, route="none")
        + line(START_US, None, code=503, route="production/unknown")
        + line(START_US, None, cluster="production.flights.r987654")
        + b"not json\n",
    )
    progress = drain()
    row = spans().get()
    assert (row.revision_id, row.requests, row.server_errors) == (endpoint.stable_id, 1, 1)
    assert progress.nowhere == {
        "404": 1,
        "production/unknown, which serves nothing": 1,
        "revision 987654, which is gone": 1,
        "torn": 1,
    }


def test_a_line_that_is_being_written_waits_for_its_end(endpoint: Endpoint) -> None:
    whole = line(START_US, endpoint.stable)
    append(access_log(), whole + whole[:30])
    assert drain().rows == 1
    assert drain().rows == 0
    append(access_log(), whole[30:])
    assert drain().rows == 1
    assert TailPosition.objects.get().offset == 2 * len(whole)


def test_chunks_make_no_difference(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_log, "CHUNK_BYTES", 1000)
    append(access_log(), b"".join(line(START_US + i, endpoint.stable) for i in range(50)))
    assert drain().rows == 50
    assert requests() == 50


def test_the_position_moves_only_with_the_sums(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(access_log(), line(START_US, endpoint.stable))

    def fail(*_: object) -> None:
        raise OperationalError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(rollups, "add", fail)
        with pytest.raises(OperationalError):
            gateway.count()
    assert TailPosition.objects.get().offset == 0
    drain()
    assert requests() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("committed", [False, True])
def test_a_database_that_goes_at_the_commit_counts_nothing_twice(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    append(access_log(), line(START_US, endpoint.stable))
    assert gateway._place() is not None
    real = connection._commit  # type: ignore[attr-defined]

    def gone() -> None:
        if committed:
            real()
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    with monkeypatch.context() as broken:
        broken.setattr(connection, "_commit", gone)
        with pytest.raises(OperationalError):
            gateway.count()
        connection.close()
    assert requests() == int(committed)
    drain()
    assert requests() == 1


def test_lines_that_another_process_counted_are_not_counted_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(access_log(), line(START_US, endpoint.stable))
    place = gateway._place()
    drain()
    monkeypatch.setattr(gateway, "_place", lambda: place)
    with pytest.raises(gateway.PositionMoved):
        gateway.count()
    assert requests() == 1


@contextmanager
def admin_that_reopens(log: Path) -> Iterator[list[str]]:
    """The gateway's admin socket: it opens the log anew when it is told to."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            calls.append(self.path)
            log.touch()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(settings.STACK.gateway_admin), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield calls
        finally:
            server.shutdown()
            thread.join()


def test_a_large_log_is_put_aside_and_read_to_its_end(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, var: Path
) -> None:
    monkeypatch.setattr(gateway_log, "ROTATED_OVER_BYTES", 100)
    log = access_log()
    append(log, line(START_US, endpoint.stable))
    drain()
    append(log, line(START_US, endpoint.stable))
    old = log.with_name("access.log.7")
    with admin_that_reopens(log) as calls:
        gateway.rotate(mark=7)
        assert calls == ["/reopen_logs"]
    assert old.exists()
    append(log, line(START_US, endpoint.stable))
    gateway.rotate(mark=8)  # not before the old one was read
    assert not log.with_name("access.log.8").exists()
    assert drain().rows == 2
    assert requests() == 3
    assert not old.exists()
    assert TailPosition.objects.get().inode == log.stat().st_ino


def test_a_gateway_that_was_not_told_is_told_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway_log, "ROTATED_OVER_BYTES", 100)
    log = access_log()
    append(log, line(START_US, endpoint.stable))
    drain()
    gateway.rotate(mark=7)
    assert "was not told" in caplog.text
    append(log.with_name("access.log.7"), line(START_US, endpoint.stable))  # it still writes there
    assert drain().rows == 1
    with admin_that_reopens(log) as calls:
        gateway.rotate(mark=8)
        assert calls == ["/reopen_logs"]
    append(log, line(START_US, endpoint.stable))
    assert drain().rows == 1
    assert requests() == 3


def test_a_log_cut_off_or_replaced_is_read_from_its_beginning(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    log = access_log()
    append(log, line(START_US, endpoint.stable) * 2)
    drain()
    log.write_bytes(line(START_US, endpoint.stable))
    assert drain().rows == 1
    assert "was cut off" in caplog.text
    other = log.with_name("new")
    other.write_bytes(line(START_US, endpoint.stable) * 3)
    other.rename(log)
    assert drain().rows == 3
    assert "was replaced" in caplog.text


@pytest.mark.parametrize(
    ("hung_up", "client_errors"),
    [
        ({"flags": "DC", "attempts": 1}, 1),
        ({"flags": "DC", "attempts": None, "cluster": None}, 1),
        ({"flags": "URX,DC", "attempts": 1}, 1),
        ({"flags": "DC", "attempts": 2}, 0),  # it waited longer than one try may take
        ({"flags": "-", "attempts": 1}, 0),
        ({"flags": None, "attempts": None}, 0),
    ],
)
def test_a_caller_that_hangs_up_is_no_error_of_ours(
    endpoint: Endpoint, hung_up: dict[str, object], client_errors: int
) -> None:
    append(access_log(), line(START_US, endpoint.stable, **{"code": 0, "us": None, **hung_up}))
    drain()
    row = spans().get()
    assert (row.requests, row.latency_count) == (1, 0)
    assert (row.client_errors, row.server_errors) == (client_errors, 1 - client_errors)


@pytest.mark.parametrize("mangled", [{"ts": str(10**30)}, {"ts": "-1"}, {"us": -1}, {"code": 1e9}])
def test_a_mangled_line_stops_nothing(endpoint: Endpoint, mangled: dict[str, object]) -> None:
    whole = line(START_US, endpoint.stable)
    append(access_log(), whole + line(START_US, endpoint.stable, **mangled) + whole)
    assert drain().nowhere == {"torn": 1}
    assert requests() == 2


def copied(folder: Path) -> None:
    """It puts a copy of a directory in its place, as a backup that was restored."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    folder.rename(folder.with_name("was"))
    copy.rename(folder)


def test_a_copied_log_is_read_on_where_the_first_one_ended(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    log = access_log()
    append(log, b"".join(line(START_US, endpoint.stable) for _ in range(3)))
    drain()
    append(log, line(START_US, endpoint.stable))
    copied(log.parent)
    append(log, line(START_US, endpoint.stable))
    assert drain().rows == 2
    assert requests() == 5
    assert "was copied" in caplog.text
    assert TailPosition.objects.get().inode == log.stat().st_ino


def test_an_older_copy_is_read_on_at_its_end(endpoint: Endpoint) -> None:
    log = access_log()
    append(log, line(START_US, endpoint.stable) * 2)
    drain()
    older = log.with_name("older")
    shutil.copy(log, older)
    append(log, line(START_US, endpoint.stable) * 3)
    drain()
    older.replace(log)
    assert drain().rows == 0
    append(log, line(START_US, endpoint.stable))
    assert drain().rows == 1
    assert requests() == 6


def test_a_copy_whose_files_have_each_others_inodes_is_read_on(endpoint: Endpoint) -> None:
    log = access_log()
    old = log.with_name("access.log.7")
    append(old, line(START_US, endpoint.stable) * 2)
    assert gateway.count().rows == 2  # and the file stays, as nothing stands behind it
    append(log, line(START_US, endpoint.stable) * 4)
    one, two = old.read_bytes(), log.read_bytes()
    old.rename(log.with_name("swap"))
    log.rename(old)
    log.with_name("swap").rename(log)
    old.write_bytes(one)
    log.write_bytes(two)
    assert drain().rows == 4
    assert requests() == 6


@contextmanager
def replica_that_hangs(path: Path) -> Iterator[None]:
    """A model server that is ready and never answers a request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            ended.wait(30)
            self.close_connection = True

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        block_on_close = False

    ended = threading.Event()
    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def hang_up(is_due: Callable[[], bool]) -> None:
    """It asks and leaves before the answer."""
    http = HTTPConnection("127.0.0.1", settings.STACK.gateway_port, timeout=5)
    http.request("POST", "/production/v2/models/flights/infer", body=b"{}")
    until(is_due)
    http.close()


def test_the_real_gateway_tells_impatient_callers_from_a_candidate_that_hangs(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    assert endpoint.stable is not None
    home = settings.STACK.var / "gateway"
    image = stack_envoy.prepare(settings.STACK)
    name = envoy.cluster_name("production", "flights", endpoint.stable.pk)
    route = routing.Route(
        "production",
        "flights",
        [routing.Target(name, endpoint.stable.pk, 1, 1000)],
        timeouts=routing.Timeouts(request_seconds=20, try_seconds=2),
    )
    for file, document in {
        "cds.json": envoy.clusters("1", [envoy.cluster(name, [tmp_path / "r.sock"])]),
        "lds.json": envoy.listeners("1", port=settings.STACK.gateway_port, home=home),
        "rds.json": routing.routes("1", [route]),
    }.items():
        (home / file).write_text(json.dumps(document))
    with replica_that_hangs(tmp_path / "r.sock"):
        process = subprocess.Popen(
            image.argv, env=dict(image.env), cwd=home, stderr=subprocess.DEVNULL
        )
        try:
            until(is_listening)
            hang_up(lambda: upstream("rq_active") == 1)
            assert drained_until(1) == 1
            hang_up(lambda: upstream("rq_retry") == 1)
            assert drained_until(1) == 1
        finally:
            process.terminate()
            process.wait(10)
    rows = list(spans().all())
    assert sum(row.client_errors for row in rows) == 1
    assert sum(row.server_errors for row in rows) == 1


def test_the_real_gateway_writes_what_is_read_and_opens_a_new_log(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = settings.STACK.var / "gateway"
    image = stack_envoy.prepare(settings.STACK)
    route = routing.Route("production", "flights", [])
    for name, document in {
        "lds.json": envoy.listeners("1", port=settings.STACK.gateway_port, home=home),
        "rds.json": routing.routes("1", [route]),
    }.items():
        (home / name).write_text(json.dumps(document))
    monkeypatch.setattr(gateway_log, "ROTATED_OVER_BYTES", 1)
    before = int(time.time()) // 10 * 10
    process = subprocess.Popen(image.argv, env=dict(image.env), cwd=home, stderr=subprocess.DEVNULL)
    try:
        until(lambda: ask() == 503)
        asked = 1
        total = drained_until(asked)
        gateway.rotate(mark=1)
        assert ask() == 503
        total += drained_until(asked + 1 - total)
        assert total == 2
        assert not (home / "access.log.1").exists()
    finally:
        process.terminate()
        process.wait(10)
    rows = list(spans().all())
    assert sum(row.server_errors for row in rows) == sum(row.requests for row in rows) == 2
    assert {row.revision_id for row in rows} == {endpoint.stable_id}
    assert all(before <= row.at.timestamp() <= time.time() for row in rows)


def ask() -> int:
    http = HTTPConnection("127.0.0.1", settings.STACK.gateway_port, timeout=5)
    try:
        http.request("POST", "/production/v2/models/flights/infer", body=b"{}")
        answer = http.getresponse()
        answer.read()
        return answer.status
    except OSError:
        return 0
    finally:
        http.close()


def is_listening() -> bool:
    try:
        socket.create_connection(("127.0.0.1", settings.STACK.gateway_port), 1).close()
    except OSError:
        return False
    return True


def upstream(counter: str) -> int:
    """What the gateway's statistics say of its one cluster."""
    answer = unix.get(settings.STACK.gateway_admin, "/stats?filter=upstream_", timeout_seconds=5)
    assert answer is not None
    found = re.search(
        rf"^cluster\.production.*\.upstream_{counter}: (\d+)$", answer[1].decode(), re.M
    )
    return int(found[1]) if found else 0


def drained_until(wanted: int) -> int:
    counted = 0

    def enough() -> bool:
        nonlocal counted
        counted += drain().rows
        return counted >= wanted

    until(enough)
    return counted


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
