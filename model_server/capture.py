"""It writes what was asked and answered into the spool, off the request path."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from model_server import segments
from model_server.log import event
from model_server.redaction import Redaction

FLUSH_SECONDS = 0.2
TURN_SECONDS = 0.0005
SEGMENT_SECONDS = 1.0
SEGMENT_BYTES = 8 << 20
MAX_RECORDS = 50_000
MAX_BYTES = 128 << 20
RAW_BYTES = 64 << 10


@dataclass(frozen=True)
class Record:
    """It is one inference request as it was answered."""

    id: str
    ts: int
    status: int
    us: int
    format: str
    caller: str
    shadow: bool
    request: bytes
    is_json: bool
    response: bytes
    error: str

    @property
    def has_failed(self) -> bool:
        """It tells whether the request got no answer that it came for."""
        return self.status >= 400

    def line(self, share: float = 1.0) -> bytes:
        """It writes the record as one JSON line; the bodies are spliced in, not parsed again.

        `share` is how likely it was that this record would be kept.
        """
        if self.is_json:
            # JSON allows line breaks between its tokens; here they would break the line.
            request = self.request.replace(b"\n", b" ").replace(b"\r", b" ")
        else:
            text = self.request[:RAW_BYTES].decode("utf-8", "replace")
            request = orjson.dumps({"raw": text})
        return (
            b'{"id":%b,"ts":%d,"status":%d,"us":%d,"format":"%b","caller":%b,"shadow":%b,'
            b'"request":%b,"response":%b,"error":%b%b}\n'
        ) % (
            orjson.dumps(self.id),
            self.ts,
            self.status,
            self.us,
            self.format.encode(),
            orjson.dumps(self.caller),
            b"true" if self.shadow else b"false",
            request,
            self.response,
            orjson.dumps(self.error),
            b"" if share >= 1 else b',"share":%b' % orjson.dumps(share),
        )

    def outline(self) -> bytes:
        """It writes what sums need of a record that is not kept."""
        return b'{"ts":%d,"status":%d,"us":%d,"shadow":%b,"kept":false}\n' % (
            self.ts,
            self.status,
            self.us,
            b"true" if self.shadow else b"false",
        )


@dataclass(frozen=True)
class Keeping:
    """It says what of the requests is written."""

    share: float = 1.0  # of those that did not fail
    redaction: Redaction | None = None

    def line(self, record: Record) -> bytes:
        """It writes what may be read of a record later."""
        is_whole = record.has_failed or self.share >= 1
        if not is_whole and not is_chosen(record.id, self.share):
            return record.outline()
        return self._redacted(record).line(1.0 if is_whole else self.share)

    def _redacted(self, record: Record) -> Record:
        rules = self.redaction
        if rules is None:
            return record
        is_v2 = record.format == "v2"
        return replace(
            record,
            request=rules.request(record.request, is_json=record.is_json, is_v2=is_v2),
            is_json=True,
            response=rules.response(record.response, record.status),
            error=rules.error(record.error),
        )


def is_chosen(request_id: str, share: float) -> bool:
    """It chooses by the id alone, so that replicas agree, and a request with its shadow."""
    digest = hashlib.blake2b(request_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


class Capture:
    """It takes records without waiting; a thread writes, syncs and seals segments."""

    def __init__(
        self,
        spool: Path,
        *,
        revision: str,
        replica: str,
        keeping: Keeping = Keeping(),
        max_records: int = MAX_RECORDS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.dropped = 0
        self.written = 0
        self._keeping = keeping
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._pending: list[Record] = []
        self._pending_bytes = 0
        self._told = 0
        self._failing = False
        # Without the lock a record could be appended to a list already written, and be lost.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._segment = _Segment(spool, revision=revision, replica=replica)
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """It starts the writing thread."""
        self._thread.start()

    def add(self, record: Record) -> None:
        """It keeps a record for the writer, or counts it as dropped when memory is full."""
        size = len(record.request) + len(record.response)
        with self._lock:
            full = len(self._pending) >= self._max_records
            if full or self._pending_bytes + size > self._max_bytes:
                self.dropped += 1
                return
            self._pending.append(record)
            self._pending_bytes += size

    def close(self) -> None:
        """It writes what is left and seals the segment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._flush(last=True)

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_SECONDS):
            self._flush(last=False)

    def _flush(self, *, last: bool) -> None:
        with self._lock:
            batch, self._pending = self._pending, []
            self._pending_bytes = 0
            dropped = self.dropped - self._told
        try:
            if dropped:
                now = time.time_ns() // 1000
                self._segment.append([b'{"dropped":%d,"ts":%d}\n' % (dropped, now)])
                self._told += dropped
            if batch:
                self._segment.append(self._lines(batch))
                self.written += len(batch)
            if last or self._segment.is_due():
                self._segment.seal()
            self._failing = False
        except OSError as error:
            with self._lock:
                self.dropped += len(batch)
            if not self._failing:
                event("capture_failed", error=str(error))
            self._failing = True

    def _lines(self, batch: list[Record]) -> list[bytes]:
        lines: list[bytes] = []
        turn = time.perf_counter()
        for record in batch:
            lines.append(self._keeping.line(record))
            if time.perf_counter() - turn > TURN_SECONDS:
                # Otherwise requests wait until the interpreter is taken away, which is 5 ms.
                time.sleep(0)
                turn = time.perf_counter()
        return lines


class _Segment:
    """It is the segment being written: made at its first line, sealed by size or age."""

    def __init__(self, spool: Path, *, revision: str, replica: str) -> None:
        self._spool = spool
        self._revision = revision
        self._replica = replica
        self._run = f"{time.time_ns() // 1_000_000}-{os.getpid()}"
        self._sequence = 0
        self._path: Path | None = None
        self._file = -1
        self._size = 0
        self._opened = 0.0

    def append(self, lines: list[bytes]) -> None:
        """It writes lines and syncs them; of a failed write no torn line stays behind."""
        if self._path is None:
            self._open()
        start = self._size
        try:
            for line in lines:
                view = memoryview(line)
                while view:
                    done = os.write(self._file, view)
                    self._size += done
                    view = view[done:]
                if self._size >= SEGMENT_BYTES:
                    self.seal()
                    self._open()
                    start = 0
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, start)
            self._size = start
            raise

    def is_due(self) -> bool:
        """It tells whether the collector should get this segment now."""
        return self._path is not None and time.monotonic() - self._opened >= SEGMENT_SECONDS

    def seal(self) -> None:
        """It syncs, renames and forgets the open segment, if there is one."""
        if self._path is None:
            return
        os.fsync(self._file)
        # A file that is gone was sealed or removed by someone else; waiting for it helps nobody.
        with contextlib.suppress(FileNotFoundError):
            if self._size:
                segments.seal(self._path)
            else:
                self._path.unlink()
        segments.sync_directory(self._spool)
        os.close(self._file)
        self._path, self._file, self._size = None, -1, 0

    def _open(self) -> None:
        name = segments.open_name(
            revision=self._revision, replica=self._replica, run=self._run, sequence=self._sequence
        )
        path = self._spool / name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._file = os.open(path, flags, 0o640)
        # The lock lives and dies with this process, so a successor knows whether it is gone.
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._path = path
        self._sequence += 1
        self._size = 0
        self._opened = time.monotonic()
