"""What a program in the sandbox gets, may use, and leaves behind."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps.core import sandbox
from tests.serving.cast import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
SYSTEM_PYTHON = Path("/usr/bin/python3")


def python(script: str, **options: object) -> sandbox.Finished:
    given = {"env": {}, "limits": sandbox.Limits(), "timeout_seconds": 15} | options
    return sandbox.run([sys.executable, "-I", "-c", script], **given)  # type: ignore[arg-type]


def test_the_environment_is_only_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "of the panel")
    done = python(
        "import os; print(sorted(os.environ.items()), os.umask(0))", env={"A": "1", "LC_ALL": "C"}
    )
    assert done.ok
    # Python adds LC_CTYPE by itself in the C locale.
    assert done.output_tail == "[('A', '1'), ('LC_ALL', 'C')] 63\n"


def test_awkward_characters_survive_a_supervisors_configuration(tmp_path: Path) -> None:
    value = "a ; b # c % d ' e ` f $g \\ h \" i"
    line = shlex.join(
        sandbox.command(
            [sys.executable, "-I", "-c", "import os; print(os.environ['V'])"],
            env={"V": value},
            limits=sandbox.Limits(),
        )
    )
    written = line.partition("sandbox_exec.py ")[2]
    assert not set(written.strip("'")) & set(" ;#%'`$")
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True)
    assert done.stdout == value + "\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("AS", 3 << 30), ("CPU", 7), ("NOFILE", 128), ("CORE", 0), ("FSIZE", 1 << 20)],
)
def test_limits_are_hard(name: str, value: int) -> None:
    limits = sandbox.Limits(3 << 30, 7, 128, 1 << 20)
    done = python(f"import resource as r; print(r.getrlimit(r.RLIMIT_{name}))", limits=limits)
    assert done.output_tail == f"({value}, {value})\n"


def test_too_much_memory_is_an_error_inside_the_program() -> None:
    done = python("b'x' * (1 << 30)", limits=sandbox.Limits(memory_bytes=1 << 29))
    assert done.returncode == 1
    assert done.output_tail.endswith("MemoryError\n")


def test_too_much_processor_time_ends_the_program() -> None:
    done = python("while True: pass", limits=sandbox.Limits(cpu_seconds=1))
    assert not done.ok
    assert done.killed_why in ("It used more than 1 s of processor time", "")
    assert done.returncode in (-24, -9)


def test_processors_are_shared_with_all_its_threads() -> None:
    done = python(
        "import os; print(len(os.sched_getaffinity(0)))", limits=sandbox.Limits(processors=1)
    )
    assert done.output_tail == "1\n"
    # More than there are is all of them.
    done = python(
        "import os; print(len(os.sched_getaffinity(0)))", limits=sandbox.Limits(processors=4096)
    )
    assert done.output_tail == f"{len(os.sched_getaffinity(0))}\n"


def test_no_new_rights_can_be_won() -> None:
    done = python("print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t1" in done.output_tail


def test_the_time_limit_ends_its_children_too(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = (
        "import subprocess, sys, pathlib;"
        f"child = subprocess.Popen(['/bin/sleep', '60']); pathlib.Path({str(mark)!r})"
        ".write_text(str(child.pid)); child.wait()"
    )
    done = python(script, timeout_seconds=1)
    assert done.killed_why == "It took longer than 1 s"
    until("the child had ended", lambda: _has_ended(int(mark.read_text())))


def test_what_a_tick_raises_ends_the_program(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = (
        f"import os, time, pathlib; pathlib.Path({str(mark)!r}).write_text(str(os.getpid()));"
        "time.sleep(60)"
    )

    def tick() -> None:
        if mark.exists() and mark.read_text():
            raise RuntimeError("cancelled")

    started = time.monotonic()
    with pytest.raises(RuntimeError, match="cancelled"):
        python(script, on_tick=tick)
    assert time.monotonic() - started < 10
    assert _has_ended(int(mark.read_text()))


def test_only_the_tail_of_the_output_is_kept() -> None:
    done = python("print('x' * 300_000 + 'end')")
    assert len(done.output_tail) == 64 * 1024
    assert done.output_tail.endswith("xend\n")


def test_a_program_that_does_not_exist_says_so() -> None:
    done = sandbox.run(["/no/such"], env={}, limits=sandbox.Limits(), timeout_seconds=5)
    assert done.returncode == 127
    assert "No such file or directory: '/no/such'" in done.output_tail


@as_root
@pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs a Python that everybody can run")
def test_root_becomes_the_owners_account_and_gets_its_directories(tmp_path: Path) -> None:
    account = sandbox.account_for(SYSTEM_PYTHON, owner=7)
    assert (account.name, account.uid, account.gid) == ("model-7", 2_000_000_007, 2_000_000_007)
    spool = tmp_path / "spool"
    script = "import getpass, os; print(os.getuid(), getpass.getuser())"
    done = sandbox.run(
        [str(SYSTEM_PYTHON), "-I", "-c", script],
        env={}, limits=sandbox.Limits(), timeout_seconds=5, account=account, writes=[spool],
    )  # fmt: skip
    assert (done.output_tail, done.ran_as) == ("2000000007 model-7\n", "model-7")
    assert (spool.stat().st_uid, oct(spool.stat().st_mode & 0o777)) == (2_000_000_007, "0o700")


@as_root
def test_root_stays_where_the_account_cannot_read_the_bundle(tmp_path: Path) -> None:
    secret = tmp_path / "bundle.json"
    secret.touch(mode=0o600)
    account = sandbox.account_for(SYSTEM_PYTHON, owner=7, reads=[secret])
    assert (account.name, account.uid) == ("root", None)
    assert account.why == "an account of its own cannot reach the model's files or its Python"


confined = pytest.mark.skipif(
    not sandbox.confinement(), reason="the kernel has no Landlock to confine with"
)


@confined
def test_a_confined_program_finds_only_what_it_was_given(tmp_path: Path) -> None:
    given, secret, own = (tmp_path / name for name in ("given", "secret", "own"))
    for place in (given, secret):
        place.mkdir()
        (place / "file").write_text("words")
    script = f"""
import os, pathlib
def of(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError as refused:
        return type(refused).__name__
print(of({str(given / "file")!r}), of({str(secret / "file")!r}), of("/etc/shadow"))
try:
    pathlib.Path({str(given / "more")!r}).write_text("mine")
except OSError as refused:
    print(type(refused).__name__)
pathlib.Path({str(own)!r}, "note").write_text("kept")
"""
    done = python(script, reads=[*sandbox.read_by(Path(sys.executable)), given], writes=[own])

    assert done.output_tail == "words PermissionError PermissionError\nPermissionError\n"
    assert (own / "note").read_text() == "kept"


@confined
def test_a_confined_program_signals_and_reads_no_other_process() -> None:
    script = f"""
import os, pathlib, signal
for what in (
    lambda: os.kill({os.getpid()}, 0),
    lambda: pathlib.Path("/proc/{os.getpid()}/environ").read_bytes(),
    lambda: os.listdir("/proc/{os.getpid()}/root/tmp"),
):
    try:
        print(what())
    except PermissionError:
        print("refused")
"""
    done = python(script, reads=sandbox.read_by(Path(sys.executable)))
    # Signals are kept apart from the sixth version of Landlock on.
    signals = "refused" if int(sandbox.confinement().split()[1]) >= 6 else "None"
    assert done.output_tail == f"{signals}\nrefused\nrefused\n"


def test_helpers_that_outlived_their_parent_are_ended(tmp_path: Path) -> None:
    mark, note = f"{tmp_path}/r1/0", tmp_path / "pid"
    helper = "import time; time.sleep(60)"
    leaves = f"""
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {helper!r}], start_new_session=True)
pathlib.Path({str(note)!r}).write_text(str(child.pid))
"""

    def start(script: str, mark: str) -> None:
        line = sandbox.command(
            [sys.executable, "-I", "-c", script], env={}, limits=sandbox.Limits(), mark=mark
        )
        subprocess.run(line, check=True, timeout=30)

    start(leaves, mark)
    first = int(note.read_text())
    start(leaves, f"{tmp_path}/r1/1")
    second = int(note.read_text())
    assert not _has_ended(first)

    start("pass", mark)
    until("the helper had ended", lambda: _has_ended(first))
    assert not _has_ended(second)
    sandbox.end_all(str(tmp_path))
    until("the other helper had ended", lambda: _has_ended(second))


@as_root
def test_who_stays_root_has_none_of_its_powers() -> None:
    done = python("print(open('/proc/self/status').read())")
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{kind}:\t0000000000000000" in done.output_tail


def _has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
