"""What this machine has left, and what processes on it take. Reads /proc; asks nobody."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Taken:
    """What a process and all its children take."""

    memory_mb: int
    processor_seconds: float  # of those that run, and of the ended that they waited for


@dataclass(frozen=True)
class _Process:
    parent: int
    ticks: int


def free_mb(proc: Path = PROC) -> int:
    """It gives the memory that new programs can have without swapping, in MB of 2^20 bytes."""
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


def memory_mb(pids: Iterable[int], proc: Path = PROC) -> dict[int, int]:
    """It gives the memory of each process with all its children, as in `taken`."""
    return {pid: one.memory_mb for pid, one in taken(pids, proc).items()}


def taken(pids: Iterable[int], proc: Path = PROC) -> dict[int, Taken]:
    """It gives what each process and all its children take; one that has ended is left out.

    Pages that several share are counted in parts, so that the forks of one server add up right.
    """
    running = _running(proc)
    children = _children(running)
    found = {}
    for pid in pids:
        tree = _tree(pid, children)
        sizes = [_kilobytes(one, proc) for one in tree]
        if sizes[0] is not None:
            ticks = sum(running[one].ticks for one in tree if one in running)
            memory = sum(size or 0 for size in sizes) >> 10
            found[pid] = Taken(memory, ticks / TICKS_A_SECOND)
    return found


def _tree(pid: int, children: dict[int, list[int]]) -> list[int]:
    listed = [pid]
    for one in listed:  # grows while it is walked
        listed += [child for child in children.get(one, []) if child not in listed]
    return listed


def _children(running: Mapping[int, _Process]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for pid, process in running.items():
        found[process.parent].append(pid)
    return found


def _running(proc: Path) -> dict[int, _Process]:
    found: dict[int, _Process] = {}
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        try:
            # The name in brackets may hold anything, spaces and brackets too.
            rest = (place / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        # Its own time as user and in the kernel, and that of children it waited for (proc(5)).
        found[int(place.name)] = _Process(int(rest[1]), sum(map(int, rest[11:15])))
    return found


def _kilobytes(pid: int, proc: Path) -> int | None:
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return None
    return None
