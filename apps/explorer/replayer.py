"""Asks a revision what others were asked, and compares its answers with theirs."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from django.template.defaultfilters import pluralize
from django.utils import timezone

from apps.explorer import answers, results, scan, services
from apps.explorer.lifecycle import LONGEST, MOST_REPLAYED
from apps.explorer.models import Replay
from apps.jobs.services import Failed, Running
from apps.monitoring.selectors import requests
from apps.serving import selectors as serving
from apps.serving.services import asking

MOST_SECONDS = 600
ASK_SECONDS = 30.0
TELL_SECONDS = 0.5
SILENT_IN_A_ROW = 5  # then nobody is there any more
EQUAL, DIFFERING, FAILED, LEFT_OUT = "equal", "differing", "failed", "left_out"
WORST_FIRST = (FAILED, DIFFERING, LEFT_OUT, EQUAL)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("revision", pa.int64(), nullable=False),  # that answered then
        pa.field("version", pa.int32(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("words", pa.string(), nullable=False),
        pa.field("difference", pa.float64()),  # the largest of two numbers
        pa.field("status_before", pa.int16(), nullable=False),
        pa.field("status_after", pa.int16()),
        pa.field("error_before", pa.string()),  # what the model raised then
        pa.field("request", pa.string()),  # JSON, as the following ones
        pa.field("before", pa.string()),
        pa.field("after", pa.string()),
    ]
)
_COLUMNS = (
    "id", "at", "revision", "version", "status", "shadow", "format", "request", "response", "error",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    kind: str
    words: str = ""
    difference: float | None = None
    status: int | None = None
    after: str | None = None


def work(replay_id: int, running: Running) -> None:
    """It sends each request once and writes down what came of it; a second attempt starts anew.

    Raises: jobs.services.Failed when it cannot be done; Cancelled, LeaseLost.
    """
    replay = Replay.objects.select_related(
        "search", "revision__version", "revision__endpoint__environment", "endpoint"
    ).get(pk=replay_id)
    none = dict.fromkeys(("done", EQUAL, DIFFERING, FAILED, LEFT_OUT), 0)
    asked = list(islice(_requests(replay), MOST_REPLAYED))
    if not services.begin(row=replay, running=running, total=len(asked), **none):
        return  # the attempt before was lost after it had finished
    if not asked:
        raise Failed("There is no such request in the log any more")
    _Work(replay, running).all(asked)


def _requests(replay: Replay) -> Iterator[Mapping[str, Any]]:
    """It gives each recorded request once, the newest first."""
    if replay.search is None:
        since = replay.created_at - LONGEST
        found = requests.find_request(replay.endpoint, replay.request_id, since)
        for row in found:
            if not row["shadow"]:
                yield row
        return
    path = results.folder() / replay.search.result_path
    seen = set()
    try:
        results.check(path, replay.search.digest)
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=500, columns=list(_COLUMNS)):
                for row in batch.to_pylist():
                    key = (row["id"], row["at"], row["revision"], row["shadow"])
                    if key not in seen:  # a request of many rows is many lines
                        seen.add(key)
                        read = {name: results.read_json(row[name]) for name in _BODIES}
                        yield {**row, **read}
    except (results.ResultGone, *results.UNREADABLE):
        raise Failed("The search's result is gone; search again") from None


_BODIES = ("request", "response")


class _Work:
    """One attempt: what it counted, what it keeps of each request."""

    def __init__(self, replay: Replay, running: Running) -> None:
        self.replay = replay
        self.running = running
        self.redacted = list(serving.serving_part(replay.endpoint).capture.redact)
        self.counts = dict.fromkeys((EQUAL, DIFFERING, FAILED, LEFT_OUT), 0)
        self.largest: float | None = None
        self.rows: list[dict[str, Any]] = []
        self.silent = 0
        self.until = time.monotonic() + MOST_SECONDS

    def all(self, asked: list[Mapping[str, Any]]) -> None:
        told = time.monotonic()
        for row in asked:
            self.running.check()
            if time.monotonic() > self.until:
                break
            self._take(row, self._outcome(row))
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                services.note(row=self.replay, running=self.running, **self._facts())
        self._finish()

    def _outcome(self, row: Mapping[str, Any]) -> Outcome:
        why = answers.why_not(row["request"], row["format"] or "", self.redacted)
        if why:
            return Outcome(LEFT_OUT, why)
        answer = asking.copy(
            revision=self.replay.revision,
            path=answers.place(row["format"], self.replay.endpoint.name),
            body=orjson.dumps(row["request"]),
            request_id=row["id"],
            timeout_seconds=ASK_SECONDS,
        )
        if answer is None:
            self.silent += 1
            if self.silent >= SILENT_IN_A_ROW:
                number = self.replay.revision.number
                raise Failed(f"Revision {number} does not answer; does it still run?")
            return Outcome(FAILED, f"No whole answer within {ASK_SECONDS:g} s")
        self.silent = 0
        return _compared(row, *answer)

    def _take(self, row: Mapping[str, Any], outcome: Outcome) -> None:
        self.counts[outcome.kind] += 1
        if outcome.difference is not None:
            self.largest = max(self.largest or 0.0, outcome.difference)
        self.rows.append(
            {
                "id": row["id"],
                "at": row["at"],
                "revision": row["revision"],
                "version": row["version"],
                "outcome": outcome.kind,
                "words": outcome.words,
                "difference": outcome.difference,
                "status_before": row["status"],
                "status_after": outcome.status,
                "error_before": row["error"] or None,
                "request": _text(row["request"]),
                "before": _text(row["response"]),
                "after": outcome.after,
            }
        )

    def _facts(self) -> dict[str, Any]:
        return {**self.counts, "done": len(self.rows), "largest_difference": self.largest}

    def _finish(self) -> None:
        self.running.check()
        folder = results.folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"replay-{self.replay.pk}{results.SUFFIX}"
        unfinished = path.with_suffix(f".{self.running.job.attempt}")
        try:
            pq.write_table(pa.Table.from_pylist(self.rows, SCHEMA), unfinished, compression="zstd")
            unfinished.chmod(0o600)
            digest = results.keep(unfinished, path)
        except OSError as failed:
            unfinished.unlink(missing_ok=True)
            if not scan.is_of_room(failed):
                raise
            raise Failed("The disk has no room for the result") from failed
        services.finish(
            row=self.replay,
            running=self.running,
            now=timezone.now(),
            result_path=path.name,
            size_bytes=path.stat().st_size,
            digest=digest,
            reason=self._left(),
            **self._facts(),
        )

    def _left(self) -> str:
        words = []
        left = self.replay.total - len(self.rows)
        if left:
            seconds = timedelta(seconds=MOST_SECONDS)
            words.append(
                f"Stopped after {seconds}; {left} request{pluralize(left, ' was,s were')} not asked"
            )
        why = {row["words"] for row in self.rows if row["outcome"] == LEFT_OUT}
        if why:
            number = self.counts[LEFT_OUT]
            words.append(f"{number} could not be replayed: {'; '.join(sorted(why))}")
        return ". ".join(words)


def _compared(row: Mapping[str, Any], status: int, body: bytes) -> Outcome:
    after = body.decode("utf-8", "replace")
    before_failed, after_failed = row["status"] >= 400, status >= 400
    if before_failed or after_failed:
        words = f"It was answered with {row['status']}, now with {status}"
        if row["status"] == status:
            return Outcome(EQUAL, f"Refused with {status} as then", None, status, after)
        kind = FAILED if after_failed else DIFFERING
        return Outcome(kind, words, None, status, after)
    try:
        found = answers.compare(row["response"], orjson.loads(body))
    except orjson.JSONDecodeError:
        return Outcome(FAILED, "The answer is no JSON", None, status, after)
    kind = EQUAL if found.equal else DIFFERING
    return Outcome(kind, found.words, found.largest, status, after)


def _text(body: Any) -> str:
    return orjson.dumps(body).decode()
