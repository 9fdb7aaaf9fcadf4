"""Looks through files of the log, one after the other: `python -P -m apps.explorer.scan SPEC`.

A process of its own, so that memory and time are bounded and it can be ended at any moment. It
imports DuckDB and nothing of ours that knows a database. What it is told stands in a JSON file
(`Spec`); how far it is it writes into another one, which at the end says what was found.

Values are bound. Names of columns are those of the files themselves, quoted: a question's columns
are only ever looked up among them. Should a query nevertheless say what it must not, or a file
break the library that reads it, there is nothing else to be had: the kernel (Landlock, where it has
it) and DuckDB both give this process the spec's files to read and its directory to write.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from apps.core import duck, sandbox
from apps.core.sandbox_exec import confine
from apps.explorer.question import BOOL, NUMBER, TEXT, Condition, Question, from_json

OUT_OF_MEMORY, NO_ROOM, SPILLED = 3, 4, 5  # what it ends with
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ = "read_parquet(?, hive_partitioning = false, file_row_number = true)"
_COMPARED = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_KINDS = {"DOUBLE": NUMBER, "BOOLEAN": BOOL, "VARCHAR": TEXT}
_FIXED = {"SMALLINT": NUMBER, "INTEGER": NUMBER, "BIGINT": NUMBER, "FLOAT": NUMBER}


@dataclass(frozen=True)
class File:
    """A file of the log and the files of its rows that are looked through."""

    log: str
    rows: Sequence[str]
    last_us: int  # of its newest row


@dataclass(frozen=True)
class Spec:
    question: dict[str, Any]
    files: Sequence[File]  # the newest first
    work: str  # an empty directory
    result: str
    progress: str
    memory_mb: int
    spill_mb: int  # what it may write beside its memory
    threads: int
    seconds: float


@dataclass
class Progress:
    total: int
    done: int = 0
    found: int = 0  # rows that fit, of which the result has the first or a sample
    gone: int = 0  # files whose time was over meanwhile
    broken: list[str] = field(default_factory=list)  # files that could not be read
    shown: int = 0
    stopped: str = ""  # why the other files were not looked through
    finished: bool = False


def read_spec(path: Path) -> Spec:
    told = json.loads(path.read_text())
    return Spec(**{**told, "files": [File(**one) for one in told["files"]]})


def main(path: Path) -> int:
    os.nice(10)  # those who wait for an answer of a model come first
    spec = read_spec(path)
    keep_to(spec)
    try:
        Scan(spec).run()
    except (MemoryError, duckdb.OutOfMemoryException) as short:
        sys.stderr.write(f"{_first_line(short)}\n")
        return SPILLED if duck.is_of_spill(short) else OUT_OF_MEMORY
    except (OSError, duckdb.IOException) as failed:
        if not is_of_room(failed):
            raise
        sys.stderr.write(f"{_first_line(failed)}\n")
        return NO_ROOM
    return 0


def is_of_room(error: Exception) -> bool:
    """It tells whether something could not be written because the disk is full."""
    # DuckDB's errors are words only; a broken file that is read never has these.
    return any(os.strerror(code) in str(error) for code in _FULL)


def keep_to(spec: Spec) -> None:
    """It takes every path away from this process but those of the spec and what Python needs.

    By the process itself, since thousands of names are longer than a command may be. Before
    DuckDB has threads: those that run already would keep what they have.
    """
    needed = [*sandbox.read_by(Path(sys.executable)), *_inputs(spec)]
    confine([str(path) for path in needed], [spec.work])


def _inputs(spec: Spec) -> list[str]:
    return [path for file in spec.files for path in (file.log, *file.rows)]


class Scan:
    """One search: it keeps the best rows so far, each file's in a file of its own."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.question = from_json(spec.question)
        self.progress = Progress(total=len(spec.files))
        self.parts: list[str] = []
        self.until = time.monotonic() + spec.seconds
        self.db = duck.opened(
            _inputs(spec),
            folder=spec.work,
            threads=spec.threads,
            memory_mb=spec.memory_mb // 2,  # it does not count all it takes
            spill_mb=spec.spill_mb,
            preserve_insertion_order=False,
        )
        self.db.execute("create temp table best (key hugeint)")

    def run(self) -> None:
        self._tell()
        for file in self.spec.files:
            self.progress.stopped = self._why_stop(file)
            if self.progress.stopped:
                break
            self._look_into(file)
            self.progress.done += 1
            self._tell()
        self.progress.shown = self._write()
        self.progress.finished = True
        self._tell()

    def _why_stop(self, file: File) -> str:
        if time.monotonic() > self.until:
            return "time"
        bar = self._bar()
        if self.question.order == "newest" and bar is not None and -file.last_us > bar:
            return "enough"  # nothing in this file or behind it is as new as what is kept
        return ""

    def _look_into(self, file: File) -> None:
        for path in file.rows:
            try:
                self._look_at(path, file.log)
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                # Every other file would fail in the same way, and be called broken.
                if is_of_room(error):
                    raise
                if not (Path(path).exists() and Path(file.log).exists()):
                    self.progress.gone += 1
                else:
                    self.progress.broken.append(f"{Path(path).name}: {_first_line(error)}")

    def _look_at(self, path: str, log: str) -> None:
        where, values = where_of(self.question, columns(self.db, path))
        self._take_failed(log)
        self.db.execute(
            "create or replace temp table hits as select r.file_row_number as n,"
            f' {self._key()} as key, r.id, r.revision, r.shadow, r."at"'
            f" from {_READ} r where {where}{self._and_failed()}",
            [path, *values],
        )
        [found] = self._one("select count(*) from hits")
        bar = self._bar()
        chosen = "create or replace temp table chosen as select * from hits"
        chosen += "" if bar is None else f" where key < {bar:d}"
        self.db.execute(f"{chosen} order by key, n limit {self.question.limit:d}")
        [kept] = self._one("select count(*) from chosen")
        if kept:
            self._keep(path, log)
        # Not before: its file may go while its rows are copied, and what was lost is not found.
        self.progress.found += found

    def _keep(self, path: str, log: str) -> None:
        part = str(Path(self.spec.work) / f"{len(self.parts):06d}.parquet")
        # The log's large columns are only read where an id is wanted.
        self.db.execute(
            "copy (select r.* exclude (file_row_number), l.format, l.request, l.response, l.error,"
            f' c.key as "key" from {_READ} r join chosen c on r.file_row_number = c.n'
            f' left join (select id, "at", revision, shadow, format, request, response, error'
            f" from read_parquet(?, hive_partitioning = false)"
            " where id in (select id from chosen)) l"
            ' on l.id = r.id and l."at" = r."at" and l.revision = r.revision'
            " and l.shadow = r.shadow) to ? (format parquet, compression zstd)",
            [path, log, part],
        )
        self.parts.append(part)
        self.db.execute("insert into best select key from chosen")
        self.db.execute(
            "create or replace temp table best as select key from best"
            f" order by key limit {self.question.limit:d}"
        )

    def _take_failed(self, log: str) -> None:
        """The words of an error stand in the log only."""
        if self.question.error:
            self.db.execute(
                'create or replace temp table failed as select id, "at", revision, shadow'
                " from read_parquet(?, hive_partitioning = false) where contains(error, ?)",
                [log, self.question.error],
            )

    def _and_failed(self) -> str:
        if not self.question.error:
            return ""
        return (
            ' and exists (select 1 from failed f where f.id = r.id and f."at" = r."at"'
            " and f.revision = r.revision and f.shadow = r.shadow)"
        )

    def _key(self) -> str:
        """What rows are chosen by, the least first."""
        if self.question.order == "newest":
            return 'cast(-epoch_us(r."at") as hugeint)'
        return 'cast(hash(r.id, r."row", r.revision, r.shadow) as hugeint)'

    def _bar(self) -> int | None:
        """The key above which nothing is kept any more; None while there is room."""
        kept, bar = self._one("select count(*), max(key) from best")
        return int(bar) if kept >= self.question.limit else None

    def _write(self) -> int:
        """It puts the parts together and gives how many rows there are."""
        if not self.parts:
            return 0
        bar = self._bar()
        # Each part holds what was best when it was written; by now there may be better.
        best = "" if bar is None else f' where "key" <= {bar:d}'
        self.db.execute(
            'copy (select * exclude ("key") from read_parquet(?, hive_partitioning = false,'
            f' union_by_name = true){best} order by "at" desc, id, "row"'
            f" limit {self.question.limit:d}) to ? (format parquet, compression zstd)",
            [self.parts, self.spec.result],
        )
        [rows] = self._one(
            "select count(*) from read_parquet(?, hive_partitioning = false)", [self.spec.result]
        )
        return int(rows)

    def _one(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
        row: tuple[Any, ...] | None = self.db.execute(query, list(values)).fetchone()
        assert row is not None
        return row

    def _tell(self) -> None:
        path = Path(self.spec.progress)
        unfinished = path.with_suffix(".tmp")
        unfinished.write_text(json.dumps(asdict(self.progress)))
        unfinished.rename(path)


def columns(db: duckdb.DuckDBPyConnection, path: str) -> dict[str, tuple[str, str]]:
    """It gives the quoted name and the kind of each column of a file by its name in the file.

    DuckDB takes names that differ in capitals only for one and calls the second one otherwise.
    """
    told = db.execute(f"describe select * exclude (file_row_number) from {_READ}", [path])
    seen = [(name, str(kind)) for name, kind, *_ in told.fetchall()]
    kinds = _KINDS | _FIXED
    return {
        real: (quoted(name), kinds.get(kind, kind))
        for real, (name, kind) in zip(_real_names(db, path), seen, strict=True)
    }


def _real_names(db: duckdb.DuckDBPyConnection, path: str) -> list[str]:
    told = db.execute("select name, num_children from parquet_schema(?)", [path]).fetchall()
    names, inside = [], [int(told[0][1])]
    for name, children in told[1:]:
        if len(inside) == 1:
            names.append(name)
        inside[-1] -= 1
        if children:
            inside.append(int(children))
        while inside and not inside[-1]:
            inside.pop()
    return names


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def where_of(question: Question, known: Mapping[str, tuple[str, str]]) -> tuple[str, list[Any]]:
    """It writes the question as a condition on a file's columns, with the values to bind."""
    parts = ['epoch_us(r."at") >= ?', 'epoch_us(r."at") < ?']
    values: list[Any] = [_us(question.since), _us(question.until)]
    if question.shadow != "both":
        parts.append("r.shadow" if question.shadow == "yes" else "not r.shadow")
    if question.status:
        low, high = _statuses(question.status)
        parts.append("r.status between ? and ?")
        values += [low, high]
    for text, bound, scale in (
        ("r.latency_us >= ?", question.latency_from_ms, 1000),
        ("r.latency_us <= ?", question.latency_to_ms, 1000),
        ("r.id = ?", question.request_id or None, None),
        ("r.caller = ?", question.caller or None, None),
    ):
        if bound is not None:
            parts.append(text)
            values.append(bound if scale is None else float(bound) * scale)
    for condition in question.conditions:
        text, bound_values = _compared(condition, known)
        parts.append(text)
        values += bound_values
    return " and ".join(parts), values


def _compared(condition: Condition, known: Mapping[str, tuple[str, str]]) -> tuple[str, list[Any]]:
    op, value = condition.op, condition.value
    name, kind = known.get(condition.column, ("", ""))
    if not name:  # this file's model does not have it
        return ("true" if op == "is_null" else "false"), []
    name = f"r.{name}"
    if op in ("is_null", "not_null"):
        return f"{name} is {'not ' * (op == 'not_null')}null", []
    wanted = value if isinstance(value, list) else [value]
    kinds = {_kind_of(one) for one in wanted}
    if kinds != {kind}:
        # A column without a signature is text in a file where one request held text: the numbers
        # among it are still numbers. Otherwise a name may be of two types in two versions.
        if kind != TEXT or kinds not in ({NUMBER}, {BOOL}):
            return "false", []
        name = f"try_cast({name} as {'double' if kinds == {NUMBER} else 'boolean'})"
    if kinds == {NUMBER}:
        wanted = [float(one) for one in wanted]
    if op == "between":
        return f"{name} between ? and ?", wanted
    if op == "in":
        return f"{name} in ({', '.join('?' * len(wanted))})", wanted
    return f"{name} {_COMPARED[op]} ?", wanted


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return BOOL
    return NUMBER if isinstance(value, int | float) else TEXT


def _statuses(status: str) -> tuple[int, int]:
    if status.endswith("xx"):
        return int(status[0]) * 100, int(status[0]) * 100 + 99
    return int(status), int(status)


def _us(at: datetime) -> int:
    return round(at.timestamp() * 1_000_000)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
