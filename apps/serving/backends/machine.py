"""What this machine has left, and what processes on it take. Reads /proc; asks nobody."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def free_mb(proc: Path = PROC) -> int:
    """It gives the memory that new programs can have without swapping, in MB of 2^20 bytes."""
    for line in (proc / "meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


def memory_mb(pids: Iterable[int], proc: Path = PROC) -> dict[int, int]:
    """It gives what each process and all its children take; one that has ended is left out.

    Pages that several share are counted in parts, so that the forks of one server add up right.
    """
    children = _children(proc)
    found = {}
    for pid in pids:
        sizes = [_kilobytes(one, proc) for one in _tree(pid, children)]
        if sizes and sizes[0] is not None:
            found[pid] = sum(size or 0 for size in sizes) >> 10
    return found


def _tree(pid: int, children: dict[int, list[int]]) -> list[int]:
    listed = [pid]
    for one in listed:  # grows while it is walked
        listed += [child for child in children.get(one, []) if child not in listed]
    return listed


def _children(proc: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for place in proc.iterdir():
        if not place.name.isdigit():
            continue
        try:
            # The name in brackets may hold anything, spaces and brackets too.
            rest = (place / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        found[int(rest[1])].append(int(place.name))
    return found


def _kilobytes(pid: int, proc: Path) -> int | None:
    try:
        for line in (proc / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return None
    return None
