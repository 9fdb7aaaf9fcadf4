"""Starts programs that run other people's code: clean environment, limits, no way to more rights.

`command` is for programs that a supervisor keeps; `run` waits for the end of one.
"""

import functools
import json
import os
import pwd
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from apps.core.sandbox_exec import end_left, landlock

LAUNCHER = Path(__file__).with_name("sandbox_exec.py")
# Accounts of models: numbers that nobody has, one for each owner, so that a model can reach neither
# another's files and processes nor those of whatever else runs as `nobody`.
FIRST_UID = 2_000_000_000
TICK_SECONDS = 0.2
TAIL_BYTES = 64 * 1024
GRACE_SECONDS = 3.0
# What the supervisor's configuration or a shell would read as its own.
SPECIAL = " ;#%'`$"


@dataclass(frozen=True)
class Limits:
    """What a program may use. None: no limit of ours."""

    memory_bytes: int | None = 4 << 30  # address space: more is a MemoryError inside the program
    cpu_seconds: int | None = None
    open_files: int = 1024
    file_bytes: int | None = 4 << 30  # of each file it writes
    data_bytes: int | None = None  # what it writes into, not what it only reserves
    processors: int | None = None  # that it may run on at once, with all its threads and children

    def of_data(self) -> "Limits":
        """The same for programs that reserve more addresses than they use, as node and java do."""
        return replace(self, memory_bytes=None, data_bytes=self.memory_bytes)

    def as_rlimits(self) -> dict[str, int]:
        wanted = {
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_DATA": self.data_bytes,
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_CORE": 0,  # a core file would hold callers' rows
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True)
class Account:
    """Who a program runs as; `why` says it when that is not the unprivileged account."""

    name: str
    uid: int | None = None  # None: stay who we are
    gid: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Finished:
    returncode: int  # negative: the signal that ended it
    output_tail: str  # the last of what it wrote, standard error included
    seconds: float
    killed_why: str  # "" when it ended by itself
    ran_as: str = ""

    @property
    def ok(self) -> bool:
        return self.returncode == 0 and not self.killed_why


def myself() -> Account:
    return Account(_name_of(os.geteuid()))


def account_for(
    interpreter: Path,
    *,
    owner: int,
    reads: Iterable[Path] = (),
    passes: Iterable[Path] = (),
) -> Account:
    """It chooses the unprivileged account of `owner` where we are root and it reaches its files.

    The account itself is asked, by really starting the interpreter as it: a path may lie in a
    private home although its own mode is open. `passes` are directories on the way to what it
    writes.
    """
    if os.geteuid() != 0:
        return Account(_name_of(os.geteuid()), why="the panel itself does not run as root")
    uid = FIRST_UID + owner
    # Letters: what os.access is asked for each path.
    script = (
        "import os, sys; "
        "sys.exit(not all(os.access(p[1:], {'r': 4, 'x': 1}[p[0]]) for p in sys.argv[1:]))"
    )
    asked_for = [*(f"r{path}" for path in reads), *(f"x{path}" for path in passes)]
    try:
        asked = subprocess.run(
            [interpreter, "-I", "-c", script, *asked_for],
            user=uid, group=uid, extra_groups=[], env={}, cwd="/",
            stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        reached = asked.returncode == 0
    except (OSError, subprocess.TimeoutExpired, subprocess.SubprocessError):
        reached = False
    if not reached:
        why = "an account of its own cannot reach the model's files or its Python"
        return Account("root", why=why)
    return Account(f"model-{owner}", uid, uid)


def confinement() -> str:
    """It says what keeps a program with `reads` from every other path; "" where nothing does."""
    version = landlock()
    return f"Landlock {version}" if version else ""


def end_all(mark: str) -> None:
    """It ends every program that was started with this mark or one below it, and its children."""
    end_left(mark)


def read_by(interpreter: Path) -> list[Path]:
    """The directories that an interpreter needs: its environment and the Python behind it."""
    return [interpreter.parent.parent, interpreter.resolve().parent.parent]


def command(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    limits: Limits,
    cwd: Path | None = None,
    account: Account | None = None,
    reads: Sequence[Path] | None = None,
    writes: Sequence[Path] = (),
    death_signal: str = "SIGTERM",
    mark: str = "",
) -> list[str]:
    """It gives the command that becomes `argv` inside the sandbox.

    `argv[0]` is an absolute path. `writes` are directories that the launcher makes and hands to
    the account. With `reads`, the program finds no other paths than these, those it writes and
    what the system gives to every program (where the kernel can: `confinement`). No part of the
    specification holds a character that a supervisor would take as its own. The program gets
    `death_signal` when whatever started it ends. What an earlier program of the same `mark`, or
    of one below it (`a` is above `a/b`), left running is ended first.
    """
    account = account or myself()
    text = json.dumps(
        {
            "argv": list(argv),
            # Without a name in the system's list, libraries that ask who runs them would break.
            "env": dict(env) | ({} if account.uid is None else {"USER": account.name}),
            "limits": limits.as_rlimits(),
            "processors": limits.processors,
            "cwd": str(cwd) if cwd else None,
            "reads": None if reads is None else [str(path) for path in reads],
            "writes": [str(path) for path in writes],
            "uid": account.uid,
            "gid": account.gid,
            "death_signal": death_signal,
            "mark": mark,
        },
        separators=(",", ":"),
    )
    for character in SPECIAL:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return [sys.executable, "-I", str(LAUNCHER), text]


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    limits: Limits,
    cwd: Path | None = None,
    timeout_seconds: float,
    on_tick: Callable[[], None] | None = None,
    account: Account | None = None,
    reads: Sequence[Path] | None = None,
    writes: Sequence[Path] = (),
    mark: str = "",
) -> Finished:
    """It runs a program to its end; nothing of its process group outlives the call.

    With a `mark` of this call's own, nothing that it started in other groups does either.
    `on_tick` is called about five times a second; what it raises is raised here, after the
    program was killed.
    """
    account = account or myself()
    started = time.monotonic()
    child = subprocess.Popen(
        command(
            argv, env=env, limits=limits, cwd=cwd, account=account, reads=reads, writes=writes,
            death_signal="SIGKILL", mark=mark,
        ),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={"LANG": "C.UTF-8"}, start_new_session=True,
    )  # fmt: skip
    tail = bytearray()
    killed_why = ""
    try:
        with selectors.DefaultSelector() as ready:
            assert child.stdout is not None
            os.set_blocking(child.stdout.fileno(), False)
            ready.register(child.stdout, selectors.EVENT_READ)
            while child.poll() is None:
                if on_tick is not None:
                    on_tick()
                if time.monotonic() - started > timeout_seconds:
                    killed_why = f"It took longer than {timeout_seconds:g} s"
                    break
                if ready.get_map():
                    if ready.select(TICK_SECONDS) and not _read(child.stdout.fileno(), tail):
                        ready.unregister(child.stdout)  # it closed its output and runs on
                else:
                    _wait(child, TICK_SECONDS)
    finally:
        _end_group(child, gently=bool(killed_why))
        if mark:
            end_left(mark)
        assert child.stdout is not None
        _read(child.stdout.fileno(), tail)
        child.stdout.close()
    if not killed_why and child.returncode == -signal.SIGXCPU:
        killed_why = f"It used more than {limits.cpu_seconds} s of processor time"
    return Finished(
        child.returncode,
        bytes(tail).decode("utf-8", "replace"),
        time.monotonic() - started,
        killed_why,
        account.name,
    )


def _read(descriptor: int, tail: bytearray) -> bool:
    """It takes what is there. False: the other side has closed."""
    while True:
        try:
            part = os.read(descriptor, TAIL_BYTES)
        except BlockingIOError:
            return True
        if not part:
            return False
        tail += part
        del tail[:-TAIL_BYTES]


def _wait(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_group(child: subprocess.Popen[bytes], *, gently: bool) -> None:
    """Its children too: a build tool's compiler must not go on after the build was cancelled."""
    if child.poll() is None and gently:
        _signal_group(child.pid, signal.SIGTERM)
        _wait(child, GRACE_SECONDS)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


@functools.cache
def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
