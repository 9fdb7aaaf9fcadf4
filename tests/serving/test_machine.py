"""What the machine has left, and what processes take with their children."""

from __future__ import annotations

import os
import time
from pathlib import Path

from apps.serving.backends import machine


def write(
    proc: Path,
    pid: int,
    parent: int,
    kilobytes: int | None,
    times: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> None:
    """`times`: ticks as user, in the kernel, and both of children that it waited for."""
    place = proc / str(pid)
    place.mkdir()
    ticks = " ".join(map(str, times))
    (place / "stat").write_text(f"{pid} (a ) (b) S {parent} 1 1 0 -1 4 9 9 9 9 {ticks} 20 0 1 0 77")
    if kilobytes is not None:
        (place / "smaps_rollup").write_text(f"Rss: 99 kB\nPss:      {kilobytes} kB\n")


def test_children_count_and_the_ended_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 10, 1, 2048)
    write(tmp_path, 11, 10, 1024)
    write(tmp_path, 12, 11, 1024)
    write(tmp_path, 13, 10, None)  # it ended while it was looked at
    write(tmp_path, 20, 1, 4096)
    (tmp_path / "self").mkdir()
    assert machine.memory_mb([10, 20, 99], tmp_path) == {10: 4, 20: 4}


def test_processor_time_is_that_of_the_whole_tree(tmp_path: Path) -> None:
    ticks = machine.TICKS_A_SECOND
    write(tmp_path, 10, 1, 2048, (3 * ticks, ticks, 5 * ticks, 2 * ticks))
    write(tmp_path, 11, 10, 1024, (ticks, 0, 0, 0))
    write(tmp_path, 12, 11, None, (0, ticks // 2, 0, 0))
    write(tmp_path, 20, 1, 1024, (7 * ticks, 0, 0, 0))
    assert machine.taken([10, 20, 99], tmp_path) == {
        10: machine.Taken(3, 12.5),
        20: machine.Taken(1, 7.0),
    }


def test_this_machine_counts_our_own_time() -> None:
    before = machine.taken([os.getpid()])[os.getpid()].processor_seconds
    deadline = time.process_time() + 0.1
    while time.process_time() < deadline:
        pass
    after = machine.taken([os.getpid()])[os.getpid()].processor_seconds
    assert 0.05 <= after - before < 5


def test_this_machine_answers() -> None:
    assert machine.free_mb() > 0
    assert machine.memory_mb([os.getpid()])[os.getpid()] > 10


def test_a_machine_that_says_nothing_has_nothing_free(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\n")
    assert machine.free_mb(tmp_path) == 0
