"""The process that looks through files: what it can reach, and what ends it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apps.core import sandbox
from apps.explorer import runner, scan
from apps.explorer.question import Question
from apps.explorer.scan import File, Scan, Spec
from apps.monitoring import parquet, rows
from tests.serving.cast import until

START = datetime(2030, 1, 1, tzinfo=UTC)
CODE = {"PYTHONPATH": str(runner.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
confined = pytest.mark.skipif(
    not sandbox.confinement(), reason="the kernel has no Landlock to confine with"
)


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """Two requests in a file of the log and of its rows; beside each lies another's."""
    row = {
        "id": "a", "row": 0, "at": START, "revision": 1, "version": 1, "status": 200,
        "latency_us": 900, "shadow": False, "share": 1.0, "request": "{}", "response": "{}",
    }  # fmt: skip
    both = [row, row | {"id": "b"}]
    log, files = tmp_path / "log", tmp_path / "rows"
    for folder, schema in ((log, parquet.SCHEMA), (files, rows.FIXED)):
        folder.mkdir()
        for name in ("mine", "theirs"):
            pq.write_table(pa.Table.from_pylist(both, schema), folder / f"{name}.parquet")
    work = tmp_path / "work"
    work.mkdir()
    return Spec(
        question=Question(START, START + timedelta(hours=1)).as_json(),
        files=[File(str(log / "mine.parquet"), [str(files / "mine.parquet")], 0)],
        work=str(work),
        result=str(work / "result"),
        progress=str(work / "progress.json"),
        memory_mb=200,
        spill_mb=2_000,
        threads=2,
        seconds=60.0,
    )


def kept(spec: Spec) -> str:
    path = Path(spec.work) / "spec.json"
    path.write_text(json.dumps(asdict(spec)))
    return str(path)


def in_sandbox(*argv: str, file_bytes: int = 1 << 30) -> sandbox.Finished:
    return sandbox.run(
        [sys.executable, "-P", *argv],
        env=CODE,
        limits=sandbox.Limits(memory_bytes=1 << 30, file_bytes=file_bytes).of_data(),
        timeout_seconds=60,
    )


def progress(spec: Spec) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path(spec.progress).read_text())
    return told


def test_it_finds_what_it_was_asked_for(spec: Spec) -> None:
    done = in_sandbox("-m", "apps.explorer.scan", kept(spec))

    assert (done.returncode, done.output_tail) == (0, "")
    assert (progress(spec)["found"], progress(spec)["finished"]) == (2, True)
    assert pq.read_table(spec.result)["id"].to_pylist() == ["a", "b"]


@confined
def test_the_kernel_keeps_every_other_path_from_it(spec: Spec, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("words")
    script = """
import sys
from pathlib import Path
import duckdb
from apps.explorer import scan
spec = scan.read_spec(Path(sys.argv[1]))
scan.keep_to(spec)
mine, log = Path(spec.files[0].rows[0]), Path(spec.files[0].log)
def told(what):
    try:
        what()
    except (PermissionError, duckdb.IOException) as refused:
        return "refused"
    return "done"
bare = duckdb.connect(config={"threads": 4})  # with nothing that keeps it from anything
def ask(query):
    return told(lambda: bare.execute(query).fetchall())
print(told(mine.read_bytes), told(log.read_bytes))
print(told(mine.with_name("theirs.parquet").read_bytes), told(Path("/etc/shadow").read_bytes))
print(told(lambda: mine.write_text("")), told(lambda: mine.unlink()))
print(ask(f"select id from read_parquet('{mine}')"))
print(ask(f"select * from read_text('{sys.argv[2]}')"))
print(ask(f"copy (select 1) to '{sys.argv[2]}.parquet'"))
print(ask(f"copy (select 1) to '{spec.work}/more.parquet'"))
"""
    done = in_sandbox("-c", script, kept(spec), str(secret))

    assert done.output_tail.splitlines() == [
        "done done",
        "refused refused",
        "refused refused",
        "done",
        "refused",
        "refused",
        "done",
    ]
    assert secret.read_text() == "words"


def test_the_database_keeps_them_too_where_the_kernel_cannot(spec: Spec, tmp_path: Path) -> None:
    """What every program may read, as the system's list of users, is nothing for a query."""
    mine = spec.files[0].rows[0]
    db = Scan(spec).db

    def refused(query: str) -> str:
        with pytest.raises(duckdb.Error) as caught:
            db.execute(query)
        return type(caught.value).__name__

    assert db.execute(f"select count(*) from read_parquet('{mine}')").fetchone() == (2,)
    db.execute(f"copy (select 1) to '{spec.work}/more.parquet' (format parquet)")
    theirs = Path(mine).with_name("theirs.parquet")
    for query in (
        "select * from read_text('/etc/passwd')",
        f"select * from read_parquet('{theirs}')",
        f"select * from read_parquet('{spec.work}/../rows/theirs.parquet')",
        f"select * from read_parquet('{theirs.parent}/*.parquet')",
        f"copy (select 1) to '{tmp_path}/out.parquet' (format parquet)",
        f"attach '{tmp_path}/x.db' as x",
        "load httpfs",
    ):
        assert refused(query) == "PermissionException", query
    for query in (
        "set enable_external_access = true",
        "set allowed_directories = ['/']",
        "set memory_limit = '64GB'",
        "reset lock_configuration",
    ):
        assert refused(query) == "InvalidInputException", query


def test_names_of_thousands_of_files_are_not_too_many(spec: Spec) -> None:
    gone = [
        File(f"{spec.work}/{number}/l", [f"{spec.work}/{number}/r"], 0) for number in range(3000)
    ]
    many = Spec(**{**asdict(spec), "files": [*spec.files, *gone]})

    done = in_sandbox("-m", "apps.explorer.scan", kept(many))

    assert (done.returncode, done.output_tail) == (0, "")
    told = progress(spec)
    assert (told["found"], told["shown"], told["done"], told["gone"]) == (2, 2, 3001, 3000)


def test_a_file_that_goes_while_it_is_read_is_not_counted(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Scan._keep

    def late(self: Scan, path: str, log: str) -> None:
        Path(log).unlink()  # retention: the log's file and its rows go together
        Path(path).unlink()
        keep(self, path, log)

    monkeypatch.setattr(Scan, "_keep", late)
    Scan(spec).run()

    told = progress(spec)
    assert (told["found"], told["shown"], told["gone"], told["broken"]) == (0, 0, 1, [])
    assert told["finished"]


def test_a_full_disk_is_not_a_broken_file(spec: Spec) -> None:
    done = in_sandbox("-m", "apps.explorer.scan", kept(spec), file_bytes=1000)

    assert done.returncode == scan.NO_ROOM
    assert done.output_tail.startswith("IO Error: ")
    assert "Traceback" not in done.output_tail


@pytest.fixture
def larger(spec: Spec) -> Spec:
    """More hits in one file than the memory holds."""
    count = 600_000
    ids = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(count)]
    same = {
        "row": 0, "at": START, "revision": 1, "version": 1, "status": 200, "latency_us": 900,
        "shadow": False, "share": 1.0,
    }  # fmt: skip
    columns = [
        ids if field.name == "id" else [same.get(field.name)] * count for field in rows.FIXED
    ]
    pq.write_table(
        pa.Table.from_arrays(
            [
                pa.array(values, field.type)
                for values, field in zip(columns, rows.FIXED, strict=True)
            ],
            schema=rows.FIXED,
        ),
        spec.files[0].rows[0],
        row_group_size=10_000,
    )
    return replace(spec, memory_mb=64)


def test_what_does_not_fit_into_the_memory_goes_beside_it(larger: Spec) -> None:
    done = in_sandbox("-m", "apps.explorer.scan", kept(larger))

    assert (done.returncode, done.output_tail) == (0, "")
    assert progress(larger)["found"] == 600_000


def test_more_than_may_go_beside_the_memory_is_told(larger: Spec) -> None:
    done = in_sandbox("-m", "apps.explorer.scan", kept(replace(larger, spill_mb=1)))

    assert done.returncode == scan.SPILLED
    assert done.output_tail.startswith("Out of Memory Error: failed to offload data block")
    assert runner._why(done, replace(larger, spill_mb=1)) == (
        "It needed more than 64 MB of memory and 1 MB on the disk beside it. Ask for fewer rows or"
        " a shorter time"
    )


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0,
    reason="no file system of this process's own can be mounted here",
)
def test_a_disk_that_is_full_beside_the_memory_is_told_as_full(larger: Spec) -> None:
    place = kept(larger)
    told = Path(place).read_text()
    script = 'mount -t tmpfs -o size=2m tmpfs "$1" && cat > "$1/spec.json" && shift && exec "$@"'
    scans = [sys.executable, "-P", "-m", "apps.explorer.scan", place]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", larger.work, *scans],
        env={**os.environ, **CODE}, input=told, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (scan.NO_ROOM, "")
    assert done.stderr.startswith("IO Error: Could not write file")
    assert "No space left on device" in done.stderr


def test_it_ends_with_a_worker_that_was_killed(spec: Spec, tmp_path: Path) -> None:
    """A pipe that nobody writes to holds the scan in the middle of its work."""
    pipe = tmp_path / "rows" / "pipe.parquet"
    os.mkfifo(pipe)
    waits = Spec(**{**asdict(spec), "files": [File(spec.files[0].log, [str(pipe)], 0)]})
    script = f"""
import sys
from apps.core import sandbox
sandbox.run(
    [sys.executable, "-P", "-m", "apps.explorer.scan", {kept(waits)!r}], env={CODE!r},
    limits=sandbox.Limits(), timeout_seconds=600, mark="explorer-test-{os.getpid()}",
)
"""
    worker = subprocess.Popen([sys.executable, "-P", "-c", script], env=CODE)
    try:
        until("the scan had begun", lambda: Path(spec.progress).exists())
        [looks] = _running(spec)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(30)
        until("the scan had ended with it", lambda: not _running(spec))
        assert looks != worker.pid
    finally:
        worker.kill()
        worker.wait(30)


def _running(spec: Spec) -> list[int]:
    """The processes that look through this specification's files."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"apps.explorer.scan" in argv and f"{spec.work}/spec.json".encode() in argv:
                found.append(int(entry.name))
    return found
