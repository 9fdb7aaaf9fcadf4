"""What a program in the sandbox gets, may use, and leaves behind."""

from __future__ import annotations

import os
import pwd
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
def test_root_becomes_nobody_and_gets_its_directories(tmp_path: Path) -> None:
    account = sandbox.account_for(SYSTEM_PYTHON)
    nobody = pwd.getpwnam("nobody")
    assert (account.name, account.uid, account.gid) == ("nobody", nobody.pw_uid, nobody.pw_gid)
    spool = tmp_path / "spool"
    done = sandbox.run(
        ["/usr/bin/id", "-u"],
        env={}, limits=sandbox.Limits(), timeout_seconds=5, account=account, writes=[spool],
    )  # fmt: skip
    assert (done.output_tail, done.ran_as) == (f"{nobody.pw_uid}\n", "nobody")
    assert (spool.stat().st_uid, oct(spool.stat().st_mode & 0o777)) == (nobody.pw_uid, "0o700")


@as_root
def test_root_stays_where_nobody_cannot_read_the_bundle(tmp_path: Path) -> None:
    secret = tmp_path / "bundle.json"
    secret.touch(mode=0o600)
    account = sandbox.account_for(SYSTEM_PYTHON, reads=[secret])
    assert (account.name, account.uid) == ("root", None)
    assert account.why == "nobody cannot reach the model's files or its Python"


def _has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
