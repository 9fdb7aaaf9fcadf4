"""Sends real flights of July to December to a model, in time order, and reports what came back.

Several named callers share the given rate over keep-alive connections. A request that fails is
counted and never sent again: what is lost stays visible.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from connection import Connection, NoAnswer
from tally import Tally

CALLERS = ("airport-board", "crew-planning", "passenger-app")
NOT_SENT = {"late", "known_at"}  # what nobody knows before the flight
ROWS_READ_AT_ONCE = 250  # small, so that reading never holds requests up for long
MAY_BE_BEHIND_SECONDS = 1.0
STOPS_WITHIN_SECONDS = 0.25  # however far away the next request is


@dataclass(frozen=True)
class Columns:
    """It knows the columns that are sent and their types in the Open Inference Protocol."""

    datatypes: Mapping[str, str]

    @classmethod
    def of(cls, schema: pa.Schema) -> Columns:
        """It takes the columns from the schema of the rows."""
        return cls({one.name: _datatype(one.type) for one in schema if one.name not in NOT_SENT})

    def v2(self, row: Mapping[str, Any], request_id: str) -> bytes:
        """It writes a row for the Open Inference Protocol V2: one tensor for each column."""
        inputs = [
            {"name": name, "shape": [1], "datatype": datatype, "data": [row[name]]}
            for name, datatype in self.datatypes.items()
        ]
        return orjson.dumps({"id": request_id, "inputs": inputs})

    def invocations(self, row: Mapping[str, Any]) -> bytes:
        """It writes a row for MLflow's scoring protocol."""
        names = list(self.datatypes)
        split = {"columns": names, "data": [[row[name] for name in names]]}
        return orjson.dumps({"dataframe_split": split})


def _datatype(kind: pa.DataType) -> str:
    if pa.types.is_floating(kind):
        return "FP64"
    return "INT64" if pa.types.is_integer(kind) else "BYTES"


def rows_in_time_order(path: Path, columns: Columns, first_day: str) -> Iterator[dict[str, Any]]:
    """It yields the flights from `first_day` on, and begins anew after the last."""
    while True:
        yielded = False
        batches = pq.ParquetFile(path).iter_batches(
            batch_size=ROWS_READ_AT_ONCE, columns=list(columns.datatypes)
        )
        for batch in batches:
            if batch.column("time_hour")[-1].as_py() < first_day:
                continue
            for row in batch.to_pylist():
                if row["time_hour"] >= first_day:
                    yielded = True
                    yield row
        if not yielded:
            raise SystemExit(f"{path} has no flight from {first_day} on")


class Schedule:
    """It says when each request is due, at an even rate, whoever sends it.

    A caller that finds all connections busy falls behind and catches up; what lies more than a
    second back is skipped and counted, or a long stall would end in a flood.
    """

    def __init__(self, rate: float, tally: Tally) -> None:
        self._interval_seconds = 1 / rate
        self._next = time.monotonic()
        self._tally = tally

    def take(self) -> float:
        """It returns the time, by the monotonic clock, at which the next request is due."""
        late_seconds = time.monotonic() - self._next - MAY_BE_BEHIND_SECONDS
        if late_seconds > 0:
            skipped = int(late_seconds / self._interval_seconds) + 1
            self._next += skipped * self._interval_seconds
            self._tally.skipped += skipped
        due = self._next
        self._next += self._interval_seconds
        return due


class Sender:
    """It sends rows one after the other over one connection until told to stop."""

    def __init__(self, options: argparse.Namespace, columns: Columns, tally: Tally) -> None:
        self._paths = (urlsplit(options.url).path, urlsplit(options.invocations_url).path)
        self._share = options.invocations_share
        self._columns, self._tally = columns, tally

    async def run(
        self,
        connection: Connection,
        caller: str,
        rows: Iterator[tuple[int, dict[str, Any]]],
        schedule: Schedule,
        stop: asyncio.Event,
    ) -> None:
        """It waits until a request is due, sends the next row, counts what comes back."""
        while not stop.is_set():
            due = schedule.take()
            while not stop.is_set() and (wait_seconds := due - time.monotonic()) > 0:
                await asyncio.sleep(min(wait_seconds, STOPS_WITHIN_SECONDS))
            if stop.is_set():
                break
            number, row = next(rows)
            await self._send(connection, caller, number, row)
        connection.close()

    async def _send(
        self, connection: Connection, caller: str, number: int, row: Mapping[str, Any]
    ) -> None:
        request_id = str(uuid4())
        # Spread evenly: of five requests in a row one takes the other protocol at a share of 0.2.
        other = int((number + 1) * self._share) > int(number * self._share)
        body = self._columns.invocations(row) if other else self._columns.v2(row, request_id)
        headers = {
            "x-request-id": request_id,
            "x-route-key": row["tailnum"] or row["flight_number"],
            "x-caller": caller,
        }
        self._tally.sent += 1
        started = time.perf_counter()
        try:
            answer = await connection.post(self._paths[other], headers, body)
        except NoAnswer as error:
            self._tally.no_answer(request_id, str(error))
            return
        seconds = time.perf_counter() - started
        version = answer.headers.get("x-model-version")
        self._tally.answer(request_id, answer.status, version, seconds, answer.body)


def write(path: Path, report: Mapping[str, Any]) -> None:
    """It replaces the report in one step, so that a reader never sees half of one."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(orjson.dumps(report))
    unfinished.replace(path)


async def report_every_second(path: Path, tally: Tally) -> None:
    """It keeps the report fresh until it is cancelled."""
    while True:
        write(path, tally.report())
        await asyncio.sleep(1)


async def send_all(options: argparse.Namespace) -> Tally:
    """It runs all connections until the time is over or a signal ends it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    columns = Columns.of(pq.read_schema(options.rows))
    numbered = enumerate(rows_in_time_order(options.rows, columns, options.first_day))
    # Taken here, so that a wrong file or day ends it before anything is sent.
    rows = itertools.chain([next(numbered)], numbered)
    address = urlsplit(options.url)
    gc.collect()
    gc.freeze()
    tally = Tally()
    sender, schedule = Sender(options, columns, tally), Schedule(options.rate, tally)
    if options.seconds:
        loop.call_later(options.seconds, stop.set)
    reporting = loop.create_task(report_every_second(options.report, tally))
    async with asyncio.TaskGroup() as group:
        for index in range(options.connections):
            connection = Connection(
                address.hostname or "", address.port or 80, options.timeout_seconds
            )
            caller = CALLERS[index % len(CALLERS)]
            group.create_task(sender.run(connection, caller, rows, schedule, stop))
    reporting.cancel()
    tally.end()
    write(options.report, tally.report())
    return tally


def arguments() -> argparse.Namespace:
    """It reads the command line; the second address follows from the first."""
    directory = Path(os.environ.get("FLIGHTS_DIRECTORY", "var/demo/flights"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="…/v2/models/NAME/infer")
    parser.add_argument("--invocations-url", help="…/endpoints/NAME/invocations of the same server")
    parser.add_argument("--invocations-share", type=float, default=0.2)
    parser.add_argument("--rows", type=Path, default=directory / "live.parquet")
    parser.add_argument("--first-day", default="2013-07-01", help="begin with this day's flights")
    parser.add_argument("--rate", type=float, default=250, help="requests a second in all")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--timeout-seconds", type=float, default=10)
    parser.add_argument("--seconds", type=float, help="stop by itself; else on SIGTERM")
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    if options.invocations_url is None:
        stem, found, name = options.url.removesuffix("/infer").partition("/v2/models/")
        if not found:
            parser.error("--url is no …/v2/models/NAME/infer: give --invocations-url too")
        options.invocations_url = f"{stem}/endpoints/{name}/invocations"
    return options


def main() -> None:
    """It sends until it is stopped and prints a summary as one line of JSON."""
    tally = asyncio.run(send_all(arguments()))
    summary = {name: getattr(tally, name) for name in ("sent", "answered", "lost", "skipped")}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
