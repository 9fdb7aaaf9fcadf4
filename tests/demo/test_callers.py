"""The callers count every request once, lose none silently, and never ask twice."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import loops
from tests.demo.tiny_server import RESET, Answering, Request, TinyServer, http, tiny_server

SCRIPT = Path(__file__).parents[2] / "demo" / "callers.py"
INFER = "/production/v2/models/flight-delay/infer"
INVOCATIONS = "/production/endpoints/flight-delay/invocations"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "live.parquet"
    flights = [
        {
            "carrier": "UA",
            "tailnum": "" if number == 3 else f"N{number}",
            "flight_number": f"UA{number}",
            "time_hour": f"2013-07-{1 + number // 10:02}T10:00:00Z",
            "distance": float(number),
            "late": number % 2,
        }
        for number in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(flights), path)
    return path


async def start(port: int, rows: Path, *extra: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        "--url",
        f"http://127.0.0.1:{port}{INFER}",
        "--rows",
        str(rows),
        "--report",
        str(rows.with_name("report.json")),
        *extra,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def report_of(rows: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(rows.with_name("report.json").read_text())
    return report


def play(
    answering: Answering, rows: Path, *extra: str, until: int
) -> tuple[TinyServer, dict[str, Any]]:
    """It runs the callers until the server has seen `until` requests, then stops them."""

    async def run() -> TinyServer:
        async with tiny_server(answering) as server:
            process = await start(server.port, rows, *extra)
            await server.seen(until)
            process.terminate()
            code, out, err = await finish(process)
            assert (code, err) == (0, "")
            assert json.loads(out)["sent"] == len(server.requests)
            return server

    return loops.run(run()), report_of(rows)


def test_counts_answers_by_version_and_status(rows: Path) -> None:
    def answering(request: Request) -> bytes:
        if request.number % 4 == 3:
            return http(500, "2")
        return http(200, "1")

    server, report = play(answering, rows, "--rate", "400", until=40)

    seen = len(server.requests)
    failed = seen // 4
    assert report["sent"] == report["answered"] == seen
    assert (report["lost"], report["in_flight"], report["lost_examples"]) == (0, 0, [])
    assert report["by_status"] == {"200": seen - failed, "500": failed}
    assert report["by_version"] == {"1": {"200": seen - failed}, "2": {"500": failed}}
    assert list(report["first_error_at"]) == ["2"]
    assert report["started_at"] < report["first_error_at"]["2"] < report["ended_at"]
    assert [example["status"] for example in report["error_examples"]["2"]] == [500] * 5
    by_second = Counter[str]()
    for _, versions, _ in report["by_second"]:
        by_second.update(versions)
    assert by_second == {"1": seen - failed, "2": failed}
    assert sum(errors for _, _, errors in report["by_second"]) == failed
    for quantiles in (report["latency_ms"], *report["by_version_latency_ms"].values()):
        assert 0 < quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"]


def test_an_answer_of_the_gateway_itself_is_a_lost_request(rows: Path) -> None:
    def answering(request: Request) -> bytes:
        return http(503) if request.number == 2 else http(200, "1")

    server, report = play(answering, rows, "--rate", "200", until=10)

    seen = len(server.requests)
    assert (report["sent"], report["answered"], report["lost"]) == (seen, seen - 1, 1)
    assert report["by_status"] == {"200": seen - 1, "503": 1}
    assert report["by_version"] == {"1": {"200": seen - 1}}
    [example] = report["lost_examples"]
    assert example["status"] == 503
    assert example["reason"] == "answered by the gateway: {}"
    assert example["request_id"] == server.requests[2].headers["x-request-id"]


def test_a_reset_is_lost_and_never_sent_again(rows: Path) -> None:
    def answering(request: Request) -> bytes:
        return RESET if request.number in (1, 4) else http(200, "1")

    server, report = play(answering, rows, "--connections", "1", "--rate", "100", until=12)

    ids = [request.headers["x-request-id"] for request in server.requests]
    assert len(set(ids)) == len(ids) == report["sent"]
    assert (report["answered"], report["lost"]) == (len(ids) - 2, 2)
    assert [example["request_id"] for example in report["lost_examples"]] == [ids[1], ids[4]]
    assert server.connections == 3


def test_silence_is_lost_after_the_timeout(rows: Path) -> None:
    def answering(request: Request) -> bytes | None:
        return None if request.number == 0 else http(200, "1")

    server, report = play(
        answering, rows, "--connections", "1", "--timeout-seconds", "0.2", until=3
    )

    assert (report["sent"], report["lost"]) == (len(server.requests), 1)
    assert report["answered"] == len(server.requests) - 1
    [example] = report["lost_examples"]
    assert (example["status"], example["reason"]) == (None, "no answer within 0.2 s")


def test_a_closed_port_loses_every_request(rows: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: refuses, and nobody takes it
        port = closed.getsockname()[1]

        async def run() -> tuple[int, str, str]:
            return await finish(await start(port, rows, "--rate", "50", "--seconds", "0.5"))

        code, _, err = loops.run(run())

    report = report_of(rows)
    assert (code, err) == (0, "")
    assert report["sent"] == report["lost"] > 0
    assert (report["answered"], report["by_status"], report["by_version"]) == (0, {}, {})
    assert len(report["lost_examples"]) == 5
    assert "ConnectionRefusedError" in report["lost_examples"][0]["reason"]


def test_a_connection_that_the_server_closes_loses_nothing(rows: Path) -> None:
    def answering(_: Request) -> bytes:
        return http(200, "1", close=True)

    server, report = play(answering, rows, "--connections", "2", "--rate", "100", until=10)

    assert report["answered"] == report["sent"] == server.connections == len(server.requests)
    assert report["lost"] == 0


def test_sends_rows_in_time_order_four_of_five_as_v2(rows: Path) -> None:
    server, _ = play(lambda _: http(200, "1"), rows, "--connections", "1", until=45)

    kinds = [request.path for request in server.requests[:10]]
    assert kinds == [INFER, INFER, INFER, INFER, INVOCATIONS] * 2
    fourth, fifth = server.requests[3], server.requests[4]
    assert fourth.body == {
        "id": fourth.headers["x-request-id"],
        "inputs": [
            {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
            {"name": "tailnum", "shape": [1], "datatype": "BYTES", "data": [""]},
            {"name": "flight_number", "shape": [1], "datatype": "BYTES", "data": ["UA3"]},
            {
                "name": "time_hour",
                "shape": [1],
                "datatype": "BYTES",
                "data": ["2013-07-01T10:00:00Z"],
            },
            {"name": "distance", "shape": [1], "datatype": "FP64", "data": [3.0]},
        ],
    }
    columns = ["carrier", "tailnum", "flight_number", "time_hour", "distance"]
    assert fifth.body == {
        "dataframe_split": {
            "columns": columns,
            "data": [["UA", "N4", "UA4", "2013-07-01T10:00:00Z", 4.0]],
        }
    }
    # An aircraft that nobody knows must not send all such flights to one version.
    assert [one.headers["x-route-key"] for one in (fourth, fifth)] == ["UA3", "N4"]
    for request in server.requests:
        assert str(UUID(request.headers["x-request-id"])) == request.headers["x-request-id"]
        assert request.headers["x-caller"] == "airport-board"
    keys = [request.headers["x-route-key"] for request in server.requests]
    assert keys[40] == "N0"  # after the last row it begins anew
    assert server.connections == 1


def test_begins_with_the_day_that_was_asked_for(rows: Path) -> None:
    server, _ = play(
        lambda _: http(200, "1"), rows, "--first-day", "2013-07-04", "--connections", "3", until=12
    )

    # Three connections may overtake each other, so the order of arrival says nothing here.
    keys = Counter(request.headers["x-route-key"] for request in server.requests)
    assert keys == Counter(f"N{30 + number % 10}" for number in range(len(server.requests)))
    assert {request.headers["x-caller"] for request in server.requests} == {
        "airport-board",
        "crew-planning",
        "passenger-app",
    }


def test_the_report_is_whole_while_requests_are_sent(rows: Path) -> None:
    async def run() -> tuple[dict[str, Any], int]:
        async with tiny_server(lambda _: http(200, "1")) as server:
            process = await start(server.port, rows, "--rate", "100")
            await server.seen(1)
            running: dict[str, Any] = {"sent": 0}
            async with asyncio.timeout(30):
                while not running["sent"]:
                    running = report_of(rows)
                    await asyncio.sleep(0.01)
            process.terminate()
            await finish(process)
            return running, len(server.requests)

    running, seen = loops.run(run())

    assert running["ended_at"] is None
    assert running["sent"] == running["answered"] + running["in_flight"]
    assert report_of(rows)["sent"] == seen >= running["sent"]
    assert sorted(path.name for path in rows.parent.iterdir()) == ["live.parquet", "report.json"]


def test_a_slow_server_makes_it_skip_and_say_so(rows: Path) -> None:
    def answering(request: Request) -> bytes | None:
        return None if request.number == 0 else http(200, "1")

    server, report = play(
        answering,
        rows,
        *("--connections", "1", "--rate", "100", "--timeout-seconds", "1.5"),
        until=5,
    )

    assert (report["sent"], report["lost"]) == (len(server.requests), 1)
    assert report["skipped"] >= 40


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--first-day", "2014-01-01"], 1, "has no flight from 2014-01-01 on"),
        (["--url", "http://127.0.0.1:1/elsewhere"], 2, "give --invocations-url too"),
    ],
)
def test_refuses_before_anything_is_sent(
    rows: Path, extra: list[str], code: int, message: str
) -> None:
    async def run() -> tuple[tuple[int, str, str], int]:
        async with tiny_server(lambda _: http(200, "1")) as server:
            ended = await finish(await start(server.port, rows, *extra))
            return ended, server.connections

    (returned, out, err), connections = loops.run(run())

    assert (returned, out, connections) == (code, "", 0)
    assert message in err
    assert not rows.with_name("report.json").exists()
