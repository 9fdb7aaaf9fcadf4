"""Servers of the benchmark end with all that they started, and stand still when they should."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving import processes
from benchmarks.serving.processes import NotStarted, Program

# A server whose helper leaves its group and its parent, as Ray's and BentoML's do.
WITH_HELPER = """
import subprocess, sys, time
from pathlib import Path
helper = "import time; time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", helper], start_new_session=True)
Path("ready.new").write_text(str(child.pid))
Path("ready.new").rename("ready")
time.sleep(600)
"""


def started(folder: Path, code: str) -> Program:
    return processes.start(
        "server", [sys.executable, "-c", code], env={}, cwd=folder, run=folder,
        log=folder / "logs" / "server.log",
    )  # fmt: skip


def state(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def until(holds: Callable[[], bool]) -> None:
    """It looks until it holds: a signal is sent long before its process has seen it."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "waited 60 s in vain"
        time.sleep(0.01)


def test_a_server_ends_with_its_helpers(tmp_path: Path) -> None:
    program = started(tmp_path, WITH_HELPER)
    try:
        assert program.wait_ready((tmp_path / "ready").exists) > 0
        helper = int((tmp_path / "ready").read_text())
        assert helper in program.pids()[1:]
        assert program.rss_mb() > 1
    finally:
        program.stop()
    until(lambda: state(helper) in ("", "Z"))
    until(lambda: program.pids() == [])


def test_a_server_stands_still_and_goes_on(tmp_path: Path) -> None:
    program = started(tmp_path, WITH_HELPER)
    try:
        program.wait_ready((tmp_path / "ready").exists)
        pids = program.pids()
        program.freeze()
        until(lambda: {state(pid) for pid in pids} == {"T"})
        program.thaw()
        until(lambda: {state(pid) for pid in pids} == {"S"})
    finally:
        program.stop()


def test_a_server_that_ends_by_itself_leaves_its_last_words(tmp_path: Path) -> None:
    program = started(tmp_path, "import sys; sys.exit('no such model')")
    try:
        with pytest.raises(NotStarted, match="server ended by itself: no such model"):
            program.wait_ready(lambda: False)
    finally:
        program.stop()


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    program = started(tmp_path, "import time; time.sleep(600)")
    try:
        with pytest.raises(NotStarted, match="server not ready in 0 s"):
            program.wait_ready(lambda: False, seconds=0)
    finally:
        program.stop()
